//! The command line in the making, with all that it takes along.

use domain::{Domain, Faults, MemorySize, Place};

use crate::argv::{Argv, Options};
use crate::facts::HostFacts;
use crate::inherited::Names;
use crate::json::{Json, Object};
use crate::launch::Launch;
use crate::overrides;
use crate::pinning;
use crate::plan::{
    Access, Console, CopiedFile, DisplayPassword, FdKind, GuestReady, Helper, HostFile, LaunchPlan,
    PassedFd, PassedPci, TunedThread, UnpluggedLink, VsockNumber, WrittenFile,
};
use crate::ports;

/// First descriptor that is passed: 0 to 2 are the standard ones.
const FIRST_FD: i32 = 3;

/// How QEMU comes by descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wiring {
    /// It inherits them, by their numbers.
    Inherited,
    /// A running QEMU is sent them over a monitor, by names and as sets.
    Sent,
}

/// Descriptors that are passed as one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FdSet {
    /// The number of the set.
    pub(crate) number: u32,
    /// The descriptors, by the numbers of [`PassedFd`].
    pub(crate) fds: Vec<i32>,
    /// What they are for.
    pub(crate) purpose: String,
}

/// What one device of a running guest takes.
#[derive(Debug)]
pub(crate) struct Fragment {
    /// QEMU's options, as for its command line.
    pub(crate) arguments: Vec<String>,
    /// The descriptors.
    pub(crate) fds: Vec<PassedFd>,
    /// Those of them that are passed as sets.
    pub(crate) sets: Vec<FdSet>,
    /// Files of the host.
    pub(crate) files: Vec<HostFile>,
    /// Network devices whose cable is unplugged.
    pub(crate) unplugged: Vec<UnpluggedLink>,
    /// Whether the device takes more than can be given to a QEMU that runs.
    pub(crate) needs_start: bool,
}

/// The command line in the making.
#[derive(Debug)]
pub(crate) struct Command<'a> {
    /// The domain, complete and with aliases.
    pub(crate) domain: &'a Domain,
    /// The host.
    pub(crate) facts: &'a HostFacts,
    /// How this start differs from others.
    pub(crate) launch: &'a Launch,
    /// Where faults go.
    pub(crate) faults: &'a Faults,
    /// The arguments so far.
    pub(crate) argv: Argv,
    /// Which inherited descriptors the devices take.
    pub(crate) names: Names,
    fds: Vec<PassedFd>,
    files: Vec<HostFile>,
    copies: Vec<CopiedFile>,
    written: Vec<WrittenFile>,
    consoles: Vec<Console>,
    /// Aliases of ports with the sockets at which QEMU serves them.
    sockets: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    passwords: Vec<DisplayPassword>,
    balloon: Option<u64>,
    helpers: Vec<Helper>,
    wiring: Wiring,
    /// The number of the next set.
    next_set: u32,
    /// The sets that a running QEMU is sent.
    sets: Vec<FdSet>,
    pci_devices: Vec<PassedPci>,
    unplugged: Vec<UnpluggedLink>,
    threads: Vec<TunedThread>,
    /// What the guest says when it is ready.
    pub(crate) ready: Option<GuestReady>,
    /// The number of a vsock that a program serves.
    pub(crate) vsock: Option<VsockNumber>,
}

impl<'a> Command<'a> {
    pub(crate) fn new(
        domain: &'a Domain,
        facts: &'a HostFacts,
        launch: &'a Launch,
        faults: &'a Faults,
    ) -> Self {
        Self {
            domain,
            facts,
            launch,
            faults,
            argv: Argv::default(),
            names: Names::default(),
            fds: Vec::new(),
            files: Vec::new(),
            consoles: Vec::new(),
            sockets: Vec::new(),
            balloon: None,
            helpers: Vec::new(),
            copies: Vec::new(),
            written: Vec::new(),
            environment: Vec::new(),
            passwords: Vec::new(),
            wiring: Wiring::Inherited,
            next_set: 0,
            sets: Vec::new(),
            pci_devices: Vec::new(),
            unplugged: Vec::new(),
            threads: Vec::new(),
            ready: None,
            vsock: None,
        }
    }

