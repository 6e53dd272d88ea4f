//! Passwords and keys of images, `<auth>` and `<encryption>`.

use crate::names::DomainUuid;
use crate::reader::Reader;
use crate::writer::Writer;

/// By what a secret is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretKey {
    /// Its UUID.
    Uuid(String),
    /// What it is for.
    Usage(String),
}

impl SecretKey {
    /// Reads the attributes `uuid` and `usage`, of which one must be there.
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        match (reader.value::<DomainUuid>("uuid"), reader.string("usage")) {
            (Some(uuid), None) => Some(Self::Uuid(uuid.to_string())),
            (None, Some(usage)) => Some(Self::Usage(usage)),
            (Some(_), Some(_)) => {
                reader.refuse("both 'uuid' and 'usage' are given; give only one of them");
                None
            }
            (None, None) => {
                if reader.attribute("uuid").is_none() {
                    reader.refuse("neither 'uuid' nor 'usage' is given; give one of them");
                }
                None
            }
        }
    }

    fn attribute(&self) -> (&'static str, &str) {
        match self {
            Self::Uuid(uuid) => ("uuid", uuid),
            Self::Usage(usage) => ("usage", usage),
        }
    }
}

crate::keywords! {
    /// What a password is for.
    pub enum AuthType {
        /// A Ceph cluster.
        Ceph = "ceph",
        /// iSCSI's CHAP, and servers of files.
        Iscsi = "iscsi",
        /// An encrypted volume.
        Volume = "volume",
        /// TLS.
        Tls = "tls",
    }
}

/// How the guest shows itself to a server, `<auth>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Whether it stands in the disk and not in its source.
    pub in_disk: bool,
    /// The user's name.
    pub username: String,
    /// What the password is for.
    pub kind: AuthType,
    /// Where the password is.
    pub secret: SecretKey,
}

impl Auth {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let username = reader.required("username", "me").map(str::to_owned);
        let Some(secret) = reader.child("secret") else {
            reader.refuse("<secret> is missing; add one such as <secret type='ceph' usage='...'/>");
            return None;
        };
        let _ = secret.required("type", "ceph"); // The word itself is read next.
        let (kind, key) = (secret.keyword("type"), SecretKey::parse(&secret));
        Some(Self { in_disk: false, username: username?, kind: kind?, secret: key? })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("auth").attribute("username", &self.username).children(|w| {
            let (name, value) = self.secret.attribute();
            w.element("secret").attribute("type", self.kind).attribute(name, value).empty();
        });
    }
}

crate::keywords! {
    /// Formats of encryption.
    pub enum EncryptionFormat {
        /// What suits the image.
        Default = "default",
        /// That of old qcow images.
        Qcow = "qcow",
        /// LUKS.
        Luks = "luks",
        /// LUKS 2.
        Luks2 = "luks2",
        /// LUKS of either version.
        LuksAny = "luks-any",
    }
}

crate::keywords! {
    /// Who decrypts.
    pub enum EncryptionEngine {
        /// QEMU.
        Qemu = "qemu",
        /// Ceph's library.
        Librbd = "librbd",
    }
}

/// How an image is encrypted, `<encryption>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// Whether it stands in the disk and not in its source.
    pub in_disk: bool,
    /// The format.
    pub format: EncryptionFormat,
    /// Who decrypts.
    pub engine: Option<EncryptionEngine>,
    /// Where the passphrases are; those after the first are for the images below.
    pub secrets: Vec<SecretKey>,
}

impl Encryption {
    pub(super) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("format", "luks"); // The word itself is read next.
        let (format, engine) = (reader.keyword("format"), reader.keyword("engine"));
        for name in ["cipher", "ivgen"] {
            if let Some(child) = reader.child(name) {
                let _ = child.raw(); // Refused whole.
                child.refuse(format!("<{name}> is for making volumes; remove it from the disk"));
            }
        }
        let mut secrets = Vec::new();
        for secret in reader.children("secret") {
            let kind = secret.required("type", "passphrase");
            if let Some(kind) = kind.filter(|kind| *kind != "passphrase") {
                secret.refuse_attribute("type", format!("'{kind}' is not known; use passphrase"));
            }
            secrets.extend(SecretKey::parse(&secret));
        }
        Some(Self { in_disk: false, format: format?, engine, secrets })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer
            .element("encryption")
            .attribute("format", self.format)
            .optional("engine", self.engine)
            .children(|w| {
                for secret in &self.secrets {
                    let (name, value) = secret.attribute();
                    w.element("secret")
                        .attribute("type", "passphrase")
                        .attribute(name, value)
                        .empty();
                }
            });
    }
}
