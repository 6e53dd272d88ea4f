//! What the generator adds to a boot: time for none to 10,000 guests, and the memory it takes.
//!
//! A guest is 5 KiB of what virt-install writes. Beside each time stands that of `cp -r` for the same files,
//! those read and those written, in the same run and taken in turns: it is what the disk and the kernel take
//! of it. Beside none stands a program that does nothing. Guests with everything have a TPM, a shared directory and
//! a network by passt, each a unit of its own, limits and a virtual network; every tenth is made of a template. `cargo bench --package glassbox-generator [-- ROUNDS]`.
// The table is this program's product.
#![allow(clippy::print_stdout)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use tempfile::TempDir;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const GENERATOR: &str = env!("CARGO_BIN_EXE_glassbox-generator");

/// The word by which this program calls itself to run another and tell its memory.
const MEMORY_OF: &str = "--memory-of";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((MEMORY_OF, program)) =
        arguments.split_first().map(|(first, rest)| (first.as_str(), rest))
    {
        return memory_of(program);
    }
    let rounds = arguments.iter().find_map(|word| word.parse().ok()).unwrap_or(21);
    println!(
        "glassbox-generator, medians of {rounds} rounds taken in turns, on {}",
        place().display()
    );
    println!("  guests              generator        beside       ratio    memory");
    for guests in [0, 1, 100, 1_000, 10_000] {
        row(guests, "plain", &Host::with(guests, plain)?, rounds)?;
    }
    for guests in [1, 100, 1_000, 10_000] {
        row(guests, "everything", &Host::with(guests, everything)?, rounds)?;
    }
    Ok(())
}

fn row(guests: usize, kind: &str, host: &Host, rounds: usize) -> Result<()> {
    let (own, beside) = host.rounds(rounds)?;
    println!(
        "  {guests:6} {kind:10}  {:7.2} ms  {:7.2} ms {:5}  {:5.2}  {:5} KiB",
        milliseconds(own),
        milliseconds(beside),
        if guests == 0 { "true" } else { "cp -r" },
        own.as_secs_f64() / beside.as_secs_f64(),
        host.memory()?,
    );
    Ok(())
}

/// Writes the definition of a guest below `/etc/glassbox`.
fn plain(configuration: &Path, number: usize) -> Result<()> {
    let (name, text) = named(include_str!("guest.xml"), number);
    Ok(fs::write(configuration.join(format!("qemu/{name}.xml")), text)?)
}

fn named(text: &str, number: usize) -> (String, String) {
    let name = format!("guest-{number}");
    let uuid = format!("c7a5fdbd-edaf-9455-926a-{number:012x}");
    let text = text.replace("@NAME@", &name).replace("@UUID@", &uuid);
    (name, text)
}

/// Writes the definition of a guest with all that makes more units of it, and what it has in common with others.
fn everything(configuration: &Path, number: usize) -> Result<()> {
    let network = number / 100;
    let text = include_str!("guest.xml")
        .replace("</uuid>", "</uuid><memtune><hard_limit unit='GiB'>9</hard_limit></memtune>")
        .replace("</vcpu>", "</vcpu><cputune><shares>200</shares></cputune>")
        .replace("<interface type='bridge'>", "<interface type='network'>")
        .replace("bridge='br0'", &format!("network='net-{network}'"))
        .replace("<memballoon", &format!("{SERVED}<memballoon"));
    let (name, text) = named(&text, number);
    let guest = configuration.join(format!("qemu/{name}.xml"));
    if number.is_multiple_of(100) {
        let file = configuration.join(format!("networks/net-{network}.xml"));
        fs::write(file, NETWORK.replace("@NUMBER@", &network.to_string()))?;
        let (uuid, template) = (line_of(&text, "<uuid>"), configuration.join("qemu/worker@.xml"));
        fs::write(template, text.replace(uuid, "").replace(&name, "%p@%i"))?;
    }
    if number.is_multiple_of(10) {
        let entry = configuration.join(format!("qemu/autostart/worker@{number}.xml"));
        return Ok(symlink("../worker@.xml", entry)?);
    }
    Ok(fs::write(guest, text)?)
}

