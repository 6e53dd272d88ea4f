//! The system calls that neither nix nor rustix offers safely: fork and exec, real-time signals, file descriptors
//! that the caller left open, ioctls of network and vhost devices, masks of more than 1024 CPUs, and what else a child
//! must get as this process did.
//!
//! All of the program's `unsafe` is here.
#![allow(unsafe_code)] // The only file of the program that may; see the module's documentation.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::CpuSet;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::unistd::Pid;
use qemu::Invocation;

/// The first file descriptor after standard input, output and error.
pub(crate) const FIRST_FD: RawFd = 3;

/// What a terminal sends to all processes of its foreground group. A child has them blocked: Ctrl-C is a request
/// to the shim, which asks the guest to power down, and would make QEMU end at once.
const TERMINAL_SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP];

/// A signal that arrived at a [`SignalSource`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// The signal's number.
    pub(crate) number: i32,
    /// The kernel sent it, as a terminal does for Ctrl-C; not a process by kill(2).
    pub(crate) from_kernel: bool,
}

/// The signals that ask something of the shim, blocked and read from a file descriptor (signalfd(2)).
#[derive(Debug)]
pub(crate) struct SignalSource {
    file: File,
    /// The mask that a child gets: the one that this process was started with, and [`TERMINAL_SIGNALS`].
    for_children: libc::sigset_t,
    /// What this process was started to do with SIGCHLD, for children as well.
    inherited_chld: libc::sighandler_t,
}

impl SignalSource {
    /// Blocks the signals in `numbers`. Call it before any thread exists.
    pub(crate) fn block(numbers: &[i32]) -> io::Result<Self> {
        let mut wanted = MaybeUninit::<libc::sigset_t>::uninit();
        let mut inherited = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set it is given, so that sigaddset and sigprocmask find an
        // initialised one; sigprocmask fills `inherited` when it returns 0, and it is read only then; signal sets
        // no function of this program's. signalfd returns a descriptor that nobody else owns, or -1.
        unsafe {
            libc::sigemptyset(wanted.as_mut_ptr());
            for number in numbers {
                check(libc::sigaddset(wanted.as_mut_ptr(), *number))?;
            }
            check(libc::sigprocmask(libc::SIG_BLOCK, wanted.as_ptr(), inherited.as_mut_ptr()))?;
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            let fd = check(libc::signalfd(-1, wanted.as_ptr(), flags))?;
            // Where it is ignored, a child's end leaves nothing to wait for, QEMU's included (wait(2)).
            let inherited_chld = libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            let mut for_children = inherited.assume_init();
            for number in TERMINAL_SIGNALS {
                check(libc::sigaddset(&raw mut for_children, number))?;
            }
            Ok(Self { file: File::from_raw_fd(fd), for_children, inherited_chld })
        }
    }

    /// The file descriptor to poll.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The next signal that arrived, if there is one.
    pub(crate) fn next(&mut self) -> io::Result<Option<Arrived>> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut bytes = [0u8; SIZE];
        match self.file.read(&mut bytes) {
            Ok(SIZE) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        // SAFETY: the kernel filled all of the structure, which is plain integers, and the read is unaligned.
        let info: libc::signalfd_siginfo =
            unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
        let number = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
        Ok(Some(Arrived { number, from_kernel: info.ssi_code == libc::SI_KERNEL }))
    }
}

/// A file descriptor that this process inherited.
///
/// # Errors
/// When nothing is open at this number, or this process opened it itself or has taken it over before.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_GETFD only asks, of any number.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    if flags & libc::FD_CLOEXEC != 0 {
        // It would not have survived the caller's exec: this process opened it, or has taken it over before.
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number is open and was never taken over, so this descriptor is the only owner.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// A process to start, which inherits everything but file descriptors from 3 on and the signal mask.
#[derive(Debug)]
pub(crate) struct Spawn<'a> {
    /// Path of the program.
    pub(crate) program: &'a str,
    /// Arguments after the program's name.
    pub(crate) arguments: &'a [String],
    /// Variables that are set on top of the environment of this process; of two of a name the later one counts.
    pub(crate) environment: &'a [(String, String)],
    /// Where its messages go; none is to those of this process.
    pub(crate) stderr: Option<&'a OwnedFd>,
    /// What the process finds open as 3, 4, ...
    pub(crate) fds: Vec<OwnedFd>,
    /// Whose mask for children it gets.
    pub(crate) signals: &'a SignalSource,
}

