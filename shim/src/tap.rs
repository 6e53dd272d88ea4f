//! Tap and macvtap devices, the host's side of an interface, opened or made here.
//!
//! A tap device that is there is used as it is, and what it lacks is added. One that is made is gone with QEMU.
//! A macvtap device outlives whoever opened it, so it is removed when the guest has ended; its name is made of the
//! guest's address, so that one that was left behind is found and used by the next start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use domain::Fault;
use domain::devices::{DirectMode, Interface, InterfaceSource, InterfaceType};

use crate::host_files::own_account;
use crate::netlink::{Change, Link, MacvtapMode, Netlink};
use crate::{log, sys};

/// The name of a tap device for which the document has none; the kernel gives the number.
const ANY_NAME: &str = "vnet%d";

/// The first byte of a tap device's address. A bridge takes the lowest address of its ports, and this one is high.
const HOST_SIDE: u8 = 0xfe;

/// How often a device's file is looked for, and the time between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The devices of one guest.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    /// What was opened for an interface's first pair of queues, by the interface's alias.
    names: BTreeMap<String, String>,
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
        let existing = link(&netlink, interface, wanted)?;
        let managed = interface.target.managed != Some(false);
        match &existing {
            None if !managed => {
                let what = format!("there is no network device '{wanted}'");
                let advice = "make it before the start, or remove managed='no'";
                return Err(interface.place.refused(format!("{what}; {advice}")));
            }
            Some(link) if link.kind.as_deref() == Some("macvtap") => {
                return open_macvtap(interface, wanted, link.index).map(|file| file.into());
            }
            Some(_) | None => {}
        }
        let tun = interface.backend.tap.as_deref().unwrap_or("/dev/net/tun");
        let file = open(tun).map_err(|error| refused(interface, &format!("'{tun}'"), &error))?;
        let name = sys::attach_tap(&file, wanted, flags(interface))
            .map_err(|error| refused(interface, &format!("tap device '{wanted}'"), &error))?;
        if queue == 0 && managed {
            configure(&netlink, interface, bridge, &name, existing.is_none())?;
        }
        self.names.insert(alias.to_owned(), name);
        Ok(file.into())
    }

    /// A pair of queues of a macvtap device on the interface's host device.
    pub(crate) fn macvtap(&mut self, interface: &Interface, queue: u16) -> Result<OwnedFd, Fault> {
        let netlink = netlink(interface)?;
        let name = interface.target.dev.clone().unwrap_or_else(|| macvtap_name(interface));
        if queue == 0 {
            make_macvtap(&netlink, interface, &name)?;
        }
        let Some(link) = link(&netlink, interface, &name)? else {
            let what = format!("the network device '{name}' vanished; start the guest again");
            return Err(interface.place.refused(what));
        };
        let file = open_macvtap(interface, &name, link.index)?;
        if queue == 0 {
            // QEMU holds the lock as well, so that no second guest with this address takes its packets.
            file.try_lock().map_err(|_| {
                let what = format!("the network device '{name}' is in use by another guest");
                interface.place.refused(format!("{what}; give this one another <mac address>"))
            })?;
            self.made.push(MadeLink { name, index: link.index });
        }
        Ok(file.into())
    }

    /// What is to be removed when the guest has ended.
    pub(crate) fn into_made(self) -> Vec<MadeLink> {
        self.made
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

/// What an interface asks of its host's side that is not done; without it the guest does not start.
pub(crate) fn not_done(interface: &Interface) -> Vec<Fault> {
    let host_ip = |source: &InterfaceSource| {
        let InterfaceSource::Ethernet(ip) = source else { return false };
        !ip.addresses.is_empty() || !ip.routes.is_empty()
    };
    let passthrough = |source: &InterfaceSource| {
        let InterfaceSource::Direct { mode, .. } = source else { return false };
        *mode == Some(DirectMode::Passthrough)
    };
    let reasons = [
        (!interface.vlan.tags.is_empty(), "<vlan> is"),
        (interface.virtual_port.is_some(), "<virtualport> is"),
        (interface.filter.is_some(), "<filterref> is"),
        (interface.isolated == Some(true), "<port isolated='yes'/> is"),
        (interface.script.is_some() || interface.downscript.is_some(), "a script is"),
        (host_ip(&interface.source), "an <ip> of the host's side is"),
        (passthrough(&interface.source), "mode='passthrough' is"),
    ];
    let wanted = reasons.iter().filter(|(wanted, _)| *wanted);
    let refused = |what: &str| {
        interface.place.refused(format!("{what} not supported yet by glassbox; {ADVICE}"))
    };
    wanted.map(|(_, what)| refused(what)).collect()
}

const ADVICE: &str = "remove it, or pass a tap device that has it as a file descriptor";

/// What an interface asks of its host's side that the guest does without.
pub(crate) fn left_out(interface: &Interface) -> Vec<Fault> {
    let limited = interface.bandwidth != domain::devices::Bandwidth::default();
    let reasons = [
        (limited, "bandwidth", "limits are not set by glassbox; use tc or systemd.network(5)"),
        (
            interface.coalesced_frames.is_some(),
            "coalesce",
            "coalescing is not set by glassbox; use ethtool",
        ),
        (
            interface.trust_guest_rx_filters == Some(true),
            "",
            "the guest's filters are not followed; remove 'trustGuestRxFilters'",
        ),
    ];
    let wanted = reasons.iter().filter(|(wanted, ..)| *wanted);
    let ignored = |child: &str, what: &str| {
        let place = &interface.place;
        let path = format!("{}/{child}", place.path);
        Fault::ignored(place.position, path.trim_end_matches('/'), what)
    };
    wanted.map(|(_, child, what)| ignored(child, what)).collect()
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

fn open(path: &str) -> io::Result<File> {
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
    let Some(now) = link(netlink, interface, name)? else {
        let what = format!("the network device '{name}' vanished; start the guest again");
        return Err(interface.place.refused(what));
    };
    let bridge = bridge.map(|bridge| required(netlink, interface, bridge)).transpose()?;
    let change = changes(interface, &now, bridge.as_ref(), new);
    if change == Change::default() {
        return Ok(());
    }
    netlink
        .change(now.index, &change)
        .map_err(|error| refused(interface, &format!("network device '{name}'"), &error))
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

fn required(netlink: &Netlink, interface: &Interface, name: &str) -> Result<Link, Fault> {
    link(netlink, interface, name)?.ok_or_else(|| {
        let what = format!("there is no network device '{name}' on this host");
        interface.place.refused(format!("{what}; make it, or name another"))
    })
}

/// The name of a macvtap device that has none in the document: of its address, and 15 bytes long, which is the
/// most that a device's name has.
fn macvtap_name(interface: &Interface) -> String {
    let address = interface.mac.address.map(|address| address.to_string());
    format!("mvt{}", address.unwrap_or_default().replace(':', ""))
}

fn make_macvtap(netlink: &Netlink, interface: &Interface, name: &str) -> Result<(), Fault> {
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
    let left = link(netlink, interface, name)?
        .filter(|link| link.kind.as_deref() == Some("macvtap") && link.address == address.bytes());
    if left.is_some() {
        return Ok(());
    }
    let bytes = address.bytes();
    netlink.add_macvtap(name, lower.index, mode, bytes).map_err(|error| {
        if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EADDRINUSE)) {
            let what = format!("'{dev}' has this address, or another guest on it");
            return interface.place.refused(format!("{what}; give another <mac address>"));
        }
        refused(interface, &format!("macvtap device '{name}' on '{dev}'"), &error)
    })
}

fn open_macvtap(interface: &Interface, name: &str, index: i32) -> Result<File, Fault> {
    let path = format!("/dev/tap{index}");
    let what = |error| refused(interface, &format!("'{path}' of '{name}'"), &error);
    let file = patiently(|| open(&path)).map_err(what)?;
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

/// A network device that cannot be had, and what to do.
fn refused(interface: &Interface, what: &str, error: &io::Error) -> Fault {
    let account = own_account();
    let denied = matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    let words = if denied {
        format!("{what} is not open to {account}; {}", privilege_advice(interface))
    } else if error.raw_os_error() == Some(libc::EINVAL) {
        format!(
            "{what} cannot be used with {} pairs of queues; make it for as many, or change 'queues'",
            interface.queues()
        )
    } else {
        format!("{what} cannot be used: {error}; {}", inherit_advice(interface))
    };
    interface.place.refused(words)
}

fn privilege_advice(interface: &Interface) -> String {
    let inherit = inherit_advice(interface);
    if interface.kind() == InterfaceType::Direct {
        return inherit;
    }
    let make =
        "make a tap device for this account with `ip tuntap add`, switch it on, join it to its";
    format!("{make} bridge and name it in <target dev='...'/>, or {inherit}")
}

fn inherit_advice(interface: &Interface) -> String {
    format!("pass an open one as file descriptor '{}'", interface.info.alias())
}
