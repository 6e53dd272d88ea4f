//! `glassbox-qemu`: starts a guest from a libvirt domain XML file and stays beside it until it ends.
//!
//! ```text
//! Prepared (read, planned, checked) -> Claimed (name and UUID are ours) -> Started (QEMU runs) -> Fate
//! ```
//!
//! It needs no privilege and no daemon, changes nothing that it inherited, never ends before QEMU did and never
//! leaves QEMU behind. It is one thread: what follows a fork and a signal mask depends on that.

mod cli;
mod consoles;
mod definition;
mod facts;
mod fate;
mod fds;
mod guest;
mod host_files;
mod identity;
mod keeper;
mod launch;
mod log;
mod orders;
mod pinning;
mod prepare;
mod provide;
mod registry;
mod runtime_dir;
mod service_manager;
mod supervise;
mod sys;
mod thread_groups;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use domain::{SearchPath, UnitInstance};
use sd_notify::NotifyState;

use crate::cli::Cli;
use crate::definition::Source;
use crate::fate::Status;
use crate::launch::LaunchError;
use crate::prepare::{PrepareError, Prepared, Purpose};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let source = match source(&cli) {
        Ok(source) => source,
        Err(message) => return failed(Status::Definition, &message),
    };
    let status = if cli.check {
        check(&source)
    } else if cli.print_args {
        print(&source, |prepared| {
            let mut lines = vec![prepared.plan.emulator];
            lines.extend(prepared.plan.arguments);
            lines
        })
    } else if cli.print_xml {
        print(&source, |prepared| prepared.domain.write().lines().map(str::to_owned).collect())
    } else {
        run(&cli, &source)
    };
    status.into()
}

fn source(cli: &Cli) -> Result<Source, String> {
    match (&cli.instance, &cli.file) {
        (Some(instance), _) => {
            let name = UnitInstance::try_from(instance.as_str())
                .and_then(|instance| instance.domain_name())
                .map_err(|error| format!("--instance {instance}: {error}"))?;
            let search =
                if cli.user { definition::user_search_path() } else { SearchPath::system() };
            Ok(Source::Named { name, search })
        }
        (None, Some(file)) => Ok(Source::File(file.clone())),
        (None, None) => Ok(Source::File(PathBuf::from("-"))),
    }
}

/// `--check`: all faults and all parts left out, on standard output.
fn check(source: &Source) -> Status {
    match prepare::check(source, Purpose::Look) {
        Ok(checked) => {
            let lines: Vec<String> =
                checked.refused.iter().chain(&checked.ignored).cloned().collect();
            let printed = print_lines(&lines);
            if printed == Status::Success && !checked.refused.is_empty() {
                return Status::Definition;
            }
            printed
        }
        Err(error) => report(&error),
    }
}

/// Prints lines made of a guest that could be started, on standard output.
fn print(source: &Source, lines: impl FnOnce(Prepared) -> Vec<String>) -> Status {
    match prepare::prepare(source, Purpose::Look) {
        Ok(prepared) => print_lines(&lines(prepared)),
        Err(error) => report(&error),
    }
}

fn print_lines(lines: &[String]) -> Status {
    let mut out = std::io::stdout().lock();
    for line in lines {
        if let Err(error) = writeln!(out, "{line}") {
            return failed_status(Status::Internal, &format!("standard output: {error}"));
        }
    }
    Status::Success
}

/// Starts the guest and stays until it has ended.
fn run(cli: &Cli, source: &Source) -> Status {
    match launch::launch(cli, source) {
        Ok(fate) => {
            let status = fate.status();
            let summary = fate.summary();
            if status == Status::Success {
                log::info(&summary);
            } else {
                log::error(&summary);
            }
            service_manager::notify(&[NotifyState::Status(&summary)]);
            status
        }
        Err(LaunchError::Prepare(error)) => report(&error),
        Err(LaunchError::Claim(words)) => failed_status(Status::Claim, &words),
        Err(LaunchError::Start(words)) => failed_status(Status::StartFailed, &words),
        Err(LaunchError::Internal(error)) => failed_status(Status::Internal, &format!("{error:#}")),
    }
}

fn report(error: &PrepareError) -> Status {
    let status = match error {
        PrepareError::Definition(_) | PrepareError::Faulty(_) => Status::Definition,
        PrepareError::HostFiles(_) | PrepareError::Placement(_) => Status::HostFile,
    };
    failed_status(status, &error.to_string())
}

/// Says why there is no guest: each line to the log, the first one to `systemctl status`.
fn failed_status(status: Status, message: &str) -> Status {
    for line in message.lines() {
        log::error(line);
    }
    service_manager::notify(&[NotifyState::Status(message.lines().next().unwrap_or_default())]);
    status
}

fn failed(status: Status, message: &str) -> ExitCode {
    failed_status(status, message).into()
}
