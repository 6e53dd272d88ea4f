//! Words for QEMU that libvirt has no element for, `<qemu:commandline>` and its siblings.

use crate::reader::Reader;
use crate::writer::Writer;

/// The namespace of QEMU's own elements.
pub const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// Words for QEMU that are passed on as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QemuNamespace {
    /// Arguments to add.
    pub arguments: Vec<String>,
    /// Variables of the environment to set, with their values.
    pub environment: Vec<(String, Option<String>)>,
}

impl QemuNamespace {
    pub(crate) fn parse(root: &Reader<'_>) -> Self {
        for name in ["capabilities", "override", "deprecation"] {
            root.children_in(QEMU_NAMESPACE, name).iter().for_each(Reader::refuse_unsupported);
        }
        let mut namespace = Self::default();
        for commandline in root.children_in(QEMU_NAMESPACE, "commandline") {
            for argument in commandline.children_in(QEMU_NAMESPACE, "arg") {
                namespace.arguments.extend(argument.required("value", "-foo").map(str::to_owned));
            }
            for variable in commandline.children_in(QEMU_NAMESPACE, "env") {
                let Some(name) = variable.required("name", "VARIABLE") else { continue };
                namespace.environment.push((name.to_owned(), variable.string("value")));
            }
        }
        namespace
    }

    /// Whether there is nothing to pass on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arguments.is_empty() && self.environment.is_empty()
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        if self.is_empty() {
            return;
        }
        writer.element("qemu:commandline").children(|w| {
            for argument in &self.arguments {
                w.element("qemu:arg").attribute("value", argument).empty();
            }
            for (name, value) in &self.environment {
                w.element("qemu:env")
                    .attribute("name", name)
                    .optional("value", value.as_ref())
                    .empty();
            }
        });
    }
}
