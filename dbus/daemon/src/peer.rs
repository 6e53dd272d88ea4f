//! The registry's socket: D-Bus from peer to peer, for clients that cannot reach a bus.
//!
//! Pods and other mount namespaces get this one socket; and a host may have more guests than its bus takes
//! connections. The kernel tells who is at the other end (`SO_PEERCRED`, socket(7)), so there is no `Hello`.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use dbus_api::{ACCOUNT, ROOT_PATH};
use tokio::net::{UnixListener, UnixStream};
use zbus::Guid;
use zbus::connection::Builder;

use crate::caller::{Admission, Caller};
use crate::keeper::KeeperHandle;
use crate::registry::{Origin, Registry};
use crate::sasl::Handshake;
use crate::sparing::Sparing;
use crate::stream;

/// How long a client may take to authenticate.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long to wait when no connection can be accepted, for lack of file descriptors say.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections one account other than root may have; a client needs one, for a moment.
const MOST_OF_AN_ACCOUNT: usize = 128;

/// Serves the registry on a listening socket for as long as the daemon runs.
pub(crate) async fn serve(listener: UnixListener, keeper: KeeperHandle, admission: Admission) {
    let (crowd, crowded, stuck) = (Crowd::default(), Sparing::default(), Sparing::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match crowd.admit(&stream) {
                Ok(place) => {
                    let client = converse(stream, keeper.clone(), admission);
                    tokio::spawn(async move {
                        if let Err(error) = client.await {
                            tracing::debug!("a client of the registry socket left: {error:#}");
                        }
                        drop(place);
                    });
                }
                Err(why) => {
                    if let Some(left_out) = crowded.line() {
                        tracing::warn!(
                            "a client of the registry socket is hung up on: {why}{left_out}"
                        );
                    }
                }
            },
            Err(error) => {
                if let Some(left_out) = stuck.line() {
                    tracing::warn!(
                        "no client of the registry socket can be accepted now: {error}{left_out}"
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// How many connections each account has.
#[derive(Debug, Default, Clone)]
struct Crowd(Arc<Mutex<HashMap<u32, usize>>>);

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
struct Place {
    crowd: Crowd,
    uid: u32,
}

impl Crowd {
    /// A place for a client, if its account has not too many.
    fn admit(&self, stream: &UnixStream) -> anyhow::Result<Place> {
        let uid = stream.peer_cred().context("no credentials")?.uid();
        let mut counts = self.counts();
        let count = counts.entry(uid).or_default();
        anyhow::ensure!(
            uid == 0 || *count < MOST_OF_AN_ACCOUNT,
            "uid {uid} has {MOST_OF_AN_ACCOUNT} connections already"
        );
        *count += 1;
        Ok(Place { crowd: self.clone(), uid })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

/// Serves one client until it closes its connection. Its claims live on.
async fn converse(
    stream: UnixStream,
    keeper: KeeperHandle,
    admission: Admission,
) -> anyhow::Result<()> {
    let credentials = stream.peer_cred().context("no credentials")?;
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    let pid = pid.context("its process is not visible in the daemon's pid namespace")?;
    let caller = Caller { pid, uid: credentials.uid() };
    let guid = Guid::generate();
    let handshake = Handshake::new(guid.to_string());
    let stream = tokio::time::timeout(HANDSHAKE, stream::authenticate(stream, handshake))
        .await
        .with_context(|| format!("pid {pid} did not authenticate in {HANDSHAKE:?}"))?
        .with_context(|| format!("pid {pid} is disconnected"))?;
    let connection = Builder::authenticated_socket(stream, guid)
        .p2p()
        .serve_at(ROOT_PATH, Registry { keeper, admission, origin: Origin::Peer(caller) })
        .build()
        .await?;
    connection.closed().await;
    Ok(())
}

/// A socket file that the daemon made, and takes away when it ends.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Binds the registry's socket, for when systemd passes none.
///
/// # Errors
/// When another daemon serves the path, or the file system refuses.
pub(crate) fn bind(path: &Path) -> anyhow::Result<(StdListener, SocketFile)> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => anyhow::bail!("{}: another daemon serves it; stop that one first", path.display()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
                .with_context(|| format!("cannot remove the stale {}", path.display()))?;
        }
        // Nothing is there; whatever else is wrong, bind says so.
        Err(_) => {}
    }
    let listener =
        StdListener::bind(path).with_context(|| format!("cannot bind {}", path.display()))?;
    let file = SocketFile(path.to_owned());
    restrict(path).with_context(|| format!("cannot restrict {}", path.display()))?;
    Ok((listener, file))
}

/// Lets only root and the shim's account connect, as `glassboxd.socket` does.
///
/// The daemon checks each caller again, so the moment between bind and here lets nobody in.
fn restrict(path: &Path) -> anyhow::Result<()> {
    if nix::unistd::geteuid().is_root()
        && let Some(user) = nix::unistd::User::from_name(ACCOUNT)?
    {
        chown(path, None, Some(user.gid.as_raw()))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(())
}
