//! Text on its way into a unit file, systemd.syntax(7).
//!
//! Whatever stands in a definition, a value here is one line that systemd reads back as that text: no newline
//! or trailing backslash that would start or swallow a directive, no specifier, no quote that changes words.

mod network;
mod unit_name;

use std::fmt;
use std::path::{Component, Path};

use domain::{CpuSet, DomainUuid, UnitInstance};

/// Longest text for people to read, in characters: a description stands in every list of units.
const LONGEST_TEXT: usize = 200;

/// Longest path and longest part of one, `PATH_MAX` (with its final NUL) and `NAME_MAX` of Linux.
const LONGEST_PATH: usize = 4095;
const LONGEST_COMPONENT: usize = 255;

/// The value of one directive, escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitValue(String);

impl UnitValue {
    /// Text for people, as in `Description=`: one line, white space runs as one space, at most 200 characters.
    pub(crate) fn text(text: &str) -> Self {
        let mut shown = String::new();
        for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
            if !word.is_empty() {
                shown.push_str(if shown.is_empty() { "" } else { " " });
                shown.push_str(word);
            }
        }
        if let Some((end, _)) = shown.char_indices().nth(LONGEST_TEXT) {
            shown.truncate(end);
            shown.push('…');
        }
        let mut value = specifiers_escaped(&shown).replace(systemd_refuses, "\u{fffd}");
        let backslashes = value.bytes().rev().take_while(|byte| *byte == b'\\').count();
        if backslashes % 2 == 1 {
            // An odd one would join the next line to this one. Nothing unescapes it, so two of them show.
            value.push('\\');
        }
        Self(value)
    }

    /// A word of the program's own.
    pub(crate) fn word(word: &'static str) -> Self {
        Self(word.to_owned())
    }

    /// A number without unit.
    pub(crate) fn number(number: u64) -> Self {
        Self(number.to_string())
    }

    /// A time, systemd.time(7).
    pub(crate) fn microseconds(number: u64) -> Self {
        Self(format!("{number}us"))
    }

    /// A share, given in hundredths of a percent.
    pub(crate) fn percent(hundredths: u64) -> Self {
        let (whole, part) = (hundredths / 100, hundredths % 100);
        Self(if part == 0 { format!("{whole}%") } else { format!("{whole}.{part:02}%") })
    }

    /// Numbers of CPUs or NUMA nodes, with ranges.
    pub(crate) fn set(set: &CpuSet) -> Self {
        Self(set.to_string())
    }

    /// The directory of a guest below a directory of the manager's for such; its alphabet needs no escapes.
    pub(crate) fn guest_directory(instance: &UnitInstance) -> Self {
        Self(format!("glassbox/guest/{}", instance.directory()))
    }

    /// The directory of the sockets of a guest's companions, bound where it is there, as in `BindPaths=`.
    pub(crate) fn companions_of(guest: &UnitInstance) -> Self {
        Self(format!("-/run/glassbox/companion/{}", guest.directory()))
    }

    /// The directory of one companion's socket, below a directory of the manager's for such. `device` is the program's
    /// own word.
    pub(crate) fn companion_directory(guest: &UnitInstance, device: &str) -> Self {
        Self(format!("glassbox/companion/{}/{device}", guest.directory()))
    }

    /// The directories of an emulated TPM's state, one for each version of the standard.
    pub(crate) fn tpm_state(uuid: DomainUuid) -> Self {
        Self(["tpm1.2", "tpm2"].map(|version| format!("glassbox/swtpm/{uuid}/{version}")).join(" "))
    }

    /// A device and a number for it, as in `IOReadBandwidthMax=`; `None` where the path is none for systemd.
    pub(crate) fn of_device(path: &str, number: u64) -> Option<Self> {
        Some(Self(format!("{} {number}", Self::path_word(Path::new(path))?)))
    }

    /// A path that is the whole value, as in `SourcePath=`, where quotes mean nothing.
    ///
    /// `None` for a path that systemd would refuse, or that it could not read back.
    pub(crate) fn path(path: &Path) -> Option<Self> {
        Some(Self(specifiers_escaped(plain_path(path)?)))
    }

    /// A device that may be read and written, as in `DeviceAllow=`, where the path ends at the first space.
    ///
    /// `None` as for [`Self::path`], or for a path with a space.
    pub(crate) fn device_node(path: &Path) -> Option<Self> {
        let Self(path) = Self::path(path).filter(|Self(path)| !path.contains([' ', '"', '\'']))?;
        path.starts_with("/dev/").then(|| Self(format!("{path} rw")))
    }

    /// A kind of devices that may be read and written, as in `DeviceAllow=`.
    pub(crate) fn device_kind(kind: &'static str) -> Self {
        Self(format!("{kind} rw"))
    }

    /// A path that is bound where it is there, as in `BindPaths=`, where colons separate.
    ///
    /// `None` as for [`Self::path_word`].
    pub(crate) fn optional_bind(path: &Path) -> Option<Self> {
        let Self(path) = Self::path_word(path)?;
        let (quote, path) = match path.strip_prefix(['"', '\'']) {
            Some(rest) => (&path[..1], rest),
            None => ("", path.as_str()),
        };
        Some(Self(format!("{quote}-{}", path.replace(':', "\\:"))))
    }

    /// A word of the program's own with a name that has only letters, digits and `-_`, as the caller has checked.
    pub(crate) fn identifier(prefix: &'static str, instance: &UnitInstance) -> Self {
        debug_assert!(!instance.as_str().contains(['%', '\\', ' ']));
        Self(format!("{prefix}{instance}"))
    }

    /// A word of the program's own with the hash of a text, 16 hexadecimal digits (FNV-1a, which is the same everywhere).
    pub(crate) fn hashed(prefix: &'static str, text: &str) -> Self {
        let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
        Self(format!("{prefix}{hash:016x}"))
    }

    /// The name of a credential, as in `LoadCredential=`, whose content the manager looks for by this name; `None` for
    /// one that has other characters than those of [`domain::secret_credential`].
    pub(crate) fn credential(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        name.bytes().all(plain).then(|| Self(name.to_owned()))
    }

    /// A path that is one of several words of a value, as in `RequiresMountsFor=`, where quotes group and
    /// backslashes are themselves.
    ///
    /// `None` also for a path with both kinds of quotes, which has no one spelling in all versions.
    pub(crate) fn path_word(path: &Path) -> Option<Self> {
        let text = specifiers_escaped(plain_path(path)?);
        let quote = match (text.contains('"'), text.contains('\'')) {
            (false, false) if !text.contains(' ') => return Some(Self(text)),
            (false, _) => '"',
            (true, false) => '\'',
            (true, true) => return None,
        };
        Some(Self(format!("{quote}{text}{quote}")))
    }
}

