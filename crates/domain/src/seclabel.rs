//! Labels of mandatory access control, `<seclabel>`.
//!
//! They are facts of the definition: glassbox confines a guest by its unit, so no argument comes of them.

use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// Who chooses a guest's label.
    pub enum LabelType {
        /// Nobody: the guest has none.
        None = "none",
        /// The host, at each start.
        Dynamic = "dynamic",
        /// The definition.
        Static = "static",
    }
}

/// A guest's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityLabel {
    /// Who chooses it.
    pub kind: Option<LabelType>,
    /// What labels, such as `selinux` or `dac`.
    pub model: Option<String>,
    /// Whether the guest's files are labelled.
    pub relabel: Option<bool>,
    /// The label.
    pub label: Option<String>,
    /// What a label that the host chooses begins with.
    pub base_label: Option<String>,
}

/// The label of one file of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLabel {
    /// What labels.
    pub model: Option<String>,
    /// Whether the file is labelled.
    pub relabel: Option<bool>,
    /// The label.
    pub label: Option<String>,
}

impl SecurityLabel {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let text = |name: &str| reader.child(name).map(|child| child.text().into_owned());
        let kind: LabelType = if reader.attribute("type").is_some() {
            reader.keyword("type")?
        } else {
            LabelType::Dynamic
        };
        let _ = text("imagelabel"); // What the last run made of it.
        let (label, base_label) = (text("label"), text("baselabel"));
        if kind == LabelType::Static && label.is_none() {
            reader.refuse("a label of type='static' is missing; add <label>");
        }
        let relabel = reader.yes_no("relabel");
        if kind == LabelType::None && relabel == Some(true) {
            reader.refuse_attribute("relabel", "a guest without a label relabels nothing; use no");
        }
        let model = reader.string("model");
        if kind == LabelType::None && model.is_none() {
            return None;
        }
        // Libvirt's own defaults: files get the label unless the guest has none.
        let relabel = match kind {
            LabelType::None => None,
            LabelType::Dynamic => Some(true),
            LabelType::Static => Some(relabel.unwrap_or(true)),
        };
        let label = label.filter(|_| kind == LabelType::Static);
        Some(Self { kind: Some(kind), model, relabel, label, base_label })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("seclabel")
            .optional("type", self.kind)
            .optional("model", self.model.as_ref())
            .yes_no("relabel", self.relabel)
            .children(|w| {
                for (name, text) in [("label", &self.label), ("baselabel", &self.base_label)] {
                    if let Some(text) = text {
                        w.element(name).text(text);
                    }
                }
            });
    }
}

impl DeviceLabel {
    /// The labels that stand in a `<source>`.
    pub(crate) fn all(source: &Reader<'_>) -> Vec<Self> {
        let labels = source.children("seclabel");
        let mut read: Vec<Self> = Vec::new();
        for label in &labels {
            let (model, relabel) = (label.string("model"), label.yes_no("relabel"));
            let _ = label.attribute("labelskip"); // The last run could not label the file.
            let text = label.child("label").map(|child| child.text().into_owned());
            if text.is_some() && relabel == Some(false) {
                label.refuse("a label counts only with relabel='yes'; remove one of them");
            }
            if model.is_some() && read.iter().any(|other| other.model == model) {
                label.refuse("another <seclabel> here has this model; remove one of them");
            }
            // One without anything to say is what a run left behind.
            if relabel.is_some() || text.is_some() {
                let relabel = relabel.or(text.is_some().then_some(true));
                read.push(Self { model, relabel, label: text });
            }
        }
        read
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("seclabel")
            .optional("model", self.model.as_ref())
            .yes_no("relabel", self.relabel)
            .children(|w| {
                if let Some(label) = &self.label {
                    w.element("label").text(label);
                }
            });
    }
}
