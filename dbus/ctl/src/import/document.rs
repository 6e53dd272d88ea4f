//! libvirt's text of a definition to ours: text in, text and faults out.

use std::path::{Path, PathBuf};

use domain::tree::{self, Element};
use domain::{DomainName, DomainUuid, Fault, Faults, Header, edit};

/// What the comment says that libvirt puts before each definition. It is true of no other file.
const WARNING: &str = "THIS IS AN AUTO-GENERATED FILE";

/// A definition that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    /// The text.
    pub(crate) text: String,
    /// The guest's UUID.
    pub(crate) uuid: Option<DomainUuid>,
    /// The file that has the guest's firmware variables now, if the definition names one.
    pub(crate) variables: Option<PathBuf>,
}

impl Document {
    /// The text without libvirt's warning, for a guest whose variables are in another file from now on, which
    /// `place` says for the present one.
    ///
    /// # Errors
    /// What is wrong with the document, by the lines of libvirt's file.
    pub(crate) fn take(
        text: &str,
        name: &DomainName,
        place: impl Fn(&Path) -> PathBuf,
    ) -> Result<Self, Vec<Fault>> {
        let root = tree::parse(text).map_err(|fault| vec![fault])?;
        let faults = Faults::new();
        let header = Header::read(&root, &faults);
        header.misfiled(&root, name).into_iter().for_each(|fault| faults.push(fault));
        if faults.any_refused() {
            return Err(faults.into_sorted());
        }
        let Some(nvram) = variables(&root) else {
            let text = without_warning(text).to_owned();
            return Ok(Self { text, uuid: header.uuid, variables: None });
        };
        let present = PathBuf::from(nvram.path());
        let edited = nvram.moved(text, &place(&present)).ok_or_else(|| {
            let what =
                "the path of the firmware's variables cannot be changed; write it as plain text";
            vec![Fault::refused(nvram.element().position, "/domain/os/nvram", what)]
        })?;
        let text = without_warning(&edited).to_owned();
        Ok(Self { text, uuid: header.uuid, variables: Some(present) })
    }
}

/// How a definition names the file of the firmware's variables.
enum Variables<'d, 'x> {
    /// `<nvram>/path</nvram>`.
    Text(&'d Element<'x>),
    /// `<nvram type='file'><source file='/path'/></nvram>`.
    Source(&'d Element<'x>, &'d tree::Attribute<'x>),
}

impl<'d, 'x> Variables<'d, 'x> {
    fn element(&self) -> &'d Element<'x> {
        match self {
            Self::Text(element) | Self::Source(element, _) => element,
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Text(element) => element.text().into_owned(),
            Self::Source(_, attribute) => attribute.value.clone().into_owned(),
        }
    }

    /// The document with another path, read again to be sure of it.
    fn moved(&self, document: &str, path: &Path) -> Option<String> {
        let path = path.to_str()?;
        let edited = match self {
            Self::Text(element) => edit::with_text(document, element, path),
            Self::Source(_, attribute) => edit::with_value(document, attribute, path),
        }?;
        let is_moved =
            variables(&tree::parse(&edited).ok()?).is_some_and(|found| found.path() == path);
        is_moved.then_some(edited)
    }
}

/// The variables in a file, if the definition has them in one. Those on a block device or server stay there, like disks.
fn variables<'d, 'x>(root: &'d Element<'x>) -> Option<Variables<'d, 'x>> {
    let nvram = child(child(root, "os")?, "nvram")?;
    let attribute = |element: &'d Element<'x>, name: &str| {
        element.attributes.iter().find(|attribute| attribute.name == name)
    };
    let found = match attribute(nvram, "type").map(|attribute| attribute.value.as_ref()) {
        None => Variables::Text(nvram),
        Some("file") => Variables::Source(nvram, attribute(child(nvram, "source")?, "file")?),
        Some(_) => return None,
    };
    Some(found).filter(|found| !found.path().is_empty())
}

fn child<'d, 'x>(element: &'d Element<'x>, name: &str) -> Option<&'d Element<'x>> {
    element.elements().find(|child| child.name == name && child.namespace.is_none())
}

/// The text without the comment with which libvirt's file begins.
fn without_warning(text: &str) -> &str {
    let comment = text.trim_start().strip_prefix("<!--").and_then(|rest| rest.split_once("-->"));
    match comment {
        Some((comment, rest)) if comment.contains(WARNING) => rest.trim_start(),
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Document, Vec<Fault>> {
        let name = DomainName::try_from("a&b").unwrap();
        Document::take(text, &name, |path| {
            let extension = path.extension().unwrap().to_str().unwrap();
            PathBuf::from(format!("/new/a&b_VARS.{extension}"))
        })
    }

    /// A definition as libvirt 11.3 writes it to its files, with this in `<os>`.
    fn of_libvirt(os: &str) -> String {
        format!(
            "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\n\
             OVERWRITTEN AND LOST. Changes to this xml configuration should be made using:\n  \
             virsh edit a&b\nor other application using the libvirt API.\n-->\n\n{}",
            plain(os)
        )
    }

    fn plain(os: &str) -> String {
        format!(
            "<domain type='kvm'>\n  <name>a&amp;b</name>\n  \
             <uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\n  <os>\n    {os}\n  </os>\n</domain>\n"
        )
    }

    #[test]
    fn only_the_warning_and_the_path_of_the_variables_change() {
        for (os, moved, path) in [
            ("<type arch='x86_64'>hvm</type>", None, None),
            (
                "<nvram template='/t' format='raw'>/old/a&amp;b_VARS.fd</nvram>",
                Some("<nvram template='/t' format='raw'>/new/a&amp;b_VARS.fd</nvram>"),
                Some("/old/a&b_VARS.fd"),
            ),
            (
                "<nvram type='file' format='qcow2'><source file='/old/v.qcow2'/></nvram>",
                Some(
                    "<nvram type='file' format='qcow2'><source file='/new/a&amp;b_VARS.qcow2'/></nvram>",
                ),
                Some("/old/v.qcow2"),
            ),
            ("<nvram type='block'><source dev='/dev/v'/></nvram>", None, None),
            ("<nvram template='/t'/>", None, None),
        ] {
            let taken = take(&of_libvirt(os)).unwrap();
            assert_eq!(taken.text, plain(moved.unwrap_or(os)));
            assert_eq!(taken.variables.as_deref(), path.map(Path::new));
            assert_eq!(taken.uuid.unwrap().to_string(), "c7a5fdbd-edaf-9455-926a-d65c16db1809");
        }
    }

    #[test]
    fn a_comment_of_somebody_else_stays() {
        let text = format!("<!-- mine -->\n{}", plain("<bios/>"));
        assert_eq!(take(&text).unwrap().text, text);
    }

    #[test]
    fn what_is_no_definition_of_the_guest_is_refused_by_its_lines() {
        let told = |text: &str| {
            let faults = take(text).unwrap_err();
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(told(""), "1:1: no element; give a libvirt domain XML");
        let misfiled = told("<domain type='kvm'>\n<name>c</name></domain>");
        assert!(misfiled.starts_with("2:1: /domain/name: the name is 'c' but"), "{misfiled}");
        let xen = told("<domain type='xen'><name>a&amp;b</name></domain>");
        assert!(xen.starts_with("1:9: /domain: attribute 'type': "), "{xen}");
    }
}