impl fmt::Display for UnitValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text of a path that systemd takes: absolute, without `..` and without characters that a line can't hold.
///
/// A backslash is left out too: at the end of a line it joins the next, and versions differ within quotes.
fn plain_path(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let odd = |c: char| {
        c.is_control() || c == '\\' || (c.is_whitespace() && c != ' ') || systemd_refuses(c)
    };
    // A space at an end would be stripped with the value's own.
    let sound = path.is_absolute()
        && text.len() <= LONGEST_PATH
        && !text.contains(odd)
        && !text.ends_with(' ')
        && path.components().all(|component| match component {
            Component::Normal(part) => part.len() <= LONGEST_COMPONENT,
            Component::RootDir | Component::CurDir => true,
            Component::ParentDir | Component::Prefix(_) => false,
        });
    sound.then_some(text)
}

/// `%` opens a specifier in nearly every directive.
fn specifiers_escaped(text: &str) -> String {
    text.replace('%', "%%")
}

/// Unicode's noncharacters: systemd takes text with one for broken UTF-8 and ignores the line.
fn systemd_refuses(character: char) -> bool {
    let code = u32::from(character);
    matches!(code, 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(path: &str) -> Option<String> {
        UnitValue::path_word(Path::new(path)).map(|value| value.to_string())
    }

    #[test]
    fn text_stays_on_its_line() {
        for (text, value) in [
            ("plain", "plain"),
            (" a\n\t b\r\nExecStart=/bin/sh ", "a b ExecStart=/bin/sh"),
            ("100% %n $HOME", "100%% %%n $HOME"),
            ("a\\", "a\\\\"),
            ("a\\\\", "a\\\\"),
            ("\u{0}\u{7f}\u{85}x\u{feff}\u{ffff}", "x\u{feff}\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(UnitValue::text(text).to_string(), value, "{text:?}");
        }
        let long = UnitValue::text(&"ü".repeat(65_536)).to_string();
        assert_eq!(long.chars().count(), 201);
        assert!(long.ends_with("ü…"));
    }

    #[test]
    fn paths_are_quoted_as_systemd_reads_words() {
        for (path, value) in [
            ("/var/lib/a.qcow2", Some("/var/lib/a.qcow2")),
            ("/my images/a", Some("\"/my images/a\"")),
            ("/it's", Some("\"/it's\"")),
            ("/say \"hi\"", Some("'/say \"hi\"'")),
            ("/100%", Some("/100%%")),
            ("/a#b;c$d", Some("/a#b;c$d")),
            ("/both\"'", None),
            ("relative", None),
            ("", None),
            ("/a/../b", None),
            ("/a\\", None),
            ("/a\nExecStart=/bin/sh", None),
            ("/a\u{a0}b", None),
            ("/a ", None),
        ] {
            assert_eq!(word(path).as_deref(), value, "{path:?}");
        }
        assert_eq!(word(&format!("/{}", "a".repeat(256))), None);
        assert_eq!(word(&"/a".repeat(2048)), None);
    }

    #[test]
    fn a_whole_path_needs_no_quotes() {
        let value = UnitValue::path(Path::new("/etc/my vm's 5%.xml")).unwrap();
        assert_eq!(value.to_string(), "/etc/my vm's 5%%.xml");
    }

    /// What systemd makes of a value whose quotes group words: the words, specifiers resolved.
    fn words(value: &str) -> Vec<String> {
        let mut words = vec![];
        let mut rest = value.trim_start();
        while let Some(first) = rest.chars().next() {
            let (word, after) = match first {
                '"' | '\'' => rest[1..].split_once(first).unwrap(),
                _ => rest.split_once(' ').unwrap_or((rest, "")),
            };
            words.push(word.replace("%%", "%"));
            rest = after.trim_start();
        }
        words
    }

    proptest! {
        #[test]
        fn no_text_opens_a_line_or_a_specifier(text in any::<String>()) {
            let value = UnitValue::text(&text).to_string();
            prop_assert!(!value.contains(char::is_control));
            prop_assert_eq!(value.bytes().rev().take_while(|b| *b == b'\\').count() % 2, 0);
            prop_assert!(!value.replace("%%", "").contains('%'));
        }

        #[test]
        fn short_text_reads_back(text in "[!-\\[\\]-~ü%]{1,40}( [!-\\[\\]-~ü%]{1,40})?") {
            prop_assert_eq!(UnitValue::text(&text).to_string().replace("%%", "%"), text);
        }

        #[test]
        fn path_words_read_back(path in "(/[ -~ü%'\"]{0,12}){1,4}") {
            if let Some(value) = word(&path) {
                prop_assert_eq!(words(&value), vec![path]);
            }
        }

        #[test]
        fn no_path_opens_a_line(path in any::<String>()) {
            if let Some(value) = word(&format!("/{path}")) {
                prop_assert!(!value.contains(char::is_control));
                prop_assert!(!value.ends_with('\\'));
                prop_assert_eq!(words(&value).len(), 1);
            }
        }
    }
}
