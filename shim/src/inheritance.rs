//! The file descriptors that the caller opened for the guest's devices: those that `--fd` names, and those that
//! systemd passes by `OpenFile=` or from a socket (sd_listen_fds(3)).
//!
//! What each of them is is looked up here; whether a device wants it is decided by the plan.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};
use qemu::{Access, Inherited, Opened};

use crate::cli::NamedFd;
use crate::sys;

/// Major number of the devices below (`MISC_MAJOR`, linux/major.h).
const MISC: u64 = 10;
/// Minor numbers of devices (linux/miscdevice.h).
const TUN: u64 = 200;
const KVM: u64 = 232;
const VHOST_NET: u64 = 238;
const VHOST_VSOCK: u64 = 241;

/// The caller's file descriptors by name; of one name there may be several, in the caller's order.
#[derive(Debug, Default)]
pub(crate) struct Inheritance(BTreeMap<String, Vec<Option<OwnedFd>>>);

/// Why the caller's file descriptors cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritanceError {
    /// The environment contradicts itself.
    #[error(
        "LISTEN_FDS={count} with LISTEN_FDNAMES={names} does not say what is open; see sd_listen_fds(3)"
    )]
    Announced { count: String, names: String },
    /// There is no such file descriptor.
    #[error("--fd {name}={number}: {source}; open it before this program is started")]
    Absent { name: String, number: RawFd, source: io::Error },
    /// Two names for one file descriptor.
    #[error("--fd {name}={number}: '{other}' has this file descriptor; give each its own")]
    Twice { name: String, number: RawFd, other: String },
}

impl Inheritance {
    /// Takes the caller's file descriptors over, to close them when the guest has them.
    ///
    /// Call it before this process opens anything: a number that the caller did not open would be its own.
    pub(crate) fn take(named: &[NamedFd]) -> Result<Self, InheritanceError> {
        let mut all = named.to_vec();
        all.extend(announced(|name| std::env::var(name).ok(), std::process::id())?);
        let mut taken = Self::default();
        for (index, NamedFd { name, number }) in all.iter().enumerate() {
            if let Some(other) = all[..index].iter().find(|other| other.number == *number) {
                let (name, other) = (name.clone(), other.name.clone());
                return Err(InheritanceError::Twice { name, number: *number, other });
            }
            let fd = sys::inherited(*number).map_err(|source| InheritanceError::Absent {
                name: name.clone(),
                number: *number,
                source,
            })?;
            taken.0.entry(name.clone()).or_default().push(Some(fd));
        }
        Ok(taken)
    }

    /// What there is, as the planner takes it.
    pub(crate) fn found(&self) -> Inherited {
        let fds = self.0.iter().flat_map(|(name, fds)| fds.iter().map(move |fd| (name, fd)));
        fds.filter_map(|(name, fd)| Some((name.clone(), identify(fd.as_ref()?)))).collect()
    }

    /// The file descriptor of this name, the first of several, to be looked at.
    pub(crate) fn peek(&self, name: &str) -> Option<&OwnedFd> {
        self.0.get(name)?.first()?.as_ref()
    }

    /// The names of what there is.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Takes out what has a name with this beginning; of several of one name the first.
    pub(crate) fn extract(&mut self, prefix: &str) -> BTreeMap<String, OwnedFd> {
        let (extracted, rest) =
            std::mem::take(&mut self.0).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.0 = rest;
        let extracted: BTreeMap<String, Vec<Option<OwnedFd>>> = extracted;
        extracted
            .into_iter()
            .filter_map(|(name, fds)| Some((name, fds.into_iter().next()??)))
            .collect()
    }

    /// The file descriptor of this name and place, once.
    pub(crate) fn release(&mut self, name: &str, index: usize) -> Option<OwnedFd> {
        self.0.get_mut(name)?.get_mut(index)?.take()
    }
}

/// The file descriptors that systemd passes to the process `own`, numbered from 3 on (sd_listen_fds(3)).
fn announced(
    variable: impl Fn(&str) -> Option<String>,
    own: u32,
) -> Result<Vec<NamedFd>, InheritanceError> {
    let addressed = variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) == Some(own);
    let Some(count) = variable("LISTEN_FDS").filter(|_| addressed) else { return Ok(Vec::new()) };
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let named = names.split(':').map(str::to_owned).zip(sys::FIRST_FD..);
    let fds: Vec<NamedFd> = named.map(|(name, number)| NamedFd { name, number }).collect();
    match count.parse() {
        Ok(0) => Ok(Vec::new()),
        Ok(count) if count == fds.len() => Ok(fds),
        Ok(_) | Err(_) => Err(InheritanceError::Announced { count, names }),
    }
}

/// What a file descriptor is.
pub(crate) fn identify(fd: &OwnedFd) -> Opened {
    let (Ok(file), Ok(flags)) = (fstat(fd), fcntl(fd, FcntlArg::F_GETFL)) else {
        return Opened::Other("closed".to_owned());
    };
    let flags = OFlag::from_bits_retain(flags);
    if flags.contains(OFlag::O_PATH) {
        return Opened::Other("open as a path only".to_owned());
    }
    let access = match flags & OFlag::O_ACCMODE {
        OFlag::O_RDWR => Access::ReadWrite,
        OFlag::O_WRONLY => Access::Write,
        _ => Access::Read,
    };
    match kind(&file) {
        SFlag::S_IFREG => Opened::File(access),
        SFlag::S_IFBLK => Opened::Block(access),
        SFlag::S_IFCHR => character_device(fd, &file),
        SFlag::S_IFSOCK => Opened::Other("a socket".to_owned()),
        SFlag::S_IFIFO => Opened::Other("a pipe".to_owned()),
        SFlag::S_IFDIR => Opened::Other("a directory".to_owned()),
        _ => Opened::Other(path(fd)),
    }
}