    /// As [`Self::new`], for a device of a QEMU that runs, whose sets of descriptors have numbers below `first_set`.
    pub(crate) fn to_running(
        domain: &'a Domain,
        facts: &'a HostFacts,
        launch: &'a Launch,
        faults: &'a Faults,
        first_set: u32,
    ) -> Self {
        let command = Self::new(domain, facts, launch, faults);
        Self { wiring: Wiring::Sent, next_set: first_set, ..command }
    }

    /// What was collected for a device of a QEMU that runs.
    pub(crate) fn into_fragment(self) -> Fragment {
        let needs_start = !(self.copies.is_empty()
            && self.written.is_empty()
            && self.consoles.is_empty()
            && self.environment.is_empty()
            && self.passwords.is_empty()
            && self.helpers.is_empty()
            && self.pci_devices.is_empty());
        Fragment {
            arguments: self.argv.into_arguments(),
            fds: self.fds,
            sets: self.sets,
            files: self.files,
            unplugged: self.unplugged,
            needs_start,
        }
    }

    /// The plan, with what was collected on the way.
    pub(crate) fn into_plan(self) -> LaunchPlan {
        let emulator = self.domain.devices.emulator.as_ref().unwrap_or(&self.facts.emulator);
        LaunchPlan {
            emulator: emulator.clone(),
            arguments: self.argv.into_arguments(),
            fds: self.fds,
            files: self.files,
            copies: self.copies,
            written: self.written,
            consoles: self.consoles,
            ports: ports::of(self.domain, &self.sockets),
            environment: self.environment,
            passwords: self.passwords,
            balloon: self.balloon,
            helpers: self.helpers,
            pci_devices: self.pci_devices,
            unplugged: self.unplugged,
            threads: self.threads,
            quotas: pinning::quotas(self.domain),
            ready: self.ready,
            vsock: self.vsock,
        }
    }

    /// Adds a `-device`, changed as the domain says by its id.
    pub(crate) fn device(&mut self, device: &Object) {
        self.check_device(device);
        match overrides::applied(self.domain, device) {
            Some(changed) => self.argv.json("-device", &changed),
            None => self.argv.json("-device", device),
        }
    }

    /// Refuses what this QEMU was built without, or is too old for.
    fn check_device(&self, device: &Object) {
        let place = self.domain.place.child("devices");
        if let Some(Json::Text(driver)) = device.get("driver")
            && self.facts.lacks(driver)
        {
            let what = format!(
                "this QEMU has no device '{driver}'; install the package of QEMU's that has it, or use another model"
            );
            self.refuse(&place, what);
        }
        if device.get("iothread-vq-mapping").is_some() && !self.facts.abilities.iothread_mapping {
            let what = "this QEMU cannot spread queues over threads, 9.0 can; use <driver iothread='N'> instead of <iothreads>";
            self.refuse(&place, what);
        }
    }

    /// Adds an `-object`.
    pub(crate) fn object(&mut self, object: &Object) {
        self.argv.json("-object", object);
    }

    /// Passes a descriptor on; the result is its number in QEMU.
    pub(crate) fn pass_fd(&mut self, kind: FdKind) -> i32 {
        let number = i32::try_from(self.fds.len()).map_or(i32::MAX, |count| FIRST_FD + count);
        self.fds.push(PassedFd { number, kind });
        number
    }

    /// Passes a descriptor on as a set, `-add-fd`; the result is the path by which QEMU's options name it.
    pub(crate) fn pass_fd_set(&mut self, kind: FdKind, purpose: &str) -> String {
        let fd = self.pass_fd(kind);
        self.fd_set(&[fd], purpose)
    }