impl Spawn<'_> {
    /// Starts the process. It dies with this one, by SIGKILL.
    ///
    /// # Errors
    /// What execve(2) or an earlier step in the child said; the child is then gone and reaped.
    pub(crate) fn start(self) -> io::Result<Pid> {
        let program = CString::new(self.program)?;
        let mut strings = vec![program.clone()];
        for argument in self.arguments {
            strings.push(CString::new(argument.as_str())?);
        }
        let mut pointers: Vec<*const libc::c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());

        let variables = environment(self.environment)?;
        let mut variable_pointers: Vec<*const libc::c_char> =
            variables.iter().map(|variable| variable.as_ptr()).collect();
        variable_pointers.push(std::ptr::null());

        // Sources above every target, so that no dup2 in the child overwrites one that is still needed.
        let count = RawFd::try_from(self.fds.len()).map_err(io::Error::other)?;
        let after = FIRST_FD + count;
        let sources: Vec<OwnedFd> =
            self.fds.into_iter().map(|fd| above(fd, after)).collect::<Result<_, _>>()?;
        let (report, reporter) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let reporter = above(reporter, after)?;
        let raw_sources: Vec<RawFd> = sources.iter().map(AsRawFd::as_raw_fd).collect();

        let child = Child {
            program: program.as_ptr(),
            arguments: pointers.as_ptr(),
            environment: variable_pointers.as_ptr(),
            stderr: self.stderr.map(AsRawFd::as_raw_fd),
            sources: &raw_sources,
            reporter: reporter.as_raw_fd(),
            mask: &self.signals.for_children,
            chld: self.signals.inherited_chld,
            // SAFETY: getpid has no condition.
            parent: unsafe { libc::getpid() },
        };
        // SAFETY: the process has one thread, so the child may do anything; it keeps to async-signal-safe
        // calls all the same and never returns from `run`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            child.run();
        }
        let pid = Pid::from_raw(check(pid)?);
        drop(reporter);
        let mut error = [0u8; 4];
        match File::from(report).read(&mut error)? {
            0 => Ok(pid),
            _ => {
                nix::sys::wait::waitpid(pid, None)?;
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(error)))
            }
        }
    }
}

/// Runs a program to its end, with all that this process has but what the service manager said to it alone.
///
/// # Errors
/// When it cannot be found or executed.
pub(crate) fn run(invocation: &Invocation) -> io::Result<ExitStatus> {
    command(invocation).status()
}

/// Becomes another program, which finds `fds` open from [`FIRST_FD`] on; `activated` is whether its environment says of
/// the first one that it is a listening socket (sd_listen_fds(3)). It returns only when that fails.
pub(crate) fn become_program(
    invocation: &Invocation,
    fds: Vec<OwnedFd>,
    activated: bool,
) -> io::Error {
    let mut command = command(invocation);
    if activated {
        command.env("LISTEN_PID", std::process::id().to_string()).env("LISTEN_FDS", "1");
    }
    match pass(fds) {
        Ok(()) => command.exec(),
        Err(error) => error,
    }
}

/// Gives these file descriptors the numbers from [`FIRST_FD`] on, which a program keeps that this process becomes.
fn pass(fds: Vec<OwnedFd>) -> io::Result<()> {
    let after = FIRST_FD + RawFd::try_from(fds.len()).map_err(io::Error::other)?;
    // Above every target, so that no dup2 overwrites one that is still needed.
    let sources: Vec<OwnedFd> =
        fds.into_iter().map(|fd| above(fd, after)).collect::<Result<_, _>>()?;
    for (target, source) in (FIRST_FD..).zip(&sources) {
        // SAFETY: dup2 has no condition on numbers. Nothing that this process holds open is used any more: it becomes
        // another program, or reports the error and ends.
        check(unsafe { libc::dup2(source.as_raw_fd(), target) })?;
    }
    Ok(())
}

