//! The names a guest goes by: the domain's name and UUID, its unit instance, its machine name; and the name of a
//! virtual network, which has a unit too.
//!
//! A domain's name is the user's word. A unit instance and a machine name are that word written in the
//! smaller alphabets of systemd's units and of machined; each can be turned back into the domain's name.

use std::fmt;
use std::str::FromStr;

/// Longest domain name in bytes: `qemu@NAME.service.d` must fit a directory entry (255 bytes, `NAME_MAX`).
const LONGEST_NAME: usize = 255 - "qemu-incoming@.service.d".len();

/// Longest name of a network in bytes, for the same reason.
const LONGEST_NETWORK_NAME: usize = 255 - "glassbox-network@.service.d".len();

/// Longest machine name in bytes, `HOST_NAME_MAX` of Linux, which machined applies to machine names.
const LONGEST_MACHINE_NAME: usize = 64;

/// What opens a machine name that stands for a domain name machined would refuse.
const ESCAPED_MACHINE_PREFIX: &str = "gb--";

/// What stands for `@` in a machine name.
const AT_IN_MACHINE: &str = "--";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no character.
    #[error("the name is empty; give one such as 'web'")]
    Empty,
    /// The name has more bytes than its use allows.
    #[error("the name has {length} bytes; shorten it to {limit}")]
    TooLong {
        /// Bytes of the name.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The name has a character that no file name or log line may have.
    #[error("the name contains {character:?}; use letters, digits, '-', '_', '.' or spaces")]
    Character {
        /// The first offending character.
        character: char,
    },
    /// The name of a file is not in UTF-8.
    #[error("the name is not UTF-8; rename it")]
    NotUtf8,
    /// The name is `.` or `..`.
    #[error("the name is {0:?}, which names a directory; choose another")]
    Dots(String),
    /// The text is not a UUID.
    #[error(
        "{0:?} is not a UUID; give 32 hexadecimal digits such as 'c7a5fdbd-edaf-9455-926a-d65c16db1809'"
    )]
    Uuid(String),
    /// The UUID has the same digit 32 times, which libvirt refuses, for firmware often reports such values.
    #[error("the UUID {0} is one repeated digit; generate one with uuidgen")]
    RepeatedUuid(String),
    /// A unit instance or a machine name has a broken escape.
    #[error("{0:?} has an escape that stands for no name")]
    Escape(String),
}

/// The name of a guest, as in `<name>`.
///
/// It is any text without `/` and control characters, neither `.` nor `..`, and short enough to stand in a
/// unit's file name (`virDomainDefNameValidate` of libvirt's `domain_conf` forbids `/` and newlines).
///
/// ```
/// use domain::DomainName;
/// assert!(DomainName::try_from("my vm.1").is_ok());
/// assert!(DomainName::try_from("ü").is_ok());
/// assert!(DomainName::try_from("a/b").is_err());
/// assert!(DomainName::try_from("").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(String);

impl DomainName {
    /// The name as the user wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for DomainName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        check(text, LONGEST_NAME).map(|()| Self(text.to_owned()))
    }
}

/// Whether a text can be the name of a file and, escaped to at most `limit` bytes, part of a unit's name.
fn check(text: &str, limit: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(character) = text.chars().find(|c| *c == '/' || c.is_control()) {
        return Err(NameError::Character { character });
    }
    if text == "." || text == ".." {
        return Err(NameError::Dots(text.to_owned()));
    }
    let length = UnitInstance::escape(text).len();
    if length > limit {
        return Err(NameError::TooLong { length, limit });
    }
    Ok(())
}

impl FromStr for DomainName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(text)
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a virtual network, as in `<network><name>` and `<source network=''>`; what it may be is what a
/// guest's name may be.
///
/// ```
/// use domain::{NetworkName, UnitInstance};
/// let name = NetworkName::try_from("my lan").unwrap();
/// assert_eq!(UnitInstance::from(&name).as_str(), r"my\x20lan");
/// assert!(NetworkName::try_from("../lan").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkName(String);

impl NetworkName {
    /// The name as the user wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for NetworkName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        check(text, LONGEST_NETWORK_NAME).map(|()| Self(text.to_owned()))
    }
}

