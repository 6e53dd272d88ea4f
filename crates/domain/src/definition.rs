//! Where definitions of guests and networks are kept, and what a file must be to hold one.
//!
//! `NAME.xml` in the first directory that has it defines the guest NAME, as units are found in systemd's
//! directories. The generator lists these directories and the shim opens one file in them; both take the
//! list and the limits from here.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::fault::{Fault, Position};
use crate::names::NameError;

/// Largest definition that is read, in bytes: the longest string of libvirt's RPC protocol
/// (`REMOTE_STRING_MAX`), hence the longest document that any libvirt client can hand over.
pub const LARGEST_DEFINITION: usize = 4 << 20;

/// What the directories of guests are called, below the directories that systemd's are in.
const GUESTS: &str = "glassbox/qemu";

/// What those of networks are called there.
const NETWORKS: &str = "glassbox/networks";

/// The text of a definition's file.
///
/// # Errors
/// A [`Fault`] when there are more than [`LARGEST_DEFINITION`] bytes (read one more to find out) or when they
/// are not UTF-8. XML may declare other encodings; libvirt writes UTF-8 only.
pub fn definition_text(bytes: &[u8]) -> Result<&str, Fault> {
    if bytes.len() > LARGEST_DEFINITION {
        let what = format!("the file has more than {LARGEST_DEFINITION} bytes; shorten it");
        return Err(Fault::refused(Position { line: 1, column: 1 }, "", what));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let last_line = valid.rsplit('\n').next().unwrap_or_default();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
        let position = Position {
            line: count(valid.matches('\n').count()),
            column: count(last_line.chars().count()),
        };
        Fault::refused(position, "", "the text is not UTF-8 here; save the file as UTF-8")
    })
}

/// The guest or network that a file in a directory of definitions stands for by its name, `NAME.xml`; none when it is
/// not called so.
///
/// ```
/// use domain::{DomainName, defined};
/// let named = |file: &str| defined::<DomainName>(file.as_ref());
/// assert_eq!(named("web.xml").unwrap().unwrap().as_str(), "web");
/// assert!(named("web.xml.orig").is_none());
/// assert!(named("..xml").unwrap().is_err());
/// ```
#[must_use]
pub fn defined<N>(file: &OsStr) -> Option<Result<N, NameError>>
where
    N: for<'a> TryFrom<&'a str, Error = NameError>,
{
    let stem = file.as_encoded_bytes().strip_suffix(b".xml")?;
    Some(std::str::from_utf8(stem).map_err(|_| NameError::NotUtf8).and_then(N::try_from))
}

/// What the directories of the system manager are below: those of systemd's own units.
const SYSTEM: [&str; 4] = ["/etc", "/run", "/usr/local/lib", "/usr/lib"];

/// The directories of one manager, system or user, the one that counts first first.
///
/// ```
/// use domain::SearchPath;
/// let path = SearchPath::system();
/// assert_eq!(path.directories()[0].to_str(), Some("/etc/glassbox/qemu"));
/// assert_eq!(path.autostart().unwrap().to_str(), Some("/etc/glassbox/qemu/autostart"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchPath {
    directories: Vec<PathBuf>,
    autostart: Option<PathBuf>,
}

/// What a user's environment says of directories, by the XDG Base Directory Specification 0.8.
///
/// A relative path in one of the variables is to be ignored, and is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserEnvironment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, else `~/.config`.
    pub config_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `XDG_DATA_HOME`, else `~/.local/share`.
    pub data_home: Option<PathBuf>,
}

impl UserEnvironment {
    /// What these variables say; `variable` gives the value of one. An empty value is none.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            home: path("HOME"),
            config_home: path("XDG_CONFIG_HOME"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            data_home: path("XDG_DATA_HOME"),
        }
    }

    /// The directory of configuration.
    #[must_use]
    pub fn config(&self) -> Option<PathBuf> {
        absolute(&self.config_home).or_else(|| self.in_home(".config"))
    }

    /// The directory of what is gone with the login.
    #[must_use]
    pub fn runtime(&self) -> Option<PathBuf> {
        absolute(&self.runtime_dir)
    }

    /// The directory of data.
    #[must_use]
    pub fn data(&self) -> Option<PathBuf> {
        absolute(&self.data_home).or_else(|| self.in_home(".local/share"))
    }

    fn in_home(&self, path: &str) -> Option<PathBuf> {
        absolute(&self.home).map(|home| home.join(path))
    }
}

fn absolute(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| path.is_absolute())
}

impl SearchPath {
    /// The directories of the system manager's guests.
    #[must_use]
    pub fn system() -> Self {
        Self::below(SYSTEM.map(PathBuf::from), GUESTS, true)
    }