fn command(invocation: &Invocation) -> Command {
    let mut command = Command::new(&invocation.program);
    command.args(&invocation.arguments);
    for variable in ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(variable);
    }
    command
}

/// What the child needs between fork and exec, made before the fork so that it allocates nothing.
struct Child<'a> {
    program: *const libc::c_char,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
    stderr: Option<RawFd>,
    sources: &'a [RawFd],
    reporter: RawFd,
    mask: &'a libc::sigset_t,
    chld: libc::sighandler_t,
    parent: libc::pid_t,
}

impl Child<'_> {
    fn run(&self) -> ! {
        let errno = match self.exec() {
            Ok(never) => match never {},
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        let bytes = errno.to_ne_bytes();
        // SAFETY: `bytes` is valid for its length; _exit ends the child without running anything of the
        // parent's. A failed write leaves the parent with an end of file and the child's status 127.
        unsafe {
            libc::write(self.reporter, bytes.as_ptr().cast(), bytes.len());
            libc::_exit(127)
        }
    }

    fn exec(&self) -> io::Result<std::convert::Infallible> {
        // SAFETY: each call is async-signal-safe and gets plain numbers, or pointers to memory that `start`
        // holds until the child has its own image: the arrays of arguments and variables end with a null
        // pointer and their strings with NUL, the mask was filled by sigprocmask, and what SIGCHLD did came from signal.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if libc::getppid() != self.parent {
                // The parent died before prctl took effect, so its death would never be signalled.
                libc::_exit(127);
            }
            if let Some(stderr) = self.stderr {
                check(libc::dup2(stderr, libc::STDERR_FILENO))?;
            }
            let mut target = FIRST_FD;
            for source in self.sources {
                check(libc::dup2(*source, target))?;
                target += 1;
            }
            let first = libc::c_uint::try_from(target).unwrap_or_default();
            let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).unwrap_or_default();
            check(libc::close_range(first, libc::c_uint::MAX, flags))?;
            libc::signal(libc::SIGCHLD, self.chld);
            // Rust's runtime ignores SIGPIPE, which would survive exec.
            libc::signal(libc::SIGPIPE, PIPE_ACTION.load(Ordering::Relaxed));
            check(libc::sigprocmask(libc::SIG_SETMASK, self.mask, std::ptr::null_mut()))?;
            libc::execve(self.program, self.arguments, self.environment);
        }
        Err(io::Error::last_os_error())
    }
}

/// What is added to UTC for the host's local time at this moment, in seconds.
pub(crate) fn local_offset(now: i64) -> i64 {
    let mut local = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: localtime_r reads the time and fills `local` unless it returns null, and `local` is read only then. It
    // reads the environment, which nothing changes meanwhile: the process has one thread.
    unsafe {
        if libc::localtime_r(&raw const now, local.as_mut_ptr()).is_null() {
            return 0;
        }
        local.assume_init().tm_gmtoff
    }
}

/// Room for as many CPUs as a [`CpuSet`] can name, in words of bits as a 64-bit kernel has them.
type CpuMask = [u64; CPU_WORDS];

/// Enough for the 16384 numbers of a set.
const CPU_WORDS: usize = 256;

/// The CPUs on which this thread may run, and a process that it starts (sched_getaffinity(2)).
pub(crate) fn affinity() -> io::Result<CpuSet> {
    let mut mask: CpuMask = [0; CPU_WORDS];
    // SAFETY: the kernel writes at most the size that it is told; cpu_set_t is an array of such words, and the
    // call takes one of any size (CPU_ALLOC(3)).
    check(unsafe { libc::sched_getaffinity(0, size_of::<CpuMask>(), (&raw mut mask).cast()) })?;
    let words = (0u32..).zip(mask);
    let cpus = words.flat_map(|(word, bits)| {
        (0..u64::BITS)
            .filter(move |bit| bits >> bit & 1 == 1)
            .map(move |bit| word * u64::BITS + bit)
    });
    CpuSet::from_numbers(cpus).ok_or_else(|| io::Error::other("there is no CPU among them"))
}

