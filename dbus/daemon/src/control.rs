//! Each guest's control socket, on which it is a `io.systemd.MachineInstance`: from systemd 261 on `machinectl`
//! connects there to power the guest off, reboot, pause, resume or terminate it, or to give it a volume.
//!
//! The client of a control socket is machinectl itself, as whoever runs it, and not machined. So everyone may connect,
//! and the kernel tells who did (`SO_PEERCRED`, unix(7)): root and the guest's own user manage it, others read.
//!
//! The address of a guest is the same with every daemon, and one that starts serves it again.

mod events;
mod instance;
mod storage;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Uid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::guest::Guest;
use crate::live::LiveFiles;
use crate::machined::Machine;
use crate::runner::Runner;
use crate::systemd::Systemd;
use crate::varlink::{self, Call, Channel};
use crate::work::volumes::Volumes;
use instance::Instance;

/// How many clients of the guest's own user, and of all others, are served at once; more are hung up on. Root is never
/// one too many.
const MOST_CLIENTS: usize = 8;

/// How long a client may say nothing.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// How long to wait when no connection can be accepted, for lack of file descriptors say.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the control sockets of guests.
#[derive(Debug, Clone)]
pub(crate) struct Controls {
    /// Where the sockets are.
    pub(crate) directory: PathBuf,
    /// Runs what is asked for.
    pub(crate) runner: Runner,
    /// Stops units, and has them change guests.
    pub(crate) systemd: Systemd,
    /// Has the definitions of guests as they run.
    pub(crate) live: LiveFiles,
    /// The account that the daemon runs as.
    pub(crate) own: Uid,
}

/// A guest's control socket, which is served until this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Controls {
    /// Serves the control socket of a guest.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub(crate) fn open(&self, guest: Arc<Guest>, machine: &Machine) -> io::Result<Control> {
        let path = self.directory.join(machine.name.as_str());
        let listener = bind(&path)?;
        let volumes = Volumes {
            guest: guest.clone(),
            live: self.live.clone(),
            systemd: self.systemd.clone(),
        };
        let (runner, systemd) = (self.runner.clone(), self.systemd.clone());
        let instance = Instance { guest, volumes, runner, systemd };
        let task = tokio::spawn(serve(listener, Arc::new(instance), self.own));
        Ok(Control { path, task })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Binds a socket that everyone may connect to, in place of a former daemon's.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Who may still connect, that neither the guest's user, who may be its QEMU, nor anybody else keeps all sockets.
#[derive(Debug)]
struct Places {
    of_owner: Semaphore,
    of_others: Semaphore,
}

/// Serves the clients of one guest. Does not return; who drops it hangs up on them.
async fn serve(listener: UnixListener, instance: Arc<Instance>, own: Uid) {
    let places = Arc::new(Places {
        of_owner: Semaphore::new(MOST_CLIENTS),
        of_others: Semaphore::new(MOST_CLIENTS),
    });
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    clients.spawn(attend(socket, instance.clone(), own, places.clone()));
                }
                Err(error) => {
                    let name = instance.guest.name();
                    tracing::warn!("no client of guest '{name}' can be accepted now: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

/// Serves one client, if there is a place for it.
async fn attend(socket: UnixStream, instance: Arc<Instance>, own: Uid, places: Arc<Places>) {
    let Ok(credentials) = socket.peer_cred() else { return };
    let uid = credentials.uid();
    let privileged = uid == 0 || uid == own.as_raw();
    let is_owner = instance.guest.leader().uid() == Some(uid);
    let places = if is_owner { &places.of_owner } else { &places.of_others };
    let place = places.try_acquire();
    if place.is_err() && !privileged {
        return tracing::debug!("uid {uid} is one client too many");
    }
    let manages = privileged || is_owner;
    if let Err(error) = converse(Channel::new(socket), &instance, manages).await {
        let name = instance.guest.name();
        tracing::debug!("a client of guest '{name}', uid {uid}, left: {error}");
    }
}

/// Answers one call after the other, until the client hangs up, or wants to be told events.
async fn converse(mut channel: Channel, instance: &Instance, manages: bool) -> io::Result<()> {
    loop {
        let next = tokio::time::timeout(LONGEST_SILENCE, channel.next()).await;
        let Some(message) = next.map_err(|_| io::ErrorKind::TimedOut)?? else { return Ok(()) };
        // Whoever sends anything else does not speak the protocol, in which no answer tells of that.
        let call: Call = serde_json::from_slice(&message.text)?;
        let answer = match instance.subscription(&call, manages) {
            Some(Ok(wanted)) => {
                let following = instance.guest.monitor().follow();
                return events::tell(&mut channel, following, &wanted).await;
            }
            Some(Err(refused)) => Err(refused),
            None => instance.answer(&call, message.fds, manages).await,
        };
        if !call.oneway {
            channel.send(&varlink::reply(answer)).await?;
        }
    }
}
