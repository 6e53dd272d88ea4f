//! File descriptors that the guest's caller opened, used in place of opening.
//!
//! A device takes what its name has: an interface its alias (`net0`, once for each pair of queues) and for the
//! kernel's help `net0-vhost`, a vsock its alias, a disk its target or the group of its `<source fdgroup>`, the images
//! that the disk's own is a layer of `vda.1`, `vda.2` and so on, an image's file of data `vda.data`, firmware in flash
//! `pflash0` and its variables `pflash1`, KVM `kvm`. What is no such thing is refused, and so is a name that no
//! device takes.

use std::collections::BTreeMap;
use std::fmt;

use domain::Place;

use crate::command::Command;
use crate::plan::{Access, FdKind, HostCache};

/// The name of KVM's device.
pub(crate) const KVM: &str = "kvm";

/// What the caller opened, by name. Of one name there may be several, in the caller's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited(BTreeMap<String, Vec<Opened>>);

/// What a file descriptor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A pair of queues of a tap or macvtap device.
    Tap,
    /// `/dev/vhost-net`.
    VhostNet,
    /// `/dev/vhost-vsock`.
    VhostVsock,
    /// `/dev/kvm`.
    Kvm,
    /// A regular file.
    File(Access),
    /// A block device.
    Block(Access),
    /// Something that no guest uses, in words such as "a socket".
    Other(String),
}

impl FromIterator<(String, Opened)> for Inherited {
    fn from_iter<I: IntoIterator<Item = (String, Opened)>>(fds: I) -> Self {
        let mut names: BTreeMap<String, Vec<Opened>> = BTreeMap::new();
        for (name, opened) in fds {
            names.entry(name).or_default().push(opened);
        }
        Self(names)
    }
}

impl Inherited {
    /// Whether something was opened under this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether this was opened, under any name.
    #[must_use]
    pub fn has_any(&self, opened: &Opened) -> bool {
        self.0.values().flatten().any(|it| it == opened)
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap => f.write_str("a tap device"),
            Self::VhostNet => f.write_str("/dev/vhost-net"),
            Self::VhostVsock => f.write_str("/dev/vhost-vsock"),
            Self::Kvm => f.write_str("/dev/kvm"),
            Self::File(access) => write!(f, "a file open for {}", words(*access)),
            Self::Block(access) => write!(f, "a block device open for {}", words(*access)),
            Self::Other(what) => f.write_str(what),
        }
    }
}

fn words(access: Access) -> &'static str {
    match access {
        Access::Read => "reading only",
        Access::ReadWrite => "reading and writing",
        Access::Write => "writing only",
    }
}

/// Which names the guest's devices take, and which of them they took.
#[derive(Debug, Default)]
pub(crate) struct Names {
    offered: Vec<String>,
    taken: Vec<String>,
}

impl Command<'_> {
    /// Passes on what the caller opened under `name`, each of which must be `wanted`; the results are the
    /// numbers in QEMU. Nothing when the caller opened none.
    pub(crate) fn inherits(
        &mut self,
        name: &str,
        wanted: &Opened,
        place: &Place,
    ) -> Option<Vec<i32>> {
        self.inherits_cached(name, wanted, None, place)
    }

    fn inherits_cached(
        &mut self,
        name: &str,
        wanted: &Opened,
        cache: Option<&HostCache>,
        place: &Place,
    ) -> Option<Vec<i32>> {
        if !self.names.offered.iter().any(|offered| offered == name) {
            self.names.offered.push(name.to_owned());
        }
        let launch = self.launch;
        let opened = launch.inherited.0.get(name)?;
        if self.names.taken.iter().any(|taken| taken == name) {
            let what = format!("the file descriptor '{name}' serves another device already");
            self.refuse(place, format!("{what}; give this one another name"));
        }
        self.names.taken.push(name.to_owned());
        for fd in opened.iter().filter(|fd| *fd != wanted) {
            let what = format!("the file descriptor '{name}' is {fd}, and {wanted} is wanted");
            self.refuse(place, format!("{what}; open that"));
        }
        let kinds = (0..opened.len()).map(|index| {
            let (name, cache) = (name.to_owned(), cache.cloned());
            FdKind::Inherited { name, index, cache }
        });
        Some(kinds.map(|kind| self.pass_fd(kind)).collect())
    }

    /// As [`Self::inherits`], a descriptor for each of `count` pairs of queues.
    pub(crate) fn inherits_queues(
        &mut self,
        name: &str,
        wanted: &Opened,
        count: u16,
        place: &Place,
    ) -> Option<Vec<i32>> {
        let fds = self.inherits(name, wanted, place)?;
        if fds.len() != usize::from(count) {
            let what = format!("the file descriptors '{name}' are {} in number", fds.len());
            self.refuse(place, format!("{what}; give {count}, one for each pair of queues"));
        }
        Some(fds)
    }

    /// As [`Self::inherits`], as a set; the result is the path by which QEMU's options name it.
    pub(crate) fn inherits_set(
        &mut self,
        name: &str,
        wanted: &Opened,
        place: &Place,
    ) -> Option<String> {
        let fds = self.inherits(name, wanted, place)?;
        Some(self.fd_set(&fds, name))
    }

    /// As [`Self::inherits_set`], for an image.
    pub(crate) fn inherits_image(
        &mut self,
        name: &str,
        wanted: &Opened,
        cache: &HostCache,
    ) -> Option<String> {
        let fds = self.inherits_cached(name, wanted, Some(cache), &cache.place)?;
        Some(self.fd_set(&fds, name))
    }
}

/// Refuses what the caller opened for no device.
pub(crate) fn refuse_unused(command: &Command<'_>) {
    let names = &command.names;
    let unused = command.launch.inherited.0.keys().filter(|name| !names.taken.contains(name));
    let takes = match names.offered.as_slice() {
        [] => "it takes none".to_owned(),
        offered => format!("those that it takes are {}", offered.join(", ")),
    };
    for name in unused {
        let what = format!("no device of the guest takes a file descriptor '{name}'; {takes}");
        command.refuse(&command.domain.place, what);
    }
}
