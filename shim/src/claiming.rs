//! How a guest gets its name and UUID at its start: locks that need no daemon, then the daemon's claim.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::cli::{Cli, Register};
use crate::handed::Handed;
use crate::keeper::Keeper;
use crate::launch::LaunchError;
use crate::locks::Locks;
use crate::prepare::{Identified, PrepareError, Prepared};
use crate::registry::{Answer, Occasion, Registrant, Registry};
use crate::{host, log};

/// Locks name and UUID, unless the guest is to be known to nobody. A definition that is refused claims neither.
pub(crate) fn lock(identified: &Identified, cli: &Cli) -> Result<Locks, LaunchError> {
    let known = !(cli.standalone || cli.register == Register::No);
    match identified.named().filter(|_| known) {
        Some(guest) => Locks::take(guest.name(), &guest.instance, &guest.uuid)
            .map_err(|held| LaunchError::Claim(held.to_string())),
        None => Ok(Locks::default()),
    }
}

/// Locks the number of a vsock that a program serves, for as long as name and UUID are locked.
pub(crate) fn lock_vsock(locks: &mut Locks, prepared: &Prepared) -> Result<(), LaunchError> {
    let Some(vsock) = &prepared.plan.vsock else { return Ok(()) };
    locks.add_cid(vsock.cid, &prepared.domain.name).map_err(|held| {
        let fault = vsock.place.refused(format!("{held}; give another in <cid address='...'/>"));
        PrepareError::HostFiles(vec![fault.in_file(&prepared.file)]).into()
    })
}

/// Claims name and UUID with the daemon, or sees to it that they are claimed as soon as there is one.
///
/// `monitor` is the daemon's end of a monitor of QEMU's; `handed` has the guest's network devices.
pub(crate) fn register(
    prepared: &Prepared,
    cli: &Cli,
    monitor: UnixStream,
    handed: Option<&Handed>,
) -> Result<Keeper, LaunchError> {
    if cli.standalone || cli.register == Register::No {
        return Ok(Keeper::off());
    }
    let registry = registry(cli);
    let registrant = Registrant {
        name: prepared.domain.name.clone(),
        uuid: prepared.uuid,
        transient: cli.transient,
        monitor,
        interfaces: handed.map(Handed::interfaces).into_iter().flatten().copied().collect(),
        vsock_cid: handed.and_then(Handed::vsock_cid),
    };
    match registry.claim(&registrant, Occasion::Start) {
        Answer::Held(claim) => Ok(Keeper::held(registry, registrant, claim)),
        Answer::Refused(words) => Err(LaunchError::Claim(words)),
        Answer::Unreachable(why) | Answer::Silent(why) if cli.register == Register::Required => {
            Err(LaunchError::Claim(format!(
                "the guest must be registered, but there is no daemon: {why}"
            )))
        }
        Answer::Unreachable(why) | Answer::Silent(why) => {
            log::info(format_args!("the guest starts without a management daemon: {why}"));
            Ok(Keeper::waiting(registry, registrant))
        }
    }
}

fn registry(cli: &Cli) -> Registry {
    if let Some(socket) = &cli.registry {
        return Registry { socket: socket.clone(), bus: false };
    }
    if !cli.user {
        let usual = Path::new(dbus_api::SYSTEM_REGISTRY);
        let below = usual.strip_prefix(host::USUAL_RUN).unwrap_or(usual);
        return Registry { socket: host::run().join(below), bus: true };
    }
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/run"), PathBuf::from);
    Registry { socket: runtime.join(dbus_api::USER_REGISTRY), bus: false }
}
