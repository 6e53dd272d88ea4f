//! Names of units that are made of paths, systemd.unit(5), "String escaping for inclusion in unit names".

use std::path::{Component, Path};

use super::UnitValue;
use crate::output::{LONGEST_NAME, Unit};

impl UnitValue {
    /// The unit of a device file: `dev-sda.device` for `/dev/sda`.
    ///
    /// `None` for what is no path below `/dev`, which udev makes no unit of.
    pub(crate) fn device(path: &Path) -> Option<Self> {
        let below = path.strip_prefix("/dev").ok()?;
        Self::of_parts("dev", parts(below)?, ".device")
    }

    /// The unit of a network interface: `sys-subsystem-net-devices-br0.device`, systemd.device(5).
    pub(crate) fn network_device(interface: &str) -> Option<Self> {
        if interface.is_empty() || interface.contains('/') {
            return None;
        }
        Self::of_parts("sys-subsystem-net-devices", vec![interface], ".device")
    }

    /// A unit of ours, whose instance is escaped already.
    pub(crate) fn unit(unit: &Unit) -> Self {
        Self(unit.to_string())
    }

    /// The slice of a resource partition of libvirt: `machine-production.slice` for `/machine/production`,
    /// as libvirt names it.
    pub(crate) fn slice(partition: &str) -> Option<Self> {
        let parts = parts(Path::new(partition).strip_prefix("/").ok()?)?;
        let (first, rest) = parts.split_first()?;
        Self::of_parts(&escape(first), rest.to_vec(), ".slice")
    }

    fn of_parts(prefix: &str, parts: Vec<&str>, suffix: &str) -> Option<Self> {
        let mut name = prefix.to_owned();
        for part in parts {
            name.push('-');
            name.push_str(&escape(part));
        }
        name.push_str(suffix);
        (name.len() <= LONGEST_NAME).then_some(Self(name))
    }
}

/// The parts of a relative path without `..`; at least one.
fn parts(path: &Path) -> Option<Vec<&str>> {
    let part = |component| match component {
        Component::Normal(part) => Some(part.to_str()),
        Component::CurDir => None,
        Component::RootDir | Component::ParentDir | Component::Prefix(_) => Some(None),
    };
    let parts: Vec<&str> = path.components().filter_map(part).collect::<Option<_>>()?;
    (!parts.is_empty()).then_some(parts)
}

/// One part of a path: bytes outside systemd's alphabet, the hyphen and a leading dot as `\xHH`.
///
/// Nothing is left that ends a line, a word or a specifier: the only special byte is the backslash, which systemd
/// keeps in names of units.
fn escape(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for (index, byte) in part.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.');
        if plain && !(byte == b'.' && index == 0) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: Option<UnitValue>) -> Option<String> {
        value.map(|value| value.to_string())
    }

    #[test]
    fn names_are_those_that_systemd_escape_makes() {
        for (path, name) in [
            ("/dev/sda", Some("dev-sda.device")),
            ("/dev/vg/web-data", Some("dev-vg-web\\x2ddata.device")),
            ("/dev//disk/./by-id/x", Some("dev-disk-by\\x2did-x.device")),
            ("/dev", None),
            ("/dev/../etc", None),
            ("/images/a", None),
        ] {
            assert_eq!(text(UnitValue::device(Path::new(path))).as_deref(), name, "{path}");
        }
        for (interface, name) in [
            ("br0", Some("sys-subsystem-net-devices-br0.device")),
            ("br-lan", Some("sys-subsystem-net-devices-br\\x2dlan.device")),
            ("", None),
            ("a/b", None),
        ] {
            assert_eq!(text(UnitValue::network_device(interface)).as_deref(), name, "{interface}");
        }
    }

    #[test]
    fn partitions_are_slices() {
        for (partition, name) in [
            ("/machine", Some("machine.slice")),
            ("/machine/production", Some("machine-production.slice")),
            ("/a-b/.c", Some("a\\x2db-\\x2ec.slice")),
            ("machine", None),
            ("/", None),
            ("/a/../b", None),
        ] {
            assert_eq!(text(UnitValue::slice(partition)).as_deref(), name, "{partition}");
        }
        assert_eq!(UnitValue::slice(&format!("/{}", "a".repeat(300))), None);
    }

    proptest! {
        #[test]
        fn no_path_ends_the_name(path in any::<String>()) {
            for value in [
                UnitValue::device(Path::new(&format!("/dev/{path}"))),
                UnitValue::network_device(&path),
                UnitValue::slice(&format!("/{path}")),
            ].into_iter().flatten() {
                let text = value.to_string();
                let plain = |c: char| c.is_ascii_alphanumeric() || ":_.-\\".contains(c);
                prop_assert!(text.chars().all(plain), "{}", text);
                prop_assert!(text.len() <= 255);
            }
        }
    }
}
