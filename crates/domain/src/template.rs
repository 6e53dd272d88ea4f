//! Templates: one document `worker@.xml` for many guests, `worker@1`, `worker@2` and so on.
//!
//! The document has placeholders where its guests differ. They are replaced in the tree, after the text was
//! taken apart and before any element is read: no name of a guest can add an element, and what comes out is
//! checked as if it had been written that way.

use std::borrow::Cow;
use std::path::Path;

use crate::fault::{Fault, Faults};
use crate::names::DomainName;
use crate::tree::{Element, Node, child_numbers};

/// A guest of a template by its name, `worker@3`: the template's prefix, `@`, the instance.
///
/// As in names of units the first `@` counts (systemd.unit(5)).
///
/// ```
/// use domain::{DomainName, TemplateInstance};
/// let name = DomainName::try_from("worker@3").unwrap();
/// let guest = TemplateInstance::of(&name).unwrap();
/// assert_eq!(guest.template().as_str(), "worker@");
/// assert!(TemplateInstance::of(&guest.template()).is_none(), "a template is no guest");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateInstance<'n> {
    name: &'n DomainName,
    prefix: &'n str,
    instance: &'n str,
}

impl DomainName {
    /// Whether the name is a template's, as in `worker@.xml`, and not a guest's.
    #[must_use]
    pub fn is_template(&self) -> bool {
        let prefix = self.as_str().strip_suffix('@');
        prefix.is_some_and(|prefix| !prefix.is_empty() && !prefix.contains('@'))
    }
}

impl<'n> TemplateInstance<'n> {
    /// The guest of this name, if it can be one of a template.
    #[must_use]
    pub fn of(name: &'n DomainName) -> Option<Self> {
        let (prefix, instance) = name.as_str().split_once('@')?;
        (!prefix.is_empty() && !instance.is_empty()).then_some(Self { name, prefix, instance })
    }

    /// The name of the template, which its file has: `worker@`.
    ///
    /// # Panics
    /// Never: it is a part of a name that is one.
    #[must_use]
    pub fn template(&self) -> DomainName {
        let name = format!("{}@", self.prefix);
        DomainName::try_from(name.as_str()).expect("what a name begins with is short and plain too")
    }

    /// Whether a link `worker@3.xml` that leads there says no more than that the guest is one of its template,
    /// as links among units do. Which file is the template's is then found by name, not by where the link leads.
    #[must_use]
    pub fn is_declared_by(&self, target: &Path) -> bool {
        let file = format!("{}.xml", self.template());
        target.file_name().is_some_and(|name| name == file.as_str())
    }

    /// Makes the guest's document of its template's: placeholders become what they stand for, and `<name>` is
    /// the guest's whether the template has it or not. What is wrong goes to `faults`.
    pub fn fill(&self, root: &mut Element<'_>, faults: &Faults) {
        let path = format!("/{}", root.qualified);
        // With a dot in front a name could be `..`, alone or behind a dot of the template's.
        if self.prefix.starts_with('.') || self.instance.starts_with('.') {
            let what = format!(
                "neither part of '{}' may begin with a dot where files are named after it; rename the guest",
                self.name
            );
            faults.push(Fault::refused(root.position, &path, what));
            return root.set_text("name", self.name.to_string());
        }
        refuse_shared_uuid(root, faults);
        self.fill_element(root, &path, faults);
        self.name_guest(root, faults);
    }

    fn fill_element(&self, element: &mut Element<'_>, path: &str, faults: &Faults) {
        for attribute in &mut element.attributes {
            // Prefixes of namespaces were resolved before.
            if attribute.name == "xmlns" || attribute.name.starts_with("xmlns:") {
                continue;
            }
            match self.filled(&attribute.value) {
                Ok(None) => {}
                Ok(Some(value)) => attribute.value = Cow::Owned(value),
                Err(what) => {
                    let what = format!("attribute '{}': {what}", attribute.name);
                    faults.push(Fault::refused(attribute.position, path, what));
                }
            }
        }
        join_texts(&mut element.children);
        let numbers = child_numbers(element);
        let mut numbers = numbers.iter();
        for node in &mut element.children {
            match node {
                Node::Element(child) => {
                    let number = numbers.next().copied().flatten();
                    let number = number.map(|number| format!("[{number}]")).unwrap_or_default();
                    self.fill_element(
                        child,
                        &format!("{path}/{}{number}", child.qualified),
                        faults,
                    );
                }
                Node::Text(text) => match self.filled(text) {
                    Ok(None) => {}
                    Ok(Some(filled)) => *text = Cow::Owned(filled),
                    Err(what) => faults.push(Fault::refused(element.position, path, what)),
                },
            }
        }
    }

