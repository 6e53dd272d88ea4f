//! Tap and macvtap devices, the host's side of an interface, opened or made here.
//!
//! A tap device that is there is used as it is, and what it lacks is added. One that is made is gone with QEMU.
//! A macvtap device outlives whoever opened it, so it is removed when the guest has ended; its name is made of the
//! guest's address, so that the next start finds one that was left behind, and makes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use domain::devices::{Interface, InterfaceSource};
use domain::{Fault, NetworkName, UnitInstance};

use self::refusal::{inherit_advice, refused, unchanged};
use crate::netlink::{Change, Link, Netlink};
use crate::{log, sys};

mod asked;
mod macvtap;
mod refusal;

pub(crate) use asked::{left_out, not_done};

/// The name of a tap device for which the document has none; the kernel gives the number.
const ANY_NAME: &str = "vnet%d";

/// The first byte of a tap device's address. A bridge takes the lowest address of its ports, and this one is high.
const HOST_SIDE: u8 = 0xfe;

/// The devices of one guest.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    /// What was opened for an interface's first pair of queues, by the interface's alias.
    names: BTreeMap<String, String>,
    /// The kernel's numbers of what was opened.
    indexes: BTreeSet<i32>,
    made: Vec<MadeLink>,
}

/// A network device that was made for the guest; dropping this removes it.
#[derive(Debug)]
pub(crate) struct MadeLink {
    name: String,
    index: i32,
}

impl Taps {
    /// A pair of queues of an interface's tap device, which joins `bridge`.
    pub(crate) fn tap(
        &mut self,
        interface: &Interface,
        bridge: Option<&str>,
        queue: u16,
    ) -> Result<OwnedFd, Fault> {
        let alias = interface.info.alias();
        let netlink = netlink(interface)?;
        let first = self.names.get(alias);
        let wanted = first.or(interface.target.dev.as_ref()).map_or(ANY_NAME, String::as_str);
        let existing = existing(&netlink, interface, wanted)?;
        if let Some(link) = existing.as_ref().filter(|link| link.is_macvtap()) {
            self.indexes.insert(link.index);
            return macvtap::open(interface, wanted, link.index).map(OwnedFd::from);
        }
        let tun = interface.backend.tap.as_deref().unwrap_or("/dev/net/tun");
        let file =
            open_device(tun).map_err(|error| refused(interface, &format!("'{tun}'"), &error))?;
        let name = sys::attach_tap(&file, wanted, flags(interface))
            .map_err(|error| refused(interface, &format!("tap device '{wanted}'"), &error))?;
        if queue == 0 && is_managed(interface) {
            configure(&netlink, interface, bridge, &name, existing.is_none())?;
        }
        self.indexes.insert(present(&netlink, interface, &name)?.index);
        self.names.insert(alias.to_owned(), name);
        Ok(file.into())
    }

    /// A pair of queues of a macvtap device on the interface's host device.
    pub(crate) fn macvtap(&mut self, interface: &Interface, queue: u16) -> Result<OwnedFd, Fault> {
        let netlink = netlink(interface)?;
        let name = Self::macvtap_name(interface);
        if queue == 0 {
            macvtap::make(&netlink, interface, &name)?;
        }
        let index = present(&netlink, interface, &name)?.index;
        self.indexes.insert(index);
        if queue == 0 {
            self.made.push(MadeLink { name: name.clone(), index });
        }
        let file = macvtap::open(interface, &name, index)?;
        if queue == 0 {
            macvtap::lock(interface, &name, &file)?;
        }
        Ok(file.into())
    }

    /// The name of an interface's macvtap device.
    pub(crate) fn macvtap_name(interface: &Interface) -> String {
        interface.target.dev.clone().unwrap_or_else(|| macvtap::name_of(interface))
    }

    /// Removes the macvtap device of this name, if there is one.
    pub(crate) fn remove_macvtap(name: &str) -> io::Result<()> {
        let netlink = Netlink::open()?;
        match netlink.link(name)?.filter(Link::is_macvtap) {
            Some(link) => netlink.remove(link.index),
            None => Ok(()),
        }
    }