    /// The directories of virtual networks. They are the system's alone: networkd makes no bridge for a user.
    ///
    /// ```
    /// use domain::SearchPath;
    /// let path = SearchPath::networks();
    /// assert_eq!(path.directories()[0].to_str(), Some("/etc/glassbox/networks"));
    /// ```
    #[must_use]
    pub fn networks() -> Self {
        Self::below(SYSTEM.map(PathBuf::from), NETWORKS, true)
    }

    /// The directories of a user's manager. Those whose variables are unset are left out.
    #[must_use]
    pub fn user(environment: &UserEnvironment) -> Self {
        let config = environment.config();
        let has_config = config.is_some();
        let parents = [config, environment.runtime(), environment.data()];
        Self::below(parents.into_iter().flatten(), GUESTS, has_config)
    }

    fn below(
        parents: impl IntoIterator<Item = PathBuf>,
        directory: &str,
        configurable: bool,
    ) -> Self {
        let directories: Vec<PathBuf> =
            parents.into_iter().map(|parent| parent.join(directory)).collect();
        let first = directories.first().filter(|_| configurable);
        Self { autostart: first.map(|first| first.join("autostart")), directories }
    }

    /// The directories, the one that counts first first.
    #[must_use]
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The directories of another kind beside those of definitions, in the same order: `/etc/systemd/system`
    /// beside `/etc/glassbox/qemu` for `systemd/system`.
    pub fn beside(&self, other: &str) -> impl Iterator<Item = PathBuf> {
        // GUESTS and NETWORKS have two parts each.
        let parents = self.directories.iter().filter_map(|directory| directory.ancestors().nth(2));
        parents.map(move |parent| parent.join(other))
    }

    /// The directory whose entries `NAME.xml` start at boot, or at the user's login; none without a
    /// directory for configuration.
    #[must_use]
    pub fn autostart(&self) -> Option<&Path> {
        self.autostart.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(variables: [&str; 4]) -> (Vec<String>, Option<String>) {
        let names = ["HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME"];
        let variable = |name: &str| {
            let at = names.iter().position(|known| *known == name)?;
            Some(OsString::from(variables[at]))
        };
        let path = SearchPath::user(&UserEnvironment::of(variable));
        let text = |path: &Path| path.display().to_string();
        (path.directories().iter().map(|path| text(path)).collect(), path.autostart().map(text))
    }

    #[test]
    fn text_is_utf8_of_bounded_length() {
        assert_eq!(definition_text("ü".as_bytes()), Ok("ü"));
        assert_eq!(
            definition_text(b"<a>\n\xc3\xbc\xff").unwrap_err().to_string(),
            "2:2: the text is not UTF-8 here; save the file as UTF-8"
        );
        assert!(definition_text(&vec![b' '; LARGEST_DEFINITION]).is_ok());
        assert_eq!(
            definition_text(&vec![b' '; LARGEST_DEFINITION + 1]).unwrap_err().to_string(),
            "1:1: the file has more than 4194304 bytes; shorten it"
        );
    }

    #[test]
    fn system_directories_are_those_of_units() {
        let path = SearchPath::system();
        let directories: Vec<_> =
            path.directories().iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            directories,
            [
                "/etc/glassbox/qemu",
                "/run/glassbox/qemu",
                "/usr/local/lib/glassbox/qemu",
                "/usr/lib/glassbox/qemu"
            ]
        );
        let units: Vec<_> = path.beside("systemd/system").collect();
        assert_eq!(units[0], Path::new("/etc/systemd/system"));
        assert_eq!(units[3], Path::new("/usr/lib/systemd/system"));
    }

    #[test]
    fn user_directories_follow_xdg() {
        let (directories, autostart) = user(["/home/u", "", "/run/user/1", ""]);
        assert_eq!(
            directories,
            [
                "/home/u/.config/glassbox/qemu",
                "/run/user/1/glassbox/qemu",
                "/home/u/.local/share/glassbox/qemu"
            ]
        );
        assert_eq!(autostart.as_deref(), Some("/home/u/.config/glassbox/qemu/autostart"));
        let (directories, _) = user(["/home/u", "/c", "relative", "/d"]);
        assert_eq!(directories, ["/c/glassbox/qemu", "/d/glassbox/qemu"]);
    }

    #[test]
    fn what_is_unset_is_left_out() {
        assert_eq!(user(["", "", "", ""]), (vec![], None));
        assert_eq!(
            user(["", "", "/run/user/1", ""]),
            (vec!["/run/user/1/glassbox/qemu".to_owned()], None)
        );
    }
}