impl FromStr for NetworkName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(text)
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The 128 bits that identify a guest for ever, as in `<uuid>`.
///
/// Reads 32 hexadecimal digits with or without hyphens, as libvirt's `virUUIDParse` does; writes the
/// canonical lower-case form with hyphens.
///
/// ```
/// use domain::DomainUuid;
/// let uuid: DomainUuid = "C7A5FDBDEDAF9455926AD65C16DB1809".parse().unwrap();
/// assert_eq!(uuid.to_string(), "c7a5fdbd-edaf-9455-926a-d65c16db1809");
/// assert!("00000000-0000-0000-0000-000000000000".parse::<DomainUuid>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainUuid([u8; 16]);

impl DomainUuid {
    /// The 16 bytes in the order in which they are written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The UUID of the guest `name` on the machine with this id (machine-id(5)), for a document that gives
    /// none: the same at every start, another on every machine, and nobody learns the machine's id from it.
    /// Version 5 of RFC 9562, section 5.5, which hashes both.
    #[must_use]
    pub fn derived(machine_id: [u8; 16], name: &DomainName) -> Self {
        let namespace = uuid::Uuid::from_bytes(machine_id);
        Self(uuid::Uuid::new_v5(&namespace, name.as_str().as_bytes()).into_bytes())
    }

    /// The UUID with these bytes as its random part: version 4, variant 1 (RFC 9562, section 5.4).
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl TryFrom<[u8; 16]> for DomainUuid {
    type Error = NameError;

    fn try_from(bytes: [u8; 16]) -> Result<Self, NameError> {
        let uuid = Self(bytes);
        let digit = bytes[0] & 0x0f;
        if bytes.iter().all(|byte| *byte == digit << 4 | digit) {
            return Err(NameError::RepeatedUuid(uuid.to_string()));
        }
        Ok(uuid)
    }
}

impl TryFrom<&str> for DomainUuid {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        let malformed = || NameError::Uuid(text.to_owned());
        let digits: Vec<u8> = text
            .trim()
            .chars()
            .filter(|c| *c != '-')
            .map(|c| {
                c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(malformed)
            })
            .collect::<Result<_, _>>()?;
        let digits: [u8; 32] = digits.try_into().map_err(|_| malformed())?;
        Self::try_from(std::array::from_fn(|i| digits[2 * i] << 4 | digits[2 * i + 1]))
    }
}

impl FromStr for DomainUuid {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(text)
    }
}

impl fmt::Display for DomainUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A domain's name in the alphabet of unit names: what stands between `qemu@` and `.service`.
///
/// Bytes outside systemd's unit name alphabet and the backslash are written `\xHH`, as systemd-escape(1)
/// does. The hyphen stays as it is: systemd-escape maps `/` to it, but no domain name has a slash, and
/// `qemu@web-1` is what a user types. So does `@`, which systemd-escape writes `\x40` although an instance may
/// have it: `qemu@worker@3` is an instance of the template `worker@.xml`. Reading accepts both escaped, so the
/// output of systemd-escape names the same guest.
///
/// ```
/// use domain::{DomainName, UnitInstance};
/// let name = DomainName::try_from("my vm.1").unwrap();
/// let instance = UnitInstance::from(&name);
/// assert_eq!(instance.as_str(), r"my\x20vm.1");
/// assert_eq!(instance.domain_name().unwrap(), name);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitInstance(String);

impl UnitInstance {
    /// The escaped text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain name that the instance stands for.
    ///
    /// # Errors
    /// [`NameError`] when the unescaped text is no domain name.
    pub fn domain_name(&self) -> Result<DomainName, NameError> {
        let bytes = unescape(&self.0, "\\x").ok_or_else(|| NameError::Escape(self.0.clone()))?;
        let text = String::from_utf8(bytes).map_err(|_| NameError::Escape(self.0.clone()))?;
        DomainName::try_from(text.as_str())
    }

    /// The name of the guest's own directory below `/run/glassbox/guest`: the instance in an alphabet
    /// without backslash and colon, so `my vm.1` has `my=20vm.1` and `a:b` has `a=3ab`.
    ///
    /// Systemd 255 to 260 start no service whose `RuntimeDirectory=` has a backslash
    /// (<https://github.com/systemd/systemd/issues/41853>), and a colon separates the directories in
    /// `$RUNTIME_DIRECTORY`. An `=` is in no instance, so two guests never share a directory.
    ///
    /// ```
    /// use domain::UnitInstance;
    /// assert_eq!(UnitInstance::try_from("web-1").unwrap().directory(), "web-1");
    /// assert_eq!(UnitInstance::try_from(r"my\x20vm.1").unwrap().directory(), "my=20vm.1");
    /// ```
    #[must_use]
    pub fn directory(&self) -> String {
        self.0.replace("\\x", "=").replace(':', "=3a")
    }