    /// The kernel's numbers of what was opened.
    pub(crate) fn indexes(&self) -> &BTreeSet<i32> {
        &self.indexes
    }

    /// What is to be removed when the guest has ended.
    pub(crate) fn into_made(self) -> Vec<MadeLink> {
        self.made
    }
}

impl MadeLink {
    /// Leaves the device to somebody else to remove; the result is its name.
    pub(crate) fn leave(self) -> String {
        let mut left = std::mem::ManuallyDrop::new(self);
        std::mem::take(&mut left.name)
    }
}

impl Drop for MadeLink {
    fn drop(&mut self) {
        let removed = Netlink::open().and_then(|netlink| netlink.remove(self.index));
        if let Err(error) = removed {
            let name = &self.name;
            log::warning(format_args!("the network device '{name}' stays: {error}"));
        }
    }
}

/// Whether a tap device is made and changed as the document says, or used as it is.
fn is_managed(interface: &Interface) -> bool {
    interface.target.managed != Some(false)
}

/// The device of this name that is there before the guest, if it may be.
fn existing(netlink: &Netlink, interface: &Interface, name: &str) -> Result<Option<Link>, Fault> {
    let refused = |what: String| Err(interface.place.refused(what));
    match link(netlink, interface, name)? {
        None if !is_managed(interface) => refused(format!(
            "there is no network device '{name}'; make it before the start, or remove managed='no'"
        )),
        Some(link) if !link.is_tap() && !link.is_macvtap() => {
            refused(format!("the network device '{name}' is no tap device; name another"))
        }
        existing @ (Some(_) | None) => Ok(existing),
    }
}

fn netlink(interface: &Interface) -> Result<Netlink, Fault> {
    Netlink::open().map_err(|error| {
        let what = format!("the kernel's network devices cannot be looked at: {error}");
        interface.place.refused(format!("{what}; {}", inherit_advice(interface)))
    })
}

fn link(netlink: &Netlink, interface: &Interface, name: &str) -> Result<Option<Link>, Fault> {
    // No device has a name with this sign: it is a pattern.
    if name.contains('%') {
        return Ok(None);
    }
    netlink.link(name).map_err(|error| refused(interface, &format!("'{name}'"), &error))
}

fn open_device(path: &str) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

fn flags(interface: &Interface) -> libc::c_int {
    let header = if interface.is_virtio() { libc::IFF_VNET_HDR } else { 0 };
    let queues = if interface.queues() > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
    libc::IFF_TAP | libc::IFF_NO_PI | header | queues
}

/// Brings a tap device into the state that the interface asks for. One that was there keeps its address.
fn configure(
    netlink: &Netlink,
    interface: &Interface,
    bridge: Option<&str>,
    name: &str,
    new: bool,
) -> Result<(), Fault> {
    let now = present(netlink, interface, name)?;
    let bridge = bridge.map(|bridge| bridge_of(netlink, interface, bridge)).transpose()?;
    let change = changes(interface, &now, bridge.as_ref(), new);
    if change == Change::default() {
        return Ok(());
    }
    netlink.change(now.index, &change).map_err(|error| unchanged(interface, name, &error))
}

/// What a tap device lacks.
fn changes(interface: &Interface, now: &Link, bridge: Option<&Link>, new: bool) -> Change {
    let address = interface.mac.address.filter(|_| new).map(|address| {
        let [_, rest @ ..] = address.bytes();
        let mut host = [HOST_SIDE; 6];
        host[1..].copy_from_slice(&rest);
        host
    });
    // A port with smaller packets would make those of its whole bridge smaller.
    let mtu = interface.mtu.or(bridge.filter(|_| new).map(|bridge| bridge.mtu));
    let master = bridge.map(|bridge| bridge.index);
    Change {
        address,
        mtu: mtu.filter(|mtu| *mtu != now.mtu),
        master: master.filter(|_| master != now.master),
        up: !now.up,
    }
}

