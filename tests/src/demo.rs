//! Where the demo runs: in a container, or on this machine when systemd runs it.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::install::{self, repository};
use crate::layer::put;
use crate::process::{self, Output, stream};
use crate::skip::is_root;
use crate::{Host, Root, Setup, guest, packages};

/// The container's name, for `testhost run demo`.
const NAME: &str = "demo";

/// A system with systemd as PID 1, on which the product is installed.
#[derive(Debug)]
pub enum Place {
    /// A container of the test host.
    Container(Box<Host>),
    /// This machine.
    Machine,
}

/// Asks where to run when there is a choice, and sets the place up.
///
/// # Errors
///
/// When this process isn't root, the product doesn't build, or the place cannot be set up.
pub fn choose() -> Result<Place> {
    if !is_root() {
        bail!("the demo boots a container, which needs root; run 'sudo make demo'");
    }
    prepare()?;
    if Path::new("/run/systemd/system").is_dir() && wants_machine()? {
        set_up_machine()?;
        return Ok(Place::Machine);
    }
    if Host::attach(NAME).is_ok() {
        eprintln!("[demo] taking down the container of an earlier demo");
    }
    Host::clear(NAME)?;
    let setup = Setup::new(Root::Trixie).name(NAME).product()?.guest()?;
    // Nobody would stop the container of a demo that nobody watches.
    let kept = std::env::var_os("CI").is_none();
    let setup = if kept { setup.kept() } else { setup };
    let host = setup.boot()?;
    eprintln!("[demo] a container with {} is up, the product installed in it", version(&host)?);
    Ok(Place::Container(Box::new(host)))
}

impl Place {
    /// Runs a shell script, its output on this terminal; gives its exit status.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn show(&self, script: &str) -> Result<i32> {
        match self {
            Self::Container(host) => host.command(["/bin/sh", "-c", script]).interactive(),
            Self::Machine => {
                let status = shell(script).status().context("/bin/sh cannot be started")?;
                Ok(process::exit_status(status))
            }
        }
    }

    /// Runs a shell script for its output.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn ask(&self, script: &str) -> Result<Output> {
        match self {
            Self::Container(host) => host.run(["/bin/sh", "-c", script]),
            Self::Machine => {
                let done = shell(script).output().context("/bin/sh cannot be started")?;
                Ok(Output {
                    command: script.to_owned(),
                    status: process::exit_status(done.status),
                    stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
                })
            }
        }
    }

    /// Writes a file, owned by root and readable by all.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        match self {
            Self::Container(host) => host.write_file(path, content),
            Self::Machine => put(Path::new("/"), path, content, 0o644),
        }
    }

    /// What a reader may try now.
    #[must_use]
    pub fn next_steps(&self) -> String {
        match self {
            Self::Container(host) => {
                let testhost = std::env::current_exe().unwrap_or_default();
                let testhost = testhost.with_file_name("testhost");
                let (testhost, name) = (testhost.display(), host.name());
                format!(
                    "Enter the container as root:\n    {testhost} run {name} bash\n{TRIES}\n\
                     Remove the container:\n    {testhost} stop {name}"
                )
            }
            Self::Machine => format!(
                "{TRIES}\nRemove the guest, then the product:\n    \
                 rm {DEFINITION} && systemctl daemon-reload\n    make uninstall PREFIX=/usr"
            ),
        }
    }

    /// Leaves the place as it is, or takes the container down when it isn't to be kept.
    pub fn leave(self) {
        drop(self);
    }
}

/// Where the demo's domain is defined.
pub const DEFINITION: &str = "/etc/glassbox/qemu/demo.xml";

/// What to try when the demo is over, on the system where it ran.
const TRIES: &str = "\
Start the guest again:
    systemctl start qemu@demo
See its console (leave with Ctrl-]):
    socat -,raw,echo=0,escape=0x1d /run/glassbox/guest/demo/serial0
Press its power button through machined:
    machinectl poweroff demo
See what a crash looks like:
    systemctl kill --signal=KILL qemu@demo; systemctl status qemu@demo
Start it at every boot:
    mkdir -p /etc/glassbox/qemu/autostart; ln -s ../demo.xml /etc/glassbox/qemu/autostart/";

/// Builds the product while the root and the guest are downloaded: on a fresh machine each takes minutes.
fn prepare() -> Result<()> {
    std::thread::scope(|scope| {
        let built = scope.spawn(install::build);
        guest::prepare(Root::Trixie)?;
        built.join().map_err(|_| anyhow!("the build's thread panicked"))?
    })
}

/// systemd runs this machine; a person at the terminal may want the demo right here.
fn wants_machine() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!(
        "systemd runs this machine. Install the product and run the demo on it, not in a container? [y/N] "
    );
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn set_up_machine() -> Result<()> {
    packages::require(&[
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("qemu-img", "qemu-utils"),
        ("machinectl", "systemd-container"),
    ])?;
    let layer = guest::prepare(Root::Trixie)?;
    let log = repository().join("target/demo-install.log");
    let repository = repository().display().to_string();
    stream("install", &log, ["make", "-C", &repository, "install", "PREFIX=/usr"])?;
    let images = Path::new(guest::IMAGES);
    fs::create_dir_all(images)?;
    for file in ["vmlinuz", "initrd"] {
        let from = layer.join(guest::IMAGES.trim_start_matches('/')).join(file);
        fs::copy(from, images.join(file))?;
    }
    let script = "systemd-sysusers; systemd-tmpfiles --create; systemctl reload dbus.service";
    for script in [script, &guest::disk_script()] {
        stream("install", &log, ["/bin/sh", "-euc", script])?;
    }
    Ok(())
}

fn version(host: &Host) -> Result<String> {
    let script = "systemctl --version | head -n 1 | cut -d' ' -f1,2; qemu-system-x86_64 --version | head -n 1";
    Ok(host.sh(script)?.stdout.trim().replace('\n', " and "))
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}
