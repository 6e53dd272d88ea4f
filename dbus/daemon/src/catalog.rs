//! The guests that files define, by UUID, read anew when a directory changes.
//!
//! A file is read again only when it is another one than before, so that one change among a thousand files costs the
//! reading of one. What is no definition that can be started is not among them: its unit says what is wrong.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::tree;
use domain::{DomainName, DomainUuid, Faults, Header, TemplateInstance, definition_text};
use tokio::sync::{mpsc, oneshot};

use crate::definitions::{self, Definitions, DefinitionsFault};
use crate::inventory::Listing;
use crate::publisher::Publication;
use crate::watch::Watch;

/// How long to wait for other changes before the files are read: whoever writes one often writes several.
const GATHER: Duration = Duration::from_millis(50);

/// How many wait at most for the files to be read; more wait until they may wait.
const QUEUE: usize = 16;

/// The machine's id, machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";

/// What was read of the files that define guests.
#[derive(Debug)]
pub(crate) struct Catalog {
    definitions: Arc<Definitions>,
    read: HashMap<DomainName, Entry>,
}

/// A file that was read.
#[derive(Debug, Clone, Copy)]
struct Entry {
    stamp: Stamp,
    /// None of a definition that cannot be started.
    uuid: Option<DomainUuid>,
}

/// What tells a file from what it was: device, inode, size, and when it was changed.
type Stamp = (u64, u64, u64, i64, i64);

/// Has the files read at once, and returns when the bus knows of them.
#[derive(Debug, Clone)]
pub(crate) struct Rereading(mpsc::Sender<oneshot::Sender<()>>);

/// Whom [`Rereading`] asks.
pub(crate) type Requests = mpsc::Receiver<oneshot::Sender<()>>;

impl Rereading {
    /// It, and what it asks.
    pub(crate) fn new() -> (Self, Requests) {
        let (sender, requests) = mpsc::channel(QUEUE);
        (Self(sender), requests)
    }

    /// Returns when clients see the files as they are.
    pub(crate) async fn done(&self) {
        let (done, read) = oneshot::channel();
        if self.0.send(done).await.is_ok() {
            // It ends with the daemon only.
            drop(read.await);
        }
    }
}

impl Catalog {
    /// A catalog of which nothing is read yet.
    pub(crate) fn new(definitions: Arc<Definitions>) -> Self {
        Self { definitions, read: HashMap::new() }
    }

    /// Reads what changed, and tells which guests there are now. A guest that is there only while it runs is not one.
    ///
    /// Others are served between two files. A thread for that would leave its stack and its part of the heap behind.
    pub(crate) async fn read(&mut self) -> Listing {
        let machine_id = machine_id();
        let mut read = HashMap::new();
        let mut listing = Listing::new();
        for name in self.definitions.list().into_keys() {
            tokio::task::yield_now().await;
            if name.is_template() || self.definitions.is_transient(&name) {
                continue;
            }
            let Some((file, template)) = self.file(&name) else { continue };
            let Some(stamp) = stamp(&file) else { continue };
            let known = self.read.get(&name).filter(|entry| entry.stamp == stamp);
            let uuid = match known {
                Some(entry) => entry.uuid,
                None => identify(&file, &name, template, machine_id),
            };
            if let Some(uuid) = uuid
                && let Some(other) = listing.get(&uuid)
            {
                tracing::warn!(
                    "guests '{other}' and '{name}' are defined with one UUID, {uuid}; give one another"
                );
            } else if let Some(uuid) = uuid {
                listing.insert(uuid, name.clone());
            }
            read.insert(name, Entry { stamp, uuid });
        }
        self.read = read;
        listing
    }

    /// The file that defines a guest, and whether that is its template's: a link may say that it is one of those.
    fn file(&self, name: &DomainName) -> Option<(PathBuf, bool)> {
        let file = self.definitions.find(name)?.file;
        let template = TemplateInstance::of(name).filter(|instance| {
            fs::read_link(&file).is_ok_and(|target| instance.is_declared_by(&target))
        });
        match template {
            Some(instance) => Some((self.definitions.find(&instance.template())?.file, true)),
            None => Some((file, false)),
        }
    }
}

/// Tells the bus which guests are defined, for as long as the daemon runs.
///
/// Without a watch only changes of the daemon's own are seen.
pub(crate) async fn follow(
    mut catalog: Catalog,
    mut watch: Option<Watch>,
    mut requests: Requests,
    publisher: mpsc::UnboundedSender<Publication>,
) {
    loop {
        let mut waiting = Vec::new();
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => waiting.push(request),
                None => return,
            },
            () = changed(watch.as_mut()) => tokio::time::sleep(GATHER).await,
        }
        while let Ok(request) = requests.try_recv() {
            waiting.push(request);
        }
        watch.iter_mut().for_each(Watch::renew);
        let listing = catalog.read().await;
        let (done, published) = oneshot::channel();
        if publisher.send(Publication::Defined { listing, done }).is_err() {
            return;
        }
        drop(published.await);
        for request in waiting {
            // Who asked may have given up.
            let _ = request.send(());
        }
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// The UUID of the guest that a file defines, by the rule of glassbox-qemu(1); none of what it refuses.
fn identify(
    file: &Path,
    name: &DomainName,
    is_template: bool,
    machine_id: Option<[u8; 16]>,
) -> Option<DomainUuid> {
    let bytes = definitions::contents(file).inspect_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            let fault = DefinitionsFault::Unreadable(file.to_owned());
            tracing::warn!("guest '{name}' is not shown while it does not run: {fault}");
        }
    });
    let bytes = bytes.ok()?;
    let mut root = definition_text(&bytes).and_then(tree::parse).ok()?;
    let faults = Faults::new();
    if let Some(instance) = TemplateInstance::of(name).filter(|_| is_template) {
        instance.fill(&mut root, &faults);
    }
    let header = Header::read(&root, &faults);
    if header.misfiled(&root, name).is_some() || !faults.into_sorted().is_empty() {
        return None;
    }
    header.uuid.or_else(|| machine_id.map(|id| DomainUuid::derived(id, name)))
}

fn stamp(file: &Path) -> Option<Stamp> {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

/// The machine's id, as glassbox-qemu reads it; without one a guest without a UUID has another one each time.
fn machine_id() -> Option<[u8; 16]> {
    let id: DomainUuid = fs::read_to_string(MACHINE_ID).ok()?.trim().parse().ok()?;
    Some(*id.as_bytes())
}
