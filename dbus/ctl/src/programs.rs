//! The product's own programs, asked about definitions by options with which they start nothing.
//!
//! All that is known of QEMU and of the host to judge a definition is known to them, so it is not looked up here a
//! second time, and this program says what a start would say.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use domain::{DomainName, UnitInstance};

use crate::Verdict;

/// The exit status of `glassbox-qemu` for a definition that is refused, glassbox-qemu(1).
const REFUSED: i32 = 3;

/// What a program says of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opinion {
    /// Whether a guest could be started from it.
    pub(crate) verdict: Verdict,
    /// The complaints, one line each; of what is only left out, too.
    pub(crate) lines: Vec<String>,
}

/// Where a definition is that is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// In a file.
    File(&'a Path),
    /// In the first directory of definitions that has this guest's.
    Guest(&'a DomainName),
    /// Nowhere yet: the text, and the file that it will be.
    Text(&'a str, &'a Path),
}

/// What `glassbox-qemu --check` says.
///
/// # Errors
/// When the program cannot be run.
pub(crate) fn translator(subject: Subject<'_>, user: bool) -> Result<Opinion> {
    let program = beside("glassbox-qemu").unwrap_or_else(|| "glassbox-qemu".into());
    let mut command = Command::new(&program);
    command.arg("--check").args(user.then_some("--user"));
    let text = match subject {
        Subject::File(path) => {
            command.arg("--").arg(path);
            ""
        }
        Subject::Guest(name) => {
            command.args(["--instance", UnitInstance::from(name).as_str()]);
            ""
        }
        Subject::Text(text, _) => {
            command.arg("-");
            text
        }
    };
    let output = run(command, text)
        .with_context(|| format!("{}: it is installed with glassboxctl", program.display()))?;
    let verdict = match output.status.code() {
        Some(0) => Verdict::Fine,
        Some(REFUSED) => Verdict::Refused,
        _ => bail!("{} --check failed: {}", program.display(), words(&output.stderr).trim()),
    };
    let lines = words(&output.stdout) + &words(&output.stderr).replace("glassbox-qemu: ", "");
    let lines = lines.lines().map(|line| match subject {
        Subject::Text(_, path) => line.replacen("<stdin>:", &format!("{}:", path.display()), 1),
        Subject::File(_) | Subject::Guest(_) => line.to_owned(),
    });
    Ok(Opinion { verdict, lines: lines.collect() })
}

/// What `glassbox-generator --dry-run` says of the directories of definitions, where there is a generator.
///
/// # Errors
/// When the program cannot be run.
pub(crate) fn generator(user: bool) -> Result<Option<Opinion>> {
    let Some(program) = find_generator(user) else { return Ok(None) };
    let mut command = Command::new(&program);
    command.arg("--dry-run").args(user.then_some("--user"));
    let output = run(command, "").with_context(|| program.display().to_string())?;
    let verdict = if output.status.success() { Verdict::Fine } else { Verdict::Refused };
    let lines = words(&output.stderr).lines().map(str::to_owned).collect();
    Ok(Some(Opinion { verdict, lines }))
}

/// The generator where a service manager finds it, systemd.generator(7).
fn find_generator(user: bool) -> Option<PathBuf> {
    let folder = if user { "user-generators" } else { "system-generators" };
    let installed = ["/run", "/etc", "/usr/local/lib", "/usr/lib"]
        .map(|parent| Path::new(parent).join("systemd").join(folder).join("glassbox-generator"));
    beside("glassbox-generator").or_else(|| installed.into_iter().find(|path| path.exists()))
}

/// The program of this name in the directory of this one.
fn beside(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name(name);
    path.exists().then_some(path)
}

/// Runs a program with a text as its input, and takes what it says.
fn run(mut command: Command, input: &str) -> io::Result<Output> {
    // With this the messages would have the journal's priorities in front.
    command.env_remove("JOURNAL_STREAM");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let pipe = child.stdin.take();
    std::thread::scope(|scope| {
        // It may say much before it has read all.
        scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(input.as_bytes())));
        child.wait_with_output()
    })
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
