//! The credentials of the guest's unit (systemd.exec(5)) that are for the guest.
//!
//! All are, but for those whose names say that they are for this program or QEMU. Of a program that started this
//! one for itself none is: they are that program's.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};
use qemu::{Credential, CredentialForm};

/// What the names of credentials begin with that no guest gets.
const OURS: &str = "glassbox.";

/// The directory that systemd made for the credentials of this process's unit. It is one, whose name has the unit's and
/// may have colons.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The guest's credentials, ordered by their names; none when the unit has none.
///
/// # Errors
/// Those of reading the directory that systemd made for them.
pub(crate) fn of_unit() -> io::Result<Vec<Credential>> {
    let Some(directory) = directory() else { return Ok(Vec::new()) };
    let mut credentials = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let entry = entry?;
        // A name that systemd takes is ASCII.
        let name = entry.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
        if !name.starts_with(OURS) {
            let file = entry.path().display().to_string();
            credentials.push(Credential { name, file, size: entry.metadata()?.len() });
        }
    }
    credentials.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(credentials)
}

/// The credential in a file in memory, for QEMU to read. It is on no disk and has no name there.
///
/// # Errors
/// Those of reading it and of making the file.
pub(crate) fn open(path: &str, form: &CredentialForm) -> io::Result<OwnedFd> {
    let mut content = Vec::new();
    File::open(path)?.read_to_end(&mut content)?;
    let mut file = File::from(memfd_create("credential", MFdFlags::MFD_CLOEXEC)?);
    match form {
        CredentialForm::Plain => file.write_all(&content)?,
        CredentialForm::OemString { prefix } => {
            file.write_all(prefix.as_bytes())?;
            file.write_all(base64(&content).as_bytes())?;
        }
    }
    Ok(file.into())
}

/// Base64 with padding, RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits: usize, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let padding = place > chunk.len();
            text.push(if padding { '=' } else { char::from(ALPHABET[bits >> shift & 63]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), text, "{plain}");
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe, 0]), "/+++AA==");
    }

    #[test]
    fn qemu_reads_what_is_there_and_what_it_is_called() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key").display().to_string();
        fs::write(&path, b"a\0\xff").unwrap();
        let prefix = "io.systemd.credential.binary:key=".to_owned();
        for (form, expected) in [
            (CredentialForm::Plain, b"a\0\xff".to_vec()),
            (
                CredentialForm::OemString { prefix },
                b"io.systemd.credential.binary:key=YQD/".to_vec(),
            ),
        ] {
            let fd = open(&path, &form).unwrap();
            let read = fs::read(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
            assert_eq!(read, expected, "from its beginning");
        }
    }
}
