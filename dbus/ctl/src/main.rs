//! `glassboxctl`: what neither systemctl, machinectl nor virsh does for guests that are units.
//!
//! It looks at definitions and takes over those of libvirt. It starts no guest: that is systemd's, and what it wants to
//! know of a definition it asks the programs that will use it, by options with which they start nothing.

mod check;
mod cli;
mod import;
mod programs;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use domain::{SearchPath, UserEnvironment};

use crate::cli::{Cli, Verb};

/// What a run comes to, for the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nothing was refused.
    Fine,
    /// Something was, and was told.
    Refused,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Check(wanted) => check::check(&wanted),
        Verb::Import(wanted) => import::import(&wanted),
        Verb::Completions { shell } => completions(shell),
    };
    match done {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Refused) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A script for a shell, on standard output.
fn completions(shell: clap_complete::Shell) -> anyhow::Result<Verdict> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "glassboxctl", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Verdict::Fine)
}

/// A line for the person who called, on standard error.
fn complain(line: &str) {
    // When standard error is closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "glassboxctl: {line}");
}

/// The directories of definitions, of the system or of the user by this process's environment.
fn search_path(user: bool) -> SearchPath {
    if user { SearchPath::user(&user_environment()) } else { SearchPath::system() }
}

fn user_environment() -> UserEnvironment {
    UserEnvironment::of(|name| std::env::var_os(name))
}
