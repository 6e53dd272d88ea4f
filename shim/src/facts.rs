//! What a plan must know of this host, asked of the host.

use std::fs::File;
use std::net::TcpListener;

use domain::{Domain, UnitInstance};
use qemu::{HostFacts, QemuBinary};

use crate::binary;
use crate::prepare::Purpose;
use crate::runtime_dir::{self, Place};

mod clock;
mod devices;
mod firmware;
pub(crate) mod memory;
mod networks;

/// The facts of this host that a domain asks for. The folders are those that systemd has given the unit, else the
/// usual ones.
///
/// To look at a definition no program is started: what is known of QEMU is then what an earlier start has kept.
pub(crate) fn of_host(
    domain: &Domain,
    instance: &UnitInstance,
    place: &Place,
    purpose: Purpose,
) -> HostFacts {
    let mut facts = HostFacts::local(instance.as_str());
    folders(&mut facts, place);
    std::env::consts::ARCH.clone_into(&mut facts.arch);
    if let Some(binary) = about(&qemu::emulator(domain, &facts), purpose) {
        binary.tell(&mut facts);
    }
    let vhost_net = File::options().read(true).write(true).open("/dev/vhost-net");
    facts.network.vhost_net = vhost_net.is_ok();
    if purpose == Purpose::Start {
        let displays = &mut facts.displays;
        displays.vnc_port = free_port(&displays.vnc_listen, displays.vnc_port);
    }
    ask_for(domain, instance, &mut facts);
    facts
}

/// What costs a look into folders is asked only for a domain to which it makes a difference.
fn ask_for(domain: &Domain, instance: &UnitInstance, facts: &mut HostFacts) {
    facts.clock = clock::now();
    if domain.os.firmware.is_some() || domain.os.loader.is_some() {
        facts.firmware = firmware::installed();
    }
    if domain.memory_backing.hugepages.is_some() || !domain.devices.memories.is_empty() {
        facts.hugepages = memory::huge_pages(instance);
    }
    if domain.numatune.is_some() || !facts.hugepages.is_empty() {
        facts.numa = memory::nodes();
    }
    facts.network.networks = networks::named(domain);
    if !domain.devices.hostdevs.is_empty() {
        facts.scsi_generics = devices::scsi_generics();
        facts.usb_devices = Some(devices::usb());
    }
    if !domain.devices.graphics.is_empty() {
        // Without one the usual name stays, so that a message can name it.
        facts.displays.render_node = devices::render_node().or(facts.displays.render_node.take());
    }
}

fn about(emulator: &str, purpose: Purpose) -> Option<QemuBinary> {
    match purpose {
        Purpose::Look => binary::known(emulator),
        Purpose::Start => binary::learn(emulator),
        // What is kept is kept by an account that is less trusted than root.
        Purpose::HandOver => None,
    }
}

fn folders(facts: &mut HostFacts, place: &Place) {
    let guest = place.path.display().to_string();
    let folders = &mut facts.directories;
    folders.channel = format!("{guest}/channel");
    folders.memory = format!("{guest}/memory");
    folders.guest = guest;
    if let Some(log) = runtime_dir::granted("LOGS_DIRECTORY") {
        folders.log = log.display().to_string();
    }
    if let Some(state) = runtime_dir::granted("STATE_DIRECTORY") {
        folders.nvram = format!("{}/nvram", state.display());
    }
}

/// The first TCP port from this one on that nobody listens on; the port itself when all are taken.
///
/// Another program can take it before QEMU does. QEMU then fails to start, and says so.
fn free_port(address: &str, first: u16) -> u16 {
    (first..=u16::MAX).find(|port| TcpListener::bind((address, *port)).is_ok()).unwrap_or(first)
}
