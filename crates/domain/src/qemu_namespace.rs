//! Words for QEMU that libvirt has no element for, `<qemu:commandline>` and its siblings.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

/// The namespace of QEMU's own elements.
pub const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

crate::keywords! {
    /// What QEMU does about commands and options that it is going to lose.
    pub enum DeprecationBehavior {
        /// It works with them.
        None = "none",
        /// It does not show deprecated output.
        Omit = "omit",
        /// It refuses them as well.
        Reject = "reject",
        /// It ends when it gets one.
        Crash = "crash",
    }
}

crate::keywords! {
    /// What a property's value is.
    pub enum PropertyType {
        /// A text.
        String = "string",
        /// A number.
        Unsigned = "unsigned",
        /// A number with a sign.
        Signed = "signed",
        /// `true` or `false`.
        Bool = "bool",
        /// Nothing: the property is taken away.
        Remove = "remove",
    }
}

/// A property to set or to take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyOverride {
    /// The property's name.
    pub name: String,
    /// What its value is.
    pub kind: PropertyType,
    /// The value; none of a property that is taken away.
    pub value: Option<String>,
}

/// Changes to one device's properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOverride {
    /// Where the element stands.
    pub place: Place,
    /// The device's alias.
    pub alias: String,
    /// The changes in their order.
    pub properties: Vec<PropertyOverride>,
}

/// Words for QEMU that are passed on as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QemuNamespace {
    /// Arguments to add.
    pub arguments: Vec<String>,
    /// Variables of the environment to set, with their values.
    pub environment: Vec<(String, Option<String>)>,
    /// Abilities of QEMU that libvirt is to believe in.
    pub capabilities_added: Vec<String>,
    /// Abilities of QEMU that libvirt is not to believe in.
    pub capabilities_removed: Vec<String>,
    /// Changes to devices' properties.
    pub overrides: Vec<DeviceOverride>,
    /// What QEMU does about what it is going to lose.
    pub deprecation: Option<DeprecationBehavior>,
}

impl QemuNamespace {
    pub(crate) fn parse(root: &Reader<'_>) -> Self {
        let mut namespace = Self::default();
        for commandline in root.children_in(QEMU_NAMESPACE, "commandline") {
            for argument in commandline.children_in(QEMU_NAMESPACE, "arg") {
                namespace.arguments.extend(argument.required("value", "-foo").map(str::to_owned));
            }
            for variable in commandline.children_in(QEMU_NAMESPACE, "env") {
                let Some(name) = variable.required("name", "VARIABLE") else { continue };
                if !is_variable(name) {
                    let what = "no name of a variable; use letters, digits and '_'";
                    variable.refuse_attribute("name", format!("'{name}' is {what}"));
                }
                namespace.environment.push((name.to_owned(), variable.string("value")));
            }
        }
        namespace.parse_capabilities(root);
        for device in root.children_in(QEMU_NAMESPACE, "override") {
            for device in device.children_in(QEMU_NAMESPACE, "device") {
                namespace.overrides.extend(DeviceOverride::parse(&device));
            }
        }
        for deprecation in root.children_in(QEMU_NAMESPACE, "deprecation") {
            let _ = deprecation.required("behavior", "reject"); // The keyword itself is read next.
            namespace.deprecation = deprecation.keyword("behavior");
        }
        namespace
    }

    fn parse_capabilities(&mut self, root: &Reader<'_>) {
        for capabilities in root.children_in(QEMU_NAMESPACE, "capabilities") {
            let names = |name: &str| -> Vec<String> {
                let children = capabilities.children_in(QEMU_NAMESPACE, name);
                let words =
                    children.iter().filter_map(|child| child.required("capability", "name"));
                words.map(str::to_owned).collect()
            };
            self.capabilities_added.extend(names("add"));
            self.capabilities_removed.extend(names("del"));
            capabilities.ignore("glassbox keeps no list of QEMU's abilities; remove this");
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.write_command_line(writer);
        writer.element("qemu:capabilities").children_if_any(|w| {
            for name in &self.capabilities_added {
                w.element("qemu:add").attribute("capability", name).empty();
            }
            for name in &self.capabilities_removed {
                w.element("qemu:del").attribute("capability", name).empty();
            }
        });
        writer
            .element("qemu:override")
            .children_if_any(|w| self.overrides.iter().for_each(|device| device.write(w)));
        writer.element("qemu:deprecation").optional("behavior", self.deprecation).empty_if_any();
    }

    fn write_command_line(&self, writer: &mut Writer) {
        writer.element("qemu:commandline").children_if_any(|w| {
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

impl DeviceOverride {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let alias = reader.required("alias", "ua-disk")?.to_owned();
        let mut properties = Vec::new();
        for frontend in reader.children_in(QEMU_NAMESPACE, "frontend") {
            let children = frontend.children_in(QEMU_NAMESPACE, "property");
            properties.extend(children.iter().filter_map(PropertyOverride::parse));
        }
        if properties.is_empty() {
            reader.refuse("nothing is changed here; add <qemu:frontend> with <qemu:property>");
        }
        Some(Self { place: reader.place(), alias, properties })
    }

    fn write(&self, writer: &mut Writer) {
        writer.element("qemu:device").attribute("alias", &self.alias).children(|w| {
            w.element("qemu:frontend").children(|w| {
                for property in &self.properties {
                    w.element("qemu:property")
                        .attribute("name", &property.name)
                        .attribute("type", property.kind)
                        .optional("value", property.value.as_ref())
                        .empty();
                }
            });
        });
    }
}

impl PropertyOverride {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let name = reader.required("name", "x-property").map(str::to_owned);
        let _ = reader.required("type", "string"); // The keyword itself is read next.
        let kind: Option<PropertyType> = reader.keyword("type");
        let value = match kind? {
            PropertyType::Remove => {
                if reader.attribute("value").is_some() {
                    reader.refuse_attribute("value", "a property that goes has none; remove it");
                }
                None
            }
            PropertyType::String
            | PropertyType::Unsigned
            | PropertyType::Signed
            | PropertyType::Bool => Some(reader.required("value", "1")?.to_owned()),
        };
        let property = Self { name: name?, kind: kind?, value };
        if !property.is_sound() {
            reader.refuse_attribute("value", format!("it is not of type '{}'", property.kind));
        }
        Some(property)
    }

    fn is_sound(&self) -> bool {
        let value = self.value.as_deref().unwrap_or_default();
        match self.kind {
            PropertyType::String | PropertyType::Remove => true,
            PropertyType::Unsigned => value.parse::<u64>().is_ok(),
            PropertyType::Signed => value.parse::<i64>().is_ok(),
            PropertyType::Bool => value == "true" || value == "false",
        }
    }
}

/// Whether a name can be a variable's: letters, digits and `_`, no digit first.
fn is_variable(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
}
