//! Macvtap devices: a device with an address of its own on another one, and a file `/dev/tapN` by its number.

use std::fs::File;
use std::io;
use std::time::Duration;

use domain::Fault;
use domain::devices::{DirectMode, Interface, InterfaceSource};

use super::refusal::refused;
use super::{flags, link, open_device, required};
use crate::netlink::{Link, MacvtapMode, Netlink};
use crate::sys;

/// How often a device's file is looked for, and the time between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The name of a macvtap device that has none in the document: of its address, and 15 bytes long, which is the
/// most that a device's name has.
pub(super) fn name_of(interface: &Interface) -> String {
    let address = interface.mac.address.map(|address| address.to_string());
    format!("mvt{}", address.unwrap_or_default().replace(':', ""))
}

/// Makes the interface's device.
pub(super) fn make(netlink: &Netlink, interface: &Interface, name: &str) -> Result<(), Fault> {
    let (InterfaceSource::Direct { dev, mode }, Some(address)) =
        (&interface.source, interface.mac.address)
    else {
        return Err(interface.place.refused("it has no host device; use type='direct'"));
    };
    let mode = match mode {
        None | Some(DirectMode::Vepa) => MacvtapMode::Vepa,
        Some(DirectMode::Private) => MacvtapMode::Private,
        Some(DirectMode::Bridge | DirectMode::Passthrough) => MacvtapMode::Bridge,
    };
    let lower = required(netlink, interface, dev)?;
    let bytes = address.bytes();
    let left = link(netlink, interface, name)?;
    if let Some(left) = left.filter(|link| link.is_macvtap() && link.address == bytes) {
        remove_left(netlink, interface, name, &left)?;
    }
    netlink.add_macvtap(name, lower.index, mode, bytes).map_err(|error| {
        if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EADDRINUSE)) {
            let what = format!("'{dev}' has this address, or another guest on it");
            return interface.place.refused(format!("{what}; give another <mac address>"));
        }
        refused(interface, &format!("macvtap device '{name}' on '{dev}'"), &error)
    })
}

/// Removes a device that a killed shim left behind.
fn remove_left(
    netlink: &Netlink,
    interface: &Interface,
    name: &str,
    left: &Link,
) -> Result<(), Fault> {
    lock(interface, name, &open(interface, name, left.index)?)?;
    netlink
        .remove(left.index)
        .map_err(|error| refused(interface, &format!("macvtap device '{name}'"), &error))
}

/// Keeps a second guest with this address from taking the packets: QEMU holds the lock as long as it lives.
pub(super) fn lock(interface: &Interface, name: &str, file: &File) -> Result<(), Fault> {
    file.try_lock().map_err(|_| {
        let what = format!("the network device '{name}' is in use by another guest");
        interface.place.refused(format!("{what}; give this one another <mac address>"))
    })
}

pub(super) fn open(interface: &Interface, name: &str, index: i32) -> Result<File, Fault> {
    let path = format!("/dev/tap{index}");
    let what = |error| refused(interface, &format!("'{path}' of '{name}'"), &error);
    let file = patiently(|| open_device(&path)).map_err(what)?;
    // The kernel knows by the descriptor which device it is.
    sys::attach_tap(&file, "", flags(interface)).map_err(what)?;
    Ok(file)
}

/// Tries again for a while: the kernel makes a device's file with the device, but udev gives it to its group later.
fn patiently(open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    for _ in 0..TRIES {
        match open() {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {}
            opened => return opened,
        }
        std::thread::sleep(PAUSE);
    }
    open()
}

#[cfg(test)]
mod tests {
    use super::super::tests::bridged;
    use super::*;

    #[test]
    fn a_macvtap_device_has_a_name_that_fits() {
        let name = name_of(&bridged(""));
        assert_eq!((&*name, name.len()), ("mvt525400123456", libc::IFNAMSIZ - 1));
    }
}