/// The line of a text that has this in it.
fn line_of<'t>(text: &'t str, part: &str) -> &'t str {
    text.lines().find(|line| line.contains(part)).unwrap_or_default()
}

/// Devices that programs beside QEMU serve.
const SERVED: &str = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
    <filesystem type='mount'><driver type='virtiofs'/>
      <source dir='/srv/@NAME@'/><target dir='data'/></filesystem>
    <interface type='user'><backend type='passt'/><model type='virtio'/></interface>
    ";

const NETWORK: &str = "<network><name>net-@NUMBER@</name><forward mode='nat'/>
    <ip address='10.@NUMBER@.0.1' prefix='16'><dhcp>
    <range start='10.@NUMBER@.1.0' end='10.@NUMBER@.9.0'/></dhcp></ip></network>";

/// Where the files are: in memory, as systemd's directories of generated units are.
fn place() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// A root with guests, and room for what becomes of them.
struct Host {
    directory: TempDir,
    guests: usize,
}

impl Host {
    fn with(guests: usize, define: fn(&Path, usize) -> Result<()>) -> Result<Self> {
        let host = Self { directory: tempfile::tempdir_in(place())?, guests };
        let configuration = host.path("root/etc/glassbox");
        for folder in ["qemu/autostart", "networks"] {
            fs::create_dir_all(configuration.join(folder))?;
        }
        for number in 0..guests {
            define(&configuration, number)?;
        }
        Ok(host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn generator(&self) -> Command {
        let mut command = Command::new(GENERATOR);
        command.env("GLASSBOX_ROOT", self.path("root"));
        command.args(["units", "early", "late"].map(|name| self.path(name)));
        command
    }

    /// What the generator is compared with, once it has run and its units are there to be copied too.
    fn beside(&self) -> Command {
        if self.guests == 0 {
            return Command::new("true");
        }
        let mut command = Command::new("cp");
        command.arg("-r").arg(self.path("root")).arg(self.path("units")).arg(self.path("copy"));
        command
    }

    /// The medians of the generator's time and of the other's.
    fn rounds(&self, rounds: usize) -> Result<(Duration, Duration)> {
        let (mut own, mut beside) = (Vec::new(), Vec::new());
        // The first round warms caches and isn't counted.
        for round in 0..=rounds {
            empty(&self.path("units"))?;
            let took = timed(self.generator())?;
            let made = self.made()?;
            if made != self.guests {
                return Err(format!("{made} units of {} guests", self.guests).into());
            }
            empty(&self.path("copy"))?;
            let other = timed(self.beside())?;
            if round > 0 {
                own.push(took);
                beside.push(other);
            }
        }
        Ok((median(own), median(beside)))
    }

    /// How many guests have a drop-in.
    fn made(&self) -> Result<usize> {
        let mut made = 0;
        for entry in fs::read_dir(self.path("units"))? {
            let name = entry?.file_name();
            made += usize::from(name.to_string_lossy().starts_with("qemu@"));
        }
        // Templates have one in common.
        Ok(made - usize::from(self.path("units/qemu@.service.d").exists()))
    }

    /// The generator's peak of resident memory in KiB.
    fn memory(&self) -> Result<u64> {
        let generator = self.generator();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(MEMORY_OF).arg(generator.get_program()).args(generator.get_args());
        command.env("GLASSBOX_ROOT", self.path("root"));
        Ok(String::from_utf8(command.output()?.stdout)?.trim().parse()?)
    }
}

/// Runs a program and prints the peak of its resident memory in KiB.
///
/// The kernel counts what the process held before it became the program, hence a process of its own that has
/// held little: the figure is the program's or this one's at its start, whichever is larger.
fn memory_of(program: &[String]) -> Result<()> {
    let (name, arguments) = program.split_first().ok_or("no program")?;
    timed_command(Command::new(name).args(arguments))?;
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}

fn timed(mut command: Command) -> Result<Duration> {
    timed_command(&mut command)
}

fn timed_command(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).status()?;
    let took = start.elapsed();
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}").into()) }
}

fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(fs::create_dir(directory)?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
