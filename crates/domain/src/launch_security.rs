//! Protection of the guest from its host, `<launchSecurity>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// A way of protection.
    pub enum LaunchSecurityType {
        /// AMD SEV and SEV-ES.
        Sev = "sev",
        /// AMD SEV-SNP.
        SevSnp = "sev-snp",
    }
}

/// Protection of the guest from its host. Texts are base64, as the owner of the guest got them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSecurity {
    /// Where the element stands.
    pub place: Place,
    /// The way.
    pub kind: LaunchSecurityType,
    /// Whether hashes of kernel, RAM disk and command line are measured.
    pub kernel_hashes: Option<bool>,
    /// Whether `idAuth` has the author's key.
    pub author_key: Option<bool>,
    /// Whether the guest may use the chip's own key.
    pub vcek: Option<bool>,
    /// The bit of an address that says that a page is encrypted.
    pub cbitpos: Option<u32>,
    /// How many bits physical addresses lose.
    pub reduced_phys_bits: Option<u32>,
    /// What the host may do.
    pub policy: u64,
    /// Texts by the name of their element.
    pub texts: Vec<(&'static str, String)>,
}

/// Elements with texts of SEV, in the order in which they are written.
const SEV_TEXTS: [&str; 2] = ["dhCert", "session"];

/// The same of SEV-SNP.
const SNP_TEXTS: [&str; 4] = ["guestVisibleWorkarounds", "idBlock", "idAuth", "hostData"];

impl LaunchSecurity {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let kind = match reader.required("type", "sev")? {
            "sev" => LaunchSecurityType::Sev,
            "sev-snp" => LaunchSecurityType::SevSnp,
            other => {
                let _ = reader.raw(); // The element is refused whole.
                let what = format!("'{other}' is not supported by glassbox; use sev or sev-snp");
                reader.refuse_attribute("type", what);
                return None;
            }
        };
        let is_snp = kind == LaunchSecurityType::SevSnp;
        let names: &[&'static str] = if is_snp { &SNP_TEXTS } else { &SEV_TEXTS };
        let text = |name: &'static str| Some((name, reader.child(name)?.text().into_owned()));
        let texts = names.iter().copied().filter_map(text).collect();
        let Some(policy) = reader.child("policy") else {
            reader.refuse("<policy> is missing; add one such as <policy>0x0001</policy>");
            return None;
        };
        Some(Self {
            place: reader.place(),
            kind,
            kernel_hashes: reader.yes_no("kernelHashes"),
            author_key: if is_snp { reader.yes_no("authorKey") } else { None },
            vcek: if is_snp { reader.yes_no("vcek") } else { None },
            cbitpos: reader.child("cbitpos").and_then(|r| r.text_number()),
            reduced_phys_bits: reader.child("reducedPhysBits").and_then(|r| r.text_number()),
            texts,
            policy: policy.text_number()?,
        })
    }

    /// The text of this element.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_str())
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let policy = match self.kind {
            LaunchSecurityType::Sev => format!("0x{:04x}", self.policy),
            LaunchSecurityType::SevSnp => format!("0x{:08x}", self.policy),
        };
        writer
            .element("launchSecurity")
            .attribute("type", self.kind)
            .yes_no("kernelHashes", self.kernel_hashes)
            .yes_no("authorKey", self.author_key)
            .yes_no("vcek", self.vcek)
            .children(|w| {
                if let Some(bit) = self.cbitpos {
                    w.element("cbitpos").text(bit);
                }
                if let Some(bits) = self.reduced_phys_bits {
                    w.element("reducedPhysBits").text(bits);
                }
                w.element("policy").text(policy);
                for (name, text) in &self.texts {
                    w.element(name).text(text);
                }
            });
    }
}
