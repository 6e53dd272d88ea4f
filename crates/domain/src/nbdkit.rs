//! Which images on servers nbdkit(1) serves where it is installed, and how that is seen.
//!
//! The unit of a guest has no network when nbdkit has it in QEMU's place, so who writes the unit and who plans the guest
//! must come to the same.

use crate::devices::{NetworkProtocol, SecretKey};

/// Where distributions have nbdkit's plugins and filters, by their architecture or not.
const FOLDERS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/nbdkit",
    "/usr/lib/aarch64-linux-gnu/nbdkit",
    "/usr/lib64/nbdkit",
    "/usr/lib/nbdkit",
];

/// What of nbdkit is installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NbdkitParts {
    /// The plugin for HTTP and FTP.
    pub curl: bool,
    /// The plugin for SSH.
    pub ssh: bool,
    /// The filter that reads ahead.
    pub readahead: bool,
}

impl NbdkitParts {
    /// What there is by whether each of these paths exists.
    #[must_use]
    pub fn found(exists: impl Fn(&str) -> bool) -> Self {
        if !exists("/usr/bin/nbdkit") && !exists("/usr/sbin/nbdkit") {
            return Self::default();
        }
        let has = |part: &str| FOLDERS.iter().any(|it| exists(&format!("{it}/{part}.so")));
        Self {
            curl: has("plugins/nbdkit-curl-plugin"),
            ssh: has("plugins/nbdkit-ssh-plugin"),
            readahead: has("filters/nbdkit-readahead-filter"),
        }
    }

    /// Whether an image that is reached so is served by nbdkit, and by QEMU otherwise.
    #[must_use]
    pub fn serves(self, protocol: NetworkProtocol) -> bool {
        match protocol {
            NetworkProtocol::Http
            | NetworkProtocol::Https
            | NetworkProtocol::Ftp
            | NetworkProtocol::Ftps => self.curl,
            NetworkProtocol::Ssh => self.ssh,
            NetworkProtocol::Nbd
            | NetworkProtocol::Rbd
            | NetworkProtocol::Sheepdog
            | NetworkProtocol::Gluster
            | NetworkProtocol::Iscsi
            | NetworkProtocol::Tftp
            | NetworkProtocol::Vxhs
            | NetworkProtocol::Nfs => false,
        }
    }
}

/// The credential (systemd.exec(5)) that holds the secret of a server: `secret.` and its UUID or what it is for; none
/// where that makes no name of a credential.
#[must_use]
pub fn secret_credential(key: &SecretKey) -> Option<String> {
    let (SecretKey::Uuid(text) | SecretKey::Usage(text)) = key;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = !text.is_empty() && text.len() <= LONGEST_KEY && text.bytes().all(plain);
    fits.then(|| format!("secret.{text}"))
}

/// With `secret.` a name of 255 bytes, `NAME_MAX` of Linux.
const LONGEST_KEY: usize = 248;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_seen_where_distributions_have_them() {
        let fedora = ["/usr/sbin/nbdkit", "/usr/lib64/nbdkit/plugins/nbdkit-curl-plugin.so"];
        let found = NbdkitParts::found(|path| fedora.contains(&path));
        assert_eq!(found, NbdkitParts { curl: true, ..NbdkitParts::default() });
        assert!(found.serves(NetworkProtocol::Ftps) && !found.serves(NetworkProtocol::Ssh));
        // Plugins without the program are of no use.
        assert_eq!(NbdkitParts::found(|path| path == fedora[1]), NbdkitParts::default());
    }

    #[test]
    fn a_secret_has_a_credential_where_it_makes_a_name() {
        let usage = |text: &str| secret_credential(&SecretKey::Usage(text.to_owned()));
        assert_eq!(usage("store_1"), Some("secret.store_1".to_owned()));
        for odd in ["", "a/b", "a:b", "a b", "ü", &"a".repeat(249)] {
            assert_eq!(usage(odd), None, "{odd}");
        }
    }
}