fn kind(file: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT
}

fn character_device(fd: &OwnedFd, file: &FileStat) -> Opened {
    match (major(file.st_rdev), minor(file.st_rdev)) {
        (MISC, KVM) => Opened::Kvm,
        (MISC, VHOST_NET) => Opened::VhostNet,
        (MISC, VHOST_VSOCK) => Opened::VhostVsock,
        // A macvtap device has a number that is not fixed, and knows this question as well.
        (major, minor) => match sys::tap_flags(fd) {
            Ok(flags) if flags & libc::IFF_TAP != 0 => Opened::Tap,
            Ok(_) => Opened::Other("a tun device, which carries no Ethernet".to_owned()),
            Err(_) if (major, minor) == (MISC, TUN) => {
                Opened::Other("/dev/net/tun with no tap device attached".to_owned())
            }
            Err(_) => Opened::Other(format!("the character device {}", path(fd))),
        },
    }
}

fn path(fd: &OwnedFd) -> String {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::read_link(&link).map_or(link, |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::FdFlag;
    use std::fs::File;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_open_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = |read, write| File::options().read(read).write(write).open(file.path()).unwrap();
        let device = |path| File::open(path).unwrap();
        let other = |what: &str| Opened::Other(what.to_owned());
        let cases: [(OwnedFd, Opened); 7] = [
            (open(true, false).into(), Opened::File(Access::Read)),
            (open(true, true).into(), Opened::File(Access::ReadWrite)),
            (open(false, true).into(), Opened::File(Access::Write)),
            (device("/dev/zero").into(), other("the character device /dev/zero")),
            (device("/").into(), other("a directory")),
            (UnixStream::pair().unwrap().0.into(), other("a socket")),
            (nix::unistd::pipe().unwrap().0, other("a pipe")),
        ];
        for (fd, opened) in cases {
            assert_eq!(identify(&fd), opened);
        }
    }

    #[test]
    fn a_descriptor_has_a_name_and_a_number_above_the_standard_ones() {
        let named = |name: &str, number| Ok(NamedFd { name: name.to_owned(), number });
        assert_eq!("net0=3".parse::<NamedFd>(), named("net0", 3));
        for (wrong, what) in [
            ("net0", "there is no '='; give one such as net0=3"),
            ("=3", "the name is missing; give one such as net0=3"),
            ("net0=x", "'x' is no number; give one such as 3"),
            ("net0=1", "0 to 2 are QEMU's input, output and messages; give 3 or more"),
            ("net0=-1", "0 to 2 are QEMU's input, output and messages; give 3 or more"),
        ] {
            assert_eq!(wrong.parse::<NamedFd>(), Err(what.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn what_systemd_passes_is_named_and_for_this_process_alone() {
        let told = |pid: &'static str, count: &'static str, names: &'static str| {
            let variable = move |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                "LISTEN_FDNAMES" => Some(names.to_owned()),
                _ => None,
            };
            announced(variable, 7).map_err(|error| error.to_string())
        };
        let named = |name: &str, number| NamedFd { name: name.to_owned(), number };
        assert_eq!(told("7", "2", "vda:net0"), Ok(vec![named("vda", 3), named("net0", 4)]));
        assert_eq!(told("8", "2", "vda:net0"), Ok(Vec::new()), "another process's");
        assert_eq!(told("7", "0", ""), Ok(Vec::new()));
        assert!(announced(|_| None, 7).unwrap().is_empty());
        for (count, names) in [("2", "vda"), ("1", "vda:net0"), ("x", "vda"), ("-1", "vda")] {
            let wrong = format!(
                "LISTEN_FDS={count} with LISTEN_FDNAMES={names} does not say what is open; see sd_listen_fds(3)"
            );
            assert_eq!(told("7", count, names), Err(wrong));
        }
    }

    /// The number of a file that is open as a caller leaves it for the program that it executes.
    fn left_open() -> RawFd {
        let file = File::open("/dev/zero").unwrap();
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        file.into_raw_fd()
    }

    #[test]
    fn a_descriptor_is_the_callers_and_released_once() {
        let named = |name: &str, number| NamedFd { name: name.to_owned(), number };
        let told = |fds: &[NamedFd]| Inheritance::take(fds).unwrap_err().to_string();
        let absent = "Bad file descriptor (os error 9); open it before this program is started";
        let own = File::open("/dev/zero").unwrap();
        for number in [1_000_000, own.as_raw_fd()] {
            assert_eq!(told(&[named("a", number)]), format!("--fd a={number}: {absent}"));
        }
        let number = left_open();
        let mut taken = Inheritance::take(&[named("vda", number)]).unwrap();
        let found = taken.found();
        assert!(found.has("vda") && !found.has("vdb"));
        assert!(taken.release("vda", 0).is_some());
        assert!(taken.release("vda", 0).is_none());
        let number = left_open();
        let twice = format!("--fd vdb={number}: 'vda' has this file descriptor; give each its own");
        assert_eq!(told(&[named("vda", number), named("vdb", number)]), twice);
    }
}