    fn escape(name: &str) -> String {
        let mut escaped = String::with_capacity(name.len());
        for (i, byte) in name.bytes().enumerate() {
            // A leading dot would make the drop-in directory's instance look hidden to systemd.
            let leading_dot = i == 0 && byte == b'.';
            if !leading_dot && (byte.is_ascii_alphanumeric() || b":-_.@".contains(&byte)) {
                escaped.push(char::from(byte));
            } else {
                escaped.push_str(&format!("\\x{byte:02x}"));
            }
        }
        escaped
    }
}

impl From<&DomainName> for UnitInstance {
    fn from(name: &DomainName) -> Self {
        Self(Self::escape(name.as_str()))
    }
}

impl From<&NetworkName> for UnitInstance {
    fn from(name: &NetworkName) -> Self {
        Self(Self::escape(name.as_str()))
    }
}

impl TryFrom<&str> for UnitInstance {
    type Error = NameError;

    /// Takes what systemd hands to a unit as `%i`.
    fn try_from(text: &str) -> Result<Self, NameError> {
        let instance = Self(text.to_owned());
        instance.domain_name().map(|_| instance)
    }
}

impl fmt::Display for UnitInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A domain's name in the alphabet of systemd-machined: letters, digits, and inner hyphens and dots.
///
/// A name that machined takes stays as it is, and an `@`, as instances of templates have it, is two hyphens.
/// Any other is written `gb--` and then byte by byte, letters and digits as they are and the rest as `-hh`, so
/// `my vm.1` becomes `gb--my-20vm-2e1`. The rule is machined's (`hostname_is_valid` in systemd's
/// `hostname-util.c`), at most 64 bytes.
///
/// ```
/// use domain::{DomainName, MachineName};
/// let machine = |name| MachineName::try_from(&DomainName::try_from(name).unwrap()).unwrap();
/// assert_eq!(machine("web").as_str(), "web");
/// assert_eq!(machine("a-b").as_str(), "a-b");
/// assert_eq!(machine("worker@3").as_str(), "worker--3");
/// assert_eq!(machine("ü").as_str(), "gb---c3-bc");
/// assert_eq!(machine("ü").domain_name().unwrap().as_str(), "ü");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(String);

impl MachineName {
    /// The machine name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain name that the machine name stands for.
    ///
    /// # Errors
    /// [`NameError`] when the text has a broken escape; none for a machine name made by this type.
    pub fn domain_name(&self) -> Result<DomainName, NameError> {
        let Some(escaped) = self.0.strip_prefix(ESCAPED_MACHINE_PREFIX) else {
            return DomainName::try_from(self.0.replace(AT_IN_MACHINE, "@").as_str());
        };
        let bytes = unescape(escaped, "-").ok_or_else(|| NameError::Escape(self.0.clone()))?;
        let text = String::from_utf8(bytes).map_err(|_| NameError::Escape(self.0.clone()))?;
        DomainName::try_from(text.as_str())
    }

    fn escape(name: &str) -> String {
        let mut machine = ESCAPED_MACHINE_PREFIX.to_owned();
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() {
                machine.push(char::from(byte));
            } else {
                machine.push_str(&format!("-{byte:02x}"));
            }
        }
        machine
    }

    /// The name with `@` as two hyphens, if machined takes that and no other name comes to the same.
    fn plain(name: &str) -> Option<String> {
        let ambiguous = ["--", "-@", "@-"].iter().any(|part| name.contains(part));
        let machine = name.replace('@', AT_IN_MACHINE);
        (!ambiguous && Self::is_valid(&machine)).then_some(machine)
    }

    fn is_valid(name: &str) -> bool {
        !name.starts_with(ESCAPED_MACHINE_PREFIX)
            && name.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
    }
}

impl TryFrom<&DomainName> for MachineName {
    type Error = NameError;