    /// Makes a set of descriptors that are passed on; the result is the path by which QEMU's options name it.
    pub(crate) fn fd_set(&mut self, fds: &[i32], purpose: &str) -> String {
        let number = self.next_set;
        self.next_set += 1;
        match self.wiring {
            Wiring::Inherited => {
                for fd in fds {
                    let options =
                        Options::pair("set", number).set("fd", *fd).set("opaque", purpose);
                    self.argv.options("-add-fd", options);
                }
            }
            Wiring::Sent => {
                self.sets.push(FdSet { number, fds: fds.to_vec(), purpose: purpose.to_owned() });
            }
        }
        crate::bound_volumes::set_path(number)
    }

    /// How an option of QEMU's calls a descriptor that is passed.
    pub(crate) fn fd_word(&self, fd: i32) -> String {
        match self.wiring {
            Wiring::Inherited => fd.to_string(),
            Wiring::Sent => sent_name(fd),
        }
    }

    /// Notes a file that must exist before QEMU is started, and that QEMU opens by its path.
    pub(crate) fn needs_file(&mut self, path: &str, access: Access, place: &Place) {
        self.files.push(HostFile {
            path: path.into(),
            access,
            descriptor: None,
            place: place.clone(),
        });
    }

    /// Notes a file that must exist before QEMU is started, and that the caller may open under the name `descriptor`.
    pub(crate) fn needs_openable(
        &mut self,
        path: &str,
        access: Access,
        descriptor: String,
        place: &Place,
    ) {
        let (path, descriptor) = (path.to_owned(), Some(descriptor));
        self.files.push(HostFile { path, access, descriptor, place: place.clone() });
    }

    /// Notes a file that is made of its template when it is missing.
    pub(crate) fn copies_file(&mut self, file: CopiedFile) {
        self.copies.push(file);
    }

    /// Notes a file whose content QEMU reads instead of the command line.
    pub(crate) fn writes_file(&mut self, path: &str, content: &str) {
        self.written.push(WrittenFile { path: path.to_owned(), content: content.to_owned() });
    }

    /// Notes a character device whose host side is a pty.
    pub(crate) fn offers_console(&mut self, chardev: String, alias: &str) {
        self.consoles.push(Console { chardev, alias: alias.to_owned() });
    }

    /// Notes a character device that QEMU serves at a Unix socket.
    pub(crate) fn serves_port(&mut self, alias: &str, path: &str) {
        self.sockets.push((alias.to_owned(), path.to_owned()));
    }

    /// Notes a PCI device of the host.
    pub(crate) fn takes_pci(&mut self, device: PassedPci) {
        self.pci_devices.push(device);
    }

    /// Notes a network device whose cable is unplugged before the guest runs.
    pub(crate) fn unplugs(&mut self, device: &str, place: &Place) {
        self.unplugged.push(UnpluggedLink { device: device.to_owned(), place: place.clone() });
    }

    /// Notes threads that have CPUs of the host or a policy of their own.
    pub(crate) fn tunes_thread(&mut self, thread: TunedThread) {
        self.threads.push(thread);
    }

    /// Sets a variable of QEMU's environment.
    pub(crate) fn sets_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Notes a password that a display's clients must know.
    pub(crate) fn sets_password(&mut self, password: DisplayPassword) {
        self.passwords.push(password);
    }

    /// Notes how much memory the balloon is to leave the guest.
    pub(crate) fn inflates_balloon(&mut self, left: MemorySize) {
        self.balloon = Some(left.bytes());
    }

    /// Notes a program that serves the guest beside QEMU.
    pub(crate) fn needs_helper(&mut self, helper: Helper) {
        self.helpers.push(helper);
    }

    /// Reports that what stands at `place` is left out of the guest.
    pub(crate) fn ignore(&self, place: &Place, what: impl Into<String>) {
        self.faults.push(place.ignored(what));
    }

    /// Refuses the domain because of the element at `place`.
    pub(crate) fn refuse(&self, place: &Place, what: impl Into<String>) {
        self.faults.push(place.refused(what));
    }
}

/// The name by which a running QEMU is sent a descriptor. It begins with a letter, or QEMU would take it for a number
/// (`monitor_fd_param` in its `monitor/fds.c`).
pub(crate) fn sent_name(fd: i32) -> String {
    format!("glassbox{fd}")
}