/// A device that was there a moment ago.
fn present(netlink: &Netlink, interface: &Interface, name: &str) -> Result<Link, Fault> {
    link(netlink, interface, name)?.ok_or_else(|| {
        let what = format!("the network device '{name}' vanished; start the guest again");
        interface.place.refused(what)
    })
}

/// The bridge that the interface stands on.
fn bridge_of(netlink: &Netlink, interface: &Interface, name: &str) -> Result<Link, Fault> {
    let InterfaceSource::Network { network, .. } = &interface.source else {
        return required(netlink, interface, name);
    };
    link(netlink, interface, name)?.ok_or_else(|| {
        let what =
            format!("the network '{network}' is not started: its bridge '{name}' is not there");
        interface.place.refused(format!("{what}; {}", start_advice(network)))
    })
}

/// How a network is started.
fn start_advice(network: &str) -> String {
    match NetworkName::try_from(network) {
        Ok(name) => {
            let instance = UnitInstance::from(&name);
            format!("run `systemctl start 'glassbox-network@{instance}'`")
        }
        Err(error) => error.to_string(),
    }
}

fn required(netlink: &Netlink, interface: &Interface, name: &str) -> Result<Link, Fault> {
    link(netlink, interface, name)?.ok_or_else(|| {
        let what = format!("there is no network device '{name}' on this host");
        interface.place.refused(format!("{what}; make it, or name another"))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use domain::{Domain, Faults};

    /// The interface of a guest whose document has this element.
    pub(in crate::tap) fn interface(element: &str) -> Interface {
        domain(element).devices.interfaces.remove(0)
    }

    /// A guest whose document has this device.
    pub(crate) fn domain(element: &str) -> Domain {
        let xml = format!(
            "<domain type='qemu'><name>a</name><memory>1</memory><os><type>hvm</type></os>
             <devices>{element}</devices></domain>"
        );
        let faults = Faults::new();
        let domain = Domain::parse(&xml, &faults);
        let faults = faults.into_sorted();
        assert!(faults.is_empty(), "{faults:?}");
        domain.unwrap()
    }

    pub(in crate::tap) fn bridged(inner: &str) -> Interface {
        let start = "<interface type='bridge'><mac address='52:54:00:12:34:56'/>";
        interface(&format!("{start}<source bridge='br0'/>{inner}</interface>"))
    }

    #[test]
    fn a_device_gets_what_it_lacks() {
        let bridge = Link { index: 7, mtu: 9000, up: true, ..Link::default() };
        let fresh = Link { index: 8, mtu: 1500, ..Link::default() };
        let ready = Link { mtu: 1500, up: true, master: Some(7), ..Link::default() };
        let address = Some([0xfe, 0x54, 0, 0x12, 0x34, 0x56]);
        let (plain, small) = (bridged(""), bridged("<mtu size='1400'/>"));
        let joined = |mtu| Change { address, mtu: Some(mtu), master: Some(7), up: true };
        assert_eq!(changes(&plain, &fresh, Some(&bridge), true), joined(9000));
        assert_eq!(changes(&small, &fresh, Some(&bridge), true), joined(1400));
        let alone = Change { address, up: true, ..Change::default() };
        assert_eq!(changes(&plain, &fresh, None, true), alone);
        let kept = Change { master: Some(7), up: true, ..Change::default() };
        assert_eq!(changes(&plain, &fresh, Some(&bridge), false), kept, "it was there");
        assert_eq!(changes(&plain, &ready, Some(&bridge), false), Change::default());
    }

    #[test]
    fn flags_follow_the_model_and_its_queues() {
        let plain = libc::IFF_TAP | libc::IFF_NO_PI;
        assert_eq!(flags(&bridged("<model type='e1000'/>")), plain);
        assert_eq!(flags(&bridged("<model type='virtio'/>")), plain | libc::IFF_VNET_HDR);
        let many = bridged("<model type='virtio'/><driver queues='2'/>");
        assert_eq!(flags(&many), plain | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE);
    }
}
