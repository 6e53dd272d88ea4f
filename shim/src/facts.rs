//! What a plan must know of this host, asked of the host.

use std::fs::File;
use std::net::TcpListener;

use domain::UnitInstance;
use qemu::HostFacts;

use crate::prepare::Purpose;
use crate::runtime_dir::{self, Place};

/// The facts of this host. The folders are those that systemd has given the unit, else the usual ones.
pub(crate) fn of_host(instance: &UnitInstance, place: &Place, purpose: Purpose) -> HostFacts {
    let mut facts = HostFacts::local(instance.as_str());
    let guest = place.path.display().to_string();
    facts.directories.channel = format!("{guest}/channel");
    facts.directories.memory = format!("{guest}/memory");
    facts.directories.passt = format!("{guest}/passt-");
    let vhost_net = File::options().read(true).write(true).open("/dev/vhost-net");
    facts.network.vhost_net = vhost_net.is_ok();
    facts.directories.guest = guest;
    if purpose == Purpose::Start {
        let displays = &mut facts.displays;
        displays.vnc_port = free_port(&displays.vnc_listen, displays.vnc_port);
    }
    if let Some(log) = runtime_dir::granted("LOGS_DIRECTORY") {
        facts.directories.log = log.display().to_string();
    }
    if let Some(state) = runtime_dir::granted("STATE_DIRECTORY") {
        facts.directories.nvram = format!("{}/nvram", state.display());
    }
    facts
}

/// The first TCP port from this one on that nobody listens on; the port itself when all are taken.
///
/// Another program can take it before QEMU does. QEMU then fails to start, and says so.
fn free_port(address: &str, first: u16) -> u16 {
    (first..=u16::MAX).find(|port| TcpListener::bind((address, *port)).is_ok()).unwrap_or(first)
}