/// Has a thread run on these CPUs only (sched_setaffinity(2)).
pub(crate) fn set_affinity(thread: Pid, cpus: &CpuSet) -> io::Result<()> {
    let mut mask: CpuMask = [0; CPU_WORDS];
    for cpu in cpus.iter() {
        mask[(cpu / u64::BITS) as usize] |= 1 << (cpu % u64::BITS);
    }
    // SAFETY: the kernel reads at most the size that it is told; see `affinity` for the type.
    check(unsafe {
        libc::sched_setaffinity(thread.as_raw(), size_of::<CpuMask>(), (&raw const mask).cast())
    })
    .map(drop)
}

/// Gives a thread a policy of the scheduler and its priority (sched_setscheduler(2)).
pub(crate) fn set_scheduler(thread: Pid, policy: i32, priority: i32) -> io::Result<()> {
    // SAFETY: all of the structure is one number, or numbers for which zero is a value.
    let mut parameters: libc::sched_param = unsafe { MaybeUninit::zeroed().assume_init() };
    parameters.sched_priority = priority;
    // SAFETY: the kernel only reads the structure, which lives beyond the call.
    check(unsafe { libc::sched_setscheduler(thread.as_raw(), policy, &raw const parameters) })
        .map(drop)
}

/// `struct ifreq` as tun devices use it (linux/if.h).
#[repr(C)]
#[derive(Debug, Default)]
struct TapRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    /// The rest of the union, of which the kernel copies all.
    rest: [u8; 22],
}

/// The flags of the device behind a queue of a tap, tun or macvtap device (`TUNGETIFF`, linux/if_tun.h).
///
/// # Errors
/// ENOTTY or EBADFD when there is none.
pub(crate) fn tap_flags(queue: impl AsFd) -> io::Result<libc::c_int> {
    let mut request = TapRequest::default();
    tap_ioctl(queue, libc::TUNGETIFF, &mut request)?;
    Ok(libc::c_int::from(request.flags))
}