    /// Fails only when the machine name would be longer than 64 bytes.
    fn try_from(name: &DomainName) -> Result<Self, NameError> {
        let machine = Self::plain(name.as_str()).unwrap_or_else(|| Self::escape(name.as_str()));
        if machine.len() > LONGEST_MACHINE_NAME {
            return Err(NameError::TooLong { length: machine.len(), limit: LONGEST_MACHINE_NAME });
        }
        Ok(Self(machine))
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bytes of `text` with each `MARK` and two hexadecimal digits read as one byte; `None` for a broken escape.
fn unescape(text: &str, mark: &str) -> Option<Vec<u8>> {
    let mut parts = text.split(mark);
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits =
            part.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> DomainName {
        DomainName::try_from(text).unwrap()
    }

    #[test]
    fn unit_instances_are_what_users_type() {
        for (text, instance) in [
            ("web", "web"),
            ("web-1", "web-1"),
            ("my vm.1", r"my\x20vm.1"),
            ("ü", r"\xc3\xbc"),
            (".hidden", r"\x2ehidden"),
            (r"a\x2db", r"a\x5cx2db"),
            ("worker@3", "worker@3"),
            ("a@b%i", r"a@b\x25i"),
        ] {
            assert_eq!(UnitInstance::from(&name(text)).as_str(), instance);
        }
    }

    #[test]
    fn the_output_of_systemd_escape_names_the_same_guest() {
        assert_eq!(
            UnitInstance::try_from(r"web\x2d1").unwrap().domain_name().unwrap(),
            name("web-1")
        );
        assert_eq!(
            UnitInstance::try_from(r"worker\x403").unwrap().domain_name().unwrap(),
            name("worker@3")
        );
        assert_eq!(UnitInstance::try_from(r"a\x2").unwrap_err(), NameError::Escape(r"a\x2".into()));
        assert!(UnitInstance::try_from(r"a\x2fb").is_err(), "a slash is in no domain name");
    }

    #[test]
    fn machine_names_that_machined_takes_stay() {
        for (text, machine) in [
            ("web", "web"),
            ("a.b-c", "a.b-c"),
            ("a_b", "gb--a-5fb"),
            ("web-", "gb--web-2d"),
            ("a..b", "gb--a-2e-2eb"),
            ("gb--x", "gb--gb-2d-2dx"),
            ("worker@3", "worker--3"),
            ("a--b", "gb--a-2d-2db"),
            ("a-@b", "gb--a-2d-40b"),
            ("gb@x", "gb--gb-40x"),
            ("worker@", "gb--worker-40"),
        ] {
            assert_eq!(MachineName::try_from(&name(text)).unwrap().as_str(), machine);
        }
    }

    #[test]
    fn derived_uuids_differ_by_machine_and_name() {
        let derived = |machine, guest| DomainUuid::derived([machine; 16], &name(guest)).to_string();
        assert_eq!(derived(1, "web"), derived(1, "web"));
        assert_ne!(derived(1, "web"), derived(2, "web"));
        assert_ne!(derived(1, "web"), derived(1, "db"));
        assert_eq!(&derived(1, "web")[14..15], "5", "the version");
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        assert_eq!(DomainName::try_from(""), Err(NameError::Empty));
        assert_eq!(DomainName::try_from("a\nb"), Err(NameError::Character { character: '\n' }));
        assert_eq!(DomainName::try_from(".."), Err(NameError::Dots("..".into())));
        assert!(matches!(
            DomainName::try_from("ü".repeat(60).as_str()),
            Err(NameError::TooLong { .. })
        ));
        assert!(matches!(
            MachineName::try_from(&name(&"a".repeat(65))),
            Err(NameError::TooLong { .. })
        ));
        assert!(matches!("12-34".parse::<DomainUuid>(), Err(NameError::Uuid(_))));
    }

    proptest! {
        #[test]
        fn unit_instances_turn_back(text in "[^/\\p{Cc}]{1,20}") {
            if let Ok(name) = DomainName::try_from(text.as_str()) {
                let instance = UnitInstance::from(&name);
                prop_assert!(instance.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.@\\".contains(&b)));
                let directory = instance.directory();
                prop_assert!(!directory.contains(['\\', ':', '/']));
                prop_assert_eq!(directory.replace("=3a", ":").replace('=', "\\x"), instance.as_str());
                prop_assert_eq!(instance.domain_name().unwrap(), name);
            }
        }

        #[test]
        fn machine_names_turn_back(text in prop_oneof!["[^/\\p{Cc}]{1,12}", "[ab@.-]{1,8}"]) {
            let Ok(name) = DomainName::try_from(text.as_str()) else { return Ok(()) };
            if let Ok(machine) = MachineName::try_from(&name) {
                prop_assert!(machine.as_str().split('.').all(|label| !label.is_empty()));
                prop_assert_eq!(machine.domain_name().unwrap(), name);
            }
        }

        #[test]
        fn uuids_turn_back(bytes in any::<[u8; 16]>()) {
            let uuid = DomainUuid::from_random(bytes);
            prop_assert_eq!(uuid.to_string().parse::<DomainUuid>().unwrap(), uuid);
        }
    }
}
