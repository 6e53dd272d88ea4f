//! Changes the devices in a document's text, one at a time, and leaves all else as it was written.
//!
//! The device is given as XML, as libvirt's clients give it. It is found again by what tells it from others of its kind:
//! a disk by its target, an interface by its address, a controller by type and index; any by its alias or its address in
//! the guest, or because all that is given is said of one device only.

use crate::definition::definition_text;
use crate::edit;
use crate::tree::{self, Element};

/// What is done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceEdit {
    /// It is added.
    Attach,
    /// It is removed.
    Detach,
    /// It takes the place of the one that it is found as.
    Update,
}

/// Why a document's devices are not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceEditError {
    /// The XML is none.
    #[error("the device's XML: {0}")]
    Malformed(String),
    /// The document has no devices that could be changed.
    #[error("the guest's document has no <devices>; add it")]
    NoDevices,
    /// The document has such a device.
    #[error("the guest has a {0} already; detach it first, or update it")]
    Exists(String),
    /// The document has no such device.
    #[error("the guest has no {0}")]
    Missing(String),
    /// The document has several devices of which all that is given is true.
    #[error(
        "the guest has {count} devices like this <{name}>; say which by its <alias> or <address>"
    )]
    Several {
        /// The element's name.
        name: String,
        /// How many.
        count: usize,
    },
}

/// The document with the device added, removed or replaced.
///
/// # Errors
/// [`DeviceEditError`] when that cannot be.
pub fn edit_device(
    document: &str,
    device: &str,
    how: DeviceEdit,
) -> Result<String, DeviceEditError> {
    let device = device.trim();
    let wanted = definition_text(device.as_bytes()).and_then(tree::parse);
    let wanted = wanted.map_err(|fault| DeviceEditError::Malformed(fault.to_string()))?;
    let root = tree::parse(document).map_err(|_| DeviceEditError::NoDevices)?;
    let devices = root.elements().find(|child| child.qualified == "devices");
    let devices = devices.ok_or(DeviceEditError::NoDevices)?;
    let same: Vec<&Element<'_>> =
        devices.elements().filter(|device| is_same(&wanted, device)).collect();
    let edited = match (how, same.as_slice()) {
        // A device without a key of its own may be there any number of times.
        (DeviceEdit::Attach, found) if found.is_empty() || key(&wanted).is_none() => {
            edit::with_child(document, devices, device)
        }
        (DeviceEdit::Attach, _) => return Err(DeviceEditError::Exists(called(&wanted))),
        (_, []) => return Err(DeviceEditError::Missing(called(&wanted))),
        (DeviceEdit::Detach, [found]) => edit::without(document, found),
        (DeviceEdit::Update, [found]) => edit::replaced(document, found, device),
        (_, found) => {
            let name = wanted.qualified.to_owned();
            return Err(DeviceEditError::Several { name, count: found.len() });
        }
    };
    edited.ok_or(DeviceEditError::NoDevices)
}

/// The value by which a device is told from others of its kind.
fn key(device: &Element<'_>) -> Option<String> {
    let value = |child: Option<&str>, name: &str| {
        let element = match child {
            Some(child) => device.elements().find(|it| it.qualified == child)?,
            None => device,
        };
        element.attributes.iter().find(|it| it.name == name).map(|it| it.value.to_string())
    };
    match device.qualified {
        "disk" => value(Some("target"), "dev"),
        "interface" => value(Some("mac"), "address").map(|mac| mac.to_ascii_lowercase()),
        "controller" => Some(format!("{} {}", value(None, "type")?, value(None, "index")?)),
        _ => None,
    }
}

/// What messages call a device.
fn called(device: &Element<'_>) -> String {
    let name = device.qualified;
    key(device).map_or_else(|| name.to_owned(), |key| format!("{name} '{key}'"))
}

fn is_same(wanted: &Element<'_>, device: &Element<'_>) -> bool {
    if wanted.qualified != device.qualified {
        return false;
    }
    match key(wanted) {
        Some(wanted) => key(device) == Some(wanted),
        None => has_all(wanted, device),
    }
}

/// Whether all that one element says is said by the other, too.
fn has_all(wanted: &Element<'_>, found: &Element<'_>) -> bool {
    let attributes = wanted.attributes.iter().all(|attribute| {
        found.attributes.iter().any(|it| it.name == attribute.name && it.value == attribute.value)
    });
    let children = wanted.elements().all(|child| {
        found.elements().any(|it| it.qualified == child.qualified && has_all(child, it))
    });
    attributes && children && (wanted.text().is_empty() || wanted.text() == found.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "<domain>
  <devices>
    <!-- the system -->
    <disk><source file='/a'/><target dev='vda' bus='virtio'/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:0a'/></interface>
    <rng model='virtio'><backend model='builtin'/></rng>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
";

    #[test]
    fn one_device_changes_and_nothing_else() {
        let edit = |device, how| edit_device(DOCUMENT, device, how);
        let line = |text: &str| DOCUMENT.lines().find(|line| line.contains(text)).unwrap();
        let with = |line: &str| DOCUMENT.replace("  </devices>", &format!("{line}\n  </devices>"));
        let without = |text: &str| DOCUMENT.replace(&format!("{}\n", line(text)), "");
        let disk = "<disk><target dev='vdb'/></disk>";
        assert_eq!(edit(disk, DeviceEdit::Attach), Ok(with(&format!("    {disk}"))));
        let rng = "<rng model='virtio'><backend model='builtin'/></rng>";
        assert_eq!(edit(rng, DeviceEdit::Attach), Ok(with(&format!("    {rng}"))));
        assert_eq!(edit(rng, DeviceEdit::Detach), Ok(without("builtin")));
        let vda = "<disk><target dev='vda'/></disk>";
        assert_eq!(edit(vda, DeviceEdit::Detach), Ok(without("vda")));
        let mac = "<interface><mac address='52:54:00:00:00:0A'/></interface>";
        assert_eq!(edit(mac, DeviceEdit::Detach), Ok(without("bridge")));
        let updated = DOCUMENT.replace(line("vda").trim(), vda);
        assert_eq!(edit(vda, DeviceEdit::Update), Ok(updated));
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (device, how, told) in [
            ("<disk>", DeviceEdit::Attach, "the device's XML: "),
            (
                "<disk><target dev='vda'/></disk>",
                DeviceEdit::Attach,
                "the guest has a disk 'vda' already",
            ),
            ("<disk><target dev='vdb'/></disk>", DeviceEdit::Detach, "the guest has no disk 'vdb'"),
            (
                "<rng model='virtio'/>",
                DeviceEdit::Detach,
                "the guest has 2 devices like this <rng>",
            ),
            ("<tpm/>", DeviceEdit::Update, "the guest has no tpm"),
        ] {
            let error = edit_device(DOCUMENT, device, how).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        let nothing = edit_device("<domain/>", "<tpm/>", DeviceEdit::Attach);
        assert_eq!(nothing, Err(DeviceEditError::NoDevices));
    }
}