    /// A text with its placeholders replaced; `None` for one that has none.
    fn filled(&self, text: &str) -> Result<Option<String>, String> {
        if !text.contains('%') {
            return Ok(None);
        }
        let mut filled = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                filled.push(character);
                continue;
            }
            match characters.next() {
                Some('i') => filled.push_str(self.instance),
                Some('p') => filled.push_str(self.prefix),
                Some('%') => filled.push('%'),
                Some(other) => return Err(unknown(&format!("'%{}'", other.escape_default()))),
                None => return Err(unknown("'%' at the end")),
            }
        }
        Ok(Some(filled))
    }

    /// Sees to it that the document's name is the guest's, by which it is claimed and found.
    fn name_guest(&self, root: &mut Element<'_>, faults: &Faults) {
        if let Some(name) = root.child_mut("name")
            && name.text() != self.name.as_str()
        {
            let what = "guests of a template are called after it; write <name>%p@%i</name> or leave it out";
            faults.push(Fault::refused(name.position, "/domain/name", what));
        }
        root.set_text("name", self.name.to_string());
    }
}

/// Makes one text of neighbours, which references and comments part: a placeholder may be written with them.
fn join_texts<'x>(children: &mut Vec<Node<'x>>) {
    let mut joined: Vec<Node<'x>> = Vec::with_capacity(children.len());
    for node in children.drain(..) {
        match (joined.last_mut(), node) {
            (Some(Node::Text(text)), Node::Text(more)) => text.to_mut().push_str(&more),
            (_, node) => joined.push(node),
        }
    }
    *children = joined;
}

fn unknown(placeholder: &str) -> String {
    format!(
        "{placeholder} is no placeholder of a template; use %i for the instance, %p for what stands before \
         the '@', or %% for a percent sign"
    )
}

