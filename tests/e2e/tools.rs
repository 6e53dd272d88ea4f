//! `--print-args` and `--check`: without root, without QEMU, without a bus, and without a container.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tests::{Definition, install};

/// The exit status of glassbox-qemu(1) for a definition with faults.
const FAULTY: i32 = 3;

#[test]
fn arguments_are_printed_one_a_line() -> Result<()> {
    let tools = Tools::install()?;
    // No machine has QEMU there.
    let web = Definition::new("web")?.replace("/usr/bin/qemu-system-x86_64", "/none/qemu")?;
    let file = tools.write("web.xml", web.xml())?;
    let printed = tools.run(&["--print-args", &file], "")?;
    let (stdout, stderr) = texts(&printed);
    assert_eq!((printed.status.code(), stderr), (Some(0), String::new()));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "/none/qemu");
    let after = |option: &str| {
        let at = lines.iter().position(|line| *line == option);
        at.map(|at| lines[at + 1]).with_context(|| format!("there is no {option} in\n{stdout}"))
    };
    assert_eq!(after("-uuid")?, web.uuid());
    assert_eq!(after("-kernel")?, "/var/lib/glassbox/images/vmlinuz");
    assert_eq!(after("-append")?, "console=ttyS0 quiet no_timer_check");
    assert!(after("-blockdev")?.contains(web.disk()), "{stdout}");
    let again = tools.run(&["--print-args", "-"], web.xml())?;
    assert_eq!(texts(&again).0, stdout, "the same from standard input, and each time");
    Ok(())
}

#[test]
fn all_faults_are_told_at_once() -> Result<()> {
    let tools = Tools::install()?;
    let sound = Definition::new("web")?;
    let file = tools.write("web.xml", sound.xml())?;
    let checked = tools.run(&["--check", &file], "")?;
    assert_eq!(checked.status.code(), Some(0), "{:?}", texts(&checked));

    let faulty = sound
        .replace("<on_crash>destroy", "<on_crash>explode")?
        .replace("<target dev=\"vda\" bus", "<target bus")?
        .replace("<vcpu>1<", "<vcpu>two<")?;
    let file = tools.write("web.xml", faulty.xml())?;
    for (words, input, name) in
        [(["--check", &file], "", &*file), (["--check", "-"], faulty.xml(), "<stdin>")]
    {
        let checked = tools.run(&words, input)?;
        let (stdout, stderr) = texts(&checked);
        assert_eq!((checked.status.code(), stderr), (Some(FAULTY), String::new()));
        let faults = [
            ("<vcpu>", "/domain/vcpu"),
            ("<on_crash>", "/domain/on_crash"),
            ("<target bus", "/domain/devices/disk/target"),
        ];
        assert_eq!(stdout.lines().count(), faults.len(), "{stdout}");
        for (line, (at, path)) in stdout.lines().zip(faults) {
            let start = format!("{name}:{}: {path}: ", faulty.place(at)?);
            assert!(line.starts_with(&start), "expected {start}...\n     got {line}");
            assert!(line.contains("; "), "what to do is missing: {line}");
        }
    }
    let started = tools.run(&["--print-args", &file], "")?;
    assert_eq!((started.status.code(), texts(&started).0), (Some(FAULTY), String::new()));
    Ok(())
}

#[test]
fn what_the_unit_carries_out_is_no_complaint_of_its_guest() -> Result<()> {
    let tools = Tools::install()?;
    let limit = "<memtune><hard_limit unit=\"GiB\">1</hard_limit></memtune><vcpu>";
    let web = Definition::new("web")?.replace("<vcpu>", limit)?;
    fs::create_dir_all(tools.0.path().join("glassbox/qemu"))?;
    let file = tools.write("glassbox/qemu/web.xml", web.xml())?;
    let of_file = tools.run(&["--check", &file], "")?;
    assert!(texts(&of_file).0.contains("the guest's unit has this as MemoryMax="), "{of_file:?}");
    let of_unit = tools.run(&["--check", "--user", "--instance", "web"], "")?;
    assert_eq!(texts(&of_unit), (String::new(), String::new()));
    assert_eq!((of_file.status.code(), of_unit.status.code()), (Some(0), Some(0)));
    Ok(())
}

/// The installed programs, in a directory that everybody may read.
struct Tools(TempDir);

impl Tools {
    fn install() -> Result<Self> {
        install::build()?;
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        install::stage(&directory.path().join("root"))?;
        Ok(Self(directory))
    }

    /// Writes a file; gives its path.
    fn write(&self, name: &str, content: &str) -> Result<String> {
        let path = self.0.path().join(name);
        fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    /// Runs glassbox-qemu with an empty environment, as nobody if this process is root.
    fn run(&self, words: &[&str], input: &str) -> Result<Output> {
        let program = self.0.path().join("root/usr/bin/glassbox-qemu");
        let mut command = unprivileged(&program);
        command.args(words).env_clear().current_dir(self.0.path());
        command.env("XDG_CONFIG_HOME", self.0.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        child.stdin.take().context("it was asked for")?.write_all(input.as_bytes())?;
        Ok(child.wait_with_output()?)
    }
}

fn unprivileged(program: &Path) -> Command {
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
        return Command::new(program);
    }
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
    command.args(["--inh-caps=-all", "--no-new-privs"]).arg(program);
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
