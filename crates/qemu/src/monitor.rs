//! QEMU's monitors.

use crate::argv::Options;
use crate::command::Command;
use crate::plan::FdKind;

/// Adds the monitor for everybody and, where they are wanted, those of the shim and of the management daemon.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let path = format!("{}/monitor", command.facts.directories.guest);
    let fd = command.pass_fd(FdKind::Listener { path });
    let chardev = Options::new("socket").set("id", "charmonitor").set("fd", fd);
    command.argv.options("-chardev", chardev.on_off("server", true).on_off("wait", false));
    command.argv.options("-mon", monitor("charmonitor", "monitor"));
    if command.launch.shim_monitor {
        let fd = command.pass_fd(FdKind::ShimMonitor);
        let chardev = Options::new("socket").set("id", "charshim").set("fd", fd);
        command.argv.options("-chardev", chardev);
        command.argv.options("-mon", monitor("charshim", "shim"));
    }
    if command.launch.daemon_monitor {
        let fd = command.pass_fd(FdKind::DaemonMonitor);
        let chardev = Options::new("socket").set("id", "chardaemon").set("fd", fd);
        command.argv.options("-chardev", chardev);
        command.argv.options("-mon", monitor("chardaemon", "daemon"));
    }
}

fn monitor(chardev: &str, id: &str) -> Options {
    Options::pair("chardev", chardev).set("id", id).set("mode", "control")
}