/// Makes an open `/dev/net/tun` a queue of the device `name`, which is made when there is none. In a new name the
/// kernel puts the first free number for `%d`. The result is the name (`TUNSETIFF`, linux/if_tun.h).
///
/// # Errors
/// What the kernel says, such as EPERM to an account that neither owns the device nor may make one.
pub(crate) fn attach_tap(queue: impl AsFd, name: &str, flags: libc::c_int) -> io::Result<String> {
    let mut request =
        TapRequest { flags: flags.try_into().map_err(io::Error::other)?, ..TapRequest::default() };
    // The last byte stays NUL.
    let room = request.name[..libc::IFNAMSIZ - 1].get_mut(..name.len());
    room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
    tap_ioctl(queue, libc::TUNSETIFF, &mut request)?;
    let name = request.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Gives a guest's vsock, an open `/dev/vhost-vsock`, its number (`VHOST_VSOCK_SET_GUEST_CID`, linux/vhost.h).
///
/// # Errors
/// EADDRINUSE when another guest has the number.
pub(crate) fn set_guest_cid(vsock: impl AsFd, cid: u32) -> io::Result<()> {
    let request = libc::_IOW::<u64>(0xaf, 0x60);
    let cid = u64::from(cid);
    // SAFETY: the descriptor is open, and the request reads the eight bytes of a number.
    check(unsafe { libc::ioctl(vsock.as_fd().as_raw_fd(), request, std::ptr::from_ref(&cid)) })?;
    Ok(())
}

fn tap_ioctl(queue: impl AsFd, what: libc::Ioctl, request: &mut TapRequest) -> io::Result<()> {
    let queue = queue.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and both requests read and write no more than a struct ifreq, whose size
    // `TapRequest` has.
    check(unsafe { libc::ioctl(queue, what, std::ptr::from_mut(request)) })?;
    Ok(())
}

/// Gives the pages of the program's code back to the page cache.
///
/// What read the XML and planned the guest is most of the program and is not needed beside the guest; what is
/// comes back by page faults, from memory. Failing costs nothing but the memory, so nothing is reported.
pub(crate) fn release_code() {
    let (Ok(maps), Ok(program)) =
        (std::fs::read_to_string("/proc/self/maps"), std::env::current_exe())
    else {
        return;
    };
    for line in maps.lines().filter(|line| line.ends_with(&*program.to_string_lossy())) {
        let Some((start, end)) = code_range(line) else { continue };
        // SAFETY: the range is a mapping of the program's file that is executable and not writable, so its
        // pages equal the file's, and MADV_DONTNEED (madvise(2)) makes the next access read them again.
        unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(start),
                end - start,
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// Gives what was freed back to the kernel: reading QEMU's own description takes megabytes for a moment.
pub(crate) fn release_heap() {
    // SAFETY: malloc_trim has no condition; it only touches memory that is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The addresses of an executable mapping that is not writable, of a line of proc_pid_maps(5).
fn code_range(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let code = fields.next()? == "r-xp";
    let address = |text| usize::from_str_radix(text, 16).ok();
    code.then_some((address(start)?, address(end)?))
}

/// The environment of this process, to the byte, with `changes` on top.
fn environment(changes: &[(String, String)]) -> io::Result<Vec<CString>> {
    let mut variables = inherited_environment();
    for (name, value) in changes {
        let variable = CString::new(format!("{name}={value}"))?;
        let assigned = &variable.as_bytes()[..=name.len()];
        variables.retain(|other| !other.as_bytes().starts_with(assigned));
        variables.push(variable);
    }
    Ok(variables)
}

/// What this process was started with, in its order. The standard library leaves out what has no name.
fn inherited_environment() -> Vec<CString> {
    unsafe extern "C" {
        // environ(7)
        static environ: *const *const libc::c_char;
    }
    let mut variables = Vec::new();
    // SAFETY: the array ends with a null pointer and its strings with NUL, and nobody changes it: the process has
    // one thread, which sets no variable.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            variables.push(CStr::from_ptr(*next).to_owned());
            next = next.add(1);
        }
    }
    variables
}

/// What SIGPIPE did when this process was started, SIG_DFL or SIG_IGN. A child gets it back.
static PIPE_ACTION: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);

/// Runs [`remember_pipe_action`] before Rust's runtime, which ignores SIGPIPE before it calls `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER_PIPE_ACTION: extern "C" fn() = remember_pipe_action;

extern "C" fn remember_pipe_action() {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: sigaction fills `action` when it returns 0, and it is read only then. The C library is ready when it
    // runs the functions of .init_array, and nothing of Rust's runtime is used.
    unsafe {
        if libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) == 0 {
            PIPE_ACTION.store(action.assume_init().sa_sigaction, Ordering::Relaxed);
        }
    }
}

/// The same open file at a number of at least `first`.
fn above(fd: OwnedFd, first: RawFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= first {
        return Ok(fd);
    }
    let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(first))?;
    // SAFETY: F_DUPFD_CLOEXEC returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

#[cfg(test)]
#[path = "sys_tests.rs"]
mod inheritance;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_arrive_with_their_sender() {
        let mut signals = SignalSource::block(&[libc::SIGRTMIN() + 4]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        // SAFETY: raise has no condition; the signal is blocked in this thread.
        assert_eq!(unsafe { libc::raise(libc::SIGRTMIN() + 4) }, 0);
        let arrived = Arrived { number: libc::SIGRTMIN() + 4, from_kernel: false };
        assert_eq!(signals.next().unwrap(), Some(arrived));
    }
}