/// One UUID for all guests of a template would let one of them run at a time.
fn refuse_shared_uuid(root: &mut Element<'_>, faults: &Faults) {
    if let Some(uuid) = root.child_mut("uuid")
        && !uuid.text().contains("%i")
    {
        let what = "every guest of the template would have this UUID; leave it out, and each has one of its own, \
                    or write %i into it";
        faults.push(Fault::refused(uuid.position, "/domain/uuid", what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, tree};
    use proptest::prelude::*;

    fn name(text: &str) -> DomainName {
        DomainName::try_from(text).unwrap()
    }

    /// The document of this guest with its root's children as `NAME=TEXT`, and what is wrong.
    fn fill(guest: &str, text: &str) -> (Vec<String>, Vec<String>) {
        let mut root = tree::parse(text).unwrap();
        let faults = Faults::new();
        let guest = name(guest);
        TemplateInstance::of(&guest).unwrap().fill(&mut root, &faults);
        let children = root.elements().map(|child| format!("{}={}", child.name, child.text()));
        let children = children.collect();
        (children, faults.into_sorted().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_first_at_sign_parts_template_and_instance() {
        for (guest, template) in [
            ("worker@3", Some("worker@")),
            ("a@b@c", Some("a@")),
            ("a@@", Some("a@")),
            ("a@b@", Some("a@")),
            ("worker@", None),
            ("@3", None),
            ("@", None),
            ("web", None),
        ] {
            let guest = name(guest);
            let instance = TemplateInstance::of(&guest);
            let found = instance.map(|instance| instance.template());
            assert_eq!(found.as_ref().map(DomainName::as_str), template, "{guest}");
            assert!(found.is_none_or(|template| template.is_template()));
        }
        assert!(!name("a@b@").is_template() && !name("@").is_template());
    }

    #[test]
    fn placeholders_are_replaced_everywhere() {
        let text = "<domain><name>%p@%i</name><title>&#37;i of %<!-- -->p, 100%%</title><q:x xmlns:q='urn:%q' v='%i'/></domain>";
        let mut root = tree::parse(text).unwrap();
        let (guest, faults) = (name("worker@<3>"), Faults::new());
        TemplateInstance::of(&guest).unwrap().fill(&mut root, &faults);
        assert!(faults.into_sorted().is_empty());
        let children: Vec<_> = root.elements().collect();
        assert_eq!(children[1].text(), "<3> of worker, 100%");
        assert_eq!(children[2].attributes[1].value, "<3>");
        assert_eq!(Header::read(&root, &Faults::new()).name, Some(guest));
    }

    #[test]
    fn a_template_needs_no_name() {
        assert_eq!(fill("w@1", "<domain/>"), (vec!["name=w@1".to_owned()], vec![]));
        assert_eq!(fill("w@.", "<domain/>").0, ["name=w@."], "one message is enough");
    }

    #[test]
    fn what_is_no_placeholder_has_its_place_told() {
        for (text, expected) in [
            (
                "<domain>\n <a/>\n <a b='1'\n  c='%q'/></domain>",
                "4:3: /domain/a[2]: attribute 'c': '%q' is no placeholder of a template; use %i for the instance, %p for what stands before the '@', or %% for a percent sign",
            ),
            (
                "<domain>\n <a>%n</a></domain>",
                "2:2: /domain/a: '%n' is no placeholder of a template; use %i for the instance, %p for what stands before the '@', or %% for a percent sign",
            ),
            (
                "<domain b='5%'/>",
                "1:9: /domain: attribute 'b': '%' at the end is no placeholder of a template; use %i for the instance, %p for what stands before the '@', or %% for a percent sign",
            ),
            (
                "<domain><name>w-%i</name></domain>",
                "1:9: /domain/name: guests of a template are called after it; write <name>%p@%i</name> or leave it out",
            ),
            (
                "<domain><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid></domain>",
                "1:9: /domain/uuid: every guest of the template would have this UUID; leave it out, and each has one of its own, or write %i into it",
            ),
        ] {
            assert_eq!(fill("w@1", text).1, [expected], "{text}");
        }
    }

    #[test]
    fn no_name_is_a_way_up() {
        for guest in ["w@..", "w@.", "w@.x", "..@1", ".@1"] {
            let told = fill(guest, "<domain><a b='/images/%p/%i'/></domain>").1;
            assert_eq!(
                told,
                [format!(
                    "1:1: /domain: neither part of '{guest}' may begin with a dot where files are named after it; rename the guest"
                )]
            );
        }
    }

    proptest! {
        #[test]
        fn an_instance_adds_neither_element_nor_directory(
            guest in prop_oneof!["[^/\\p{Cc}]{1,12}@[^/\\p{Cc}]{1,12}", "[.@a]{1,4}@[.@a]{1,4}"],
            path in "(/|\\.|a|%i|%p|%%){1,8}",
        ) {
            let Ok(guest) = DomainName::try_from(guest.as_str()) else { return Ok(()) };
            let Some(instance) = TemplateInstance::of(&guest) else { return Ok(()) };
            let text = format!("<domain><a b='/{path}'>{path}</a></domain>");
            let mut root = tree::parse(&text).unwrap();
            let faults = Faults::new();
            instance.fill(&mut root, &faults);
            if faults.any_refused() {
                return Ok(());
            }
            let names: Vec<&str> = root.elements().map(|child| child.name).collect();
            prop_assert_eq!(names, ["a", "name"]);
            let filled = root.elements().next().unwrap().attributes[0].value.clone();
            let depth = |path: &str| path.matches('/').count();
            let up = |path: &str| path.split('/').filter(|part| *part == "..").count();
            prop_assert_eq!(depth(&filled), depth(&path) + 1);
            prop_assert_eq!(up(&filled), up(&path));
            prop_assert!(!filled.contains(char::is_control));
        }
    }
}
