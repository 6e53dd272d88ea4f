//! `glassbox-qemu`: starts a guest from a libvirt domain XML file and stays beside it until it ends.
//!
//! ```text
//! Prepared (read, planned, checked) -> Claimed (name and UUID are ours) -> Started (QEMU runs) -> Fate
//! ```
//!
//! It needs no privilege and no daemon, changes nothing that it inherited, never ends before QEMU did and never
//! leaves QEMU behind. It is one thread: what follows a fork and a signal mask depends on that.

mod actions;
mod asked;
mod bell;
mod binary;
mod caller;
mod claiming;
mod cli;
mod companion;
mod consoles;
mod credentials;
mod declare;
mod definition;
mod drivers;
mod dump;
mod facts;
mod fate;
mod fds;
mod guest;
mod hand_over;
mod handed;
mod host;
mod host_files;
mod huge_pages;
mod identity;
mod inheritance;
mod keeper;
mod launch;
mod layers;
mod lending;
mod live;
mod locks;
mod log;
mod netlink;
mod opening;
mod orders;
mod overrides;
mod pidfile;
mod pinning;
mod prepare;
mod provide;
mod readiness;
mod registry;
mod reload;
mod runtime_dir;
mod service_manager;
mod supervise;
mod sys;
mod tap;
mod thread_groups;
mod vsock;
mod waiting;
mod watchdog;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sd_notify::NotifyState;

use crate::asked::{Asked, named_by};
use crate::cli::Cli;
use crate::definition::Scope;
use crate::fate::Status;
use crate::launch::LaunchError;
use crate::prepare::{PrepareError, Prepared, Purpose};
use crate::service_manager::ServiceManager;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let manager = if cli.standalone {
        ServiceManager::Ignored
    } else {
        ServiceManager::Own { stop_timeout: None }
    };
    if let Some(shell) = cli.completions {
        return completions(shell).into();
    }
    if let Some(program) = &cli.probe {
        return probe(program).into();
    }
    if let Some(instance) = &cli.declare {
        return declare_unit(instance, cli.user).into();
    }
    if let Some(instance) = cli.companion.as_deref().filter(|_| !cli.hand_over) {
        return if cli.listening {
            step(companion::await_socket(instance))
        } else {
            serve(manager)
        }
        .into();
    }
    let status = match Asked::read(&cli) {
        Ok(asked) if cli.check => check(&asked),
        Ok(asked) if cli.print_args => print(&asked, |prepared| {
            let mut lines = vec![prepared.plan.emulator];
            lines.extend(prepared.plan.arguments);
            lines
        }),
        Ok(asked) if cli.print_xml => {
            print(&asked, |prepared| prepared.domain.write().lines().map(str::to_owned).collect())
        }
        Ok(asked) if cli.hand_over => step(match &asked.device {
            Some(device) => companion::hand_over(&asked, device),
            None => hand_over::hand_over(&asked),
        }),
        Ok(asked) if cli.take_back => step(hand_over::take_back(&asked)),
        Ok(asked) if cli.reload => reload::reload(&asked).unwrap_or_else(|error| {
            failed(Status::Internal, &format!("{error:#}"), ServiceManager::Ignored)
        }),
        Ok(asked) => run(&cli, asked, manager),
        Err(message) => failed(Status::Definition, &message, manager),
    };
    status.into()
}

/// `--completions`: a script for a shell, on standard output.
fn completions(shell: clap_complete::Shell) -> Status {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "glassbox-qemu", &mut script);
    match std::io::stdout().write_all(&script) {
        Ok(()) => Status::Success,
        Err(error) => unprinted(&error),
    }
}

/// `--probe`: what a QEMU binary is, on standard output.
fn probe(program: &str) -> Status {
    match binary::report(program) {
        Ok(text) => print_lines(&[text]),
        Err(error) => failed(Status::StartFailed, &format!("{error:#}"), ServiceManager::Ignored),
    }
}

/// `--declare`: the unit of a guest that systemd has no settings for yet.
fn declare_unit(instance: &str, user: bool) -> Status {
    let scope = if user { Scope::User } else { Scope::System };
    let guest = named_by(instance, "--declare", scope).map_err(anyhow::Error::msg);
    step(guest.and_then(|guest| declare::declare(&guest)))
}

/// `--companion`: becomes the program that serves a device.
fn serve(manager: ServiceManager) -> Status {
    match companion::serve() {
        Ok(never) => match never {},
        Err(error) => failed(Status::StartFailed, &format!("{error:#}"), manager),
    }
}

/// A step of a unit beside the guest.
fn step(done: anyhow::Result<()>) -> Status {
    match done {
        Ok(()) => Status::Success,
        Err(error) => failed(Status::Internal, &format!("{error:#}"), ServiceManager::Ignored),
    }
}

/// `--check`: all faults and all parts left out, on standard output.
fn check(asked: &Asked) -> Status {
    match prepare::check(asked, Purpose::Look) {
        Ok(checked) => {
            let lines: Vec<String> =
                checked.refused.iter().chain(&checked.ignored).cloned().collect();
            let printed = print_lines(&lines);
            if printed == Status::Success && !checked.refused.is_empty() {
                return Status::Definition;
            }
            printed
        }
        Err(error) => report(&error, ServiceManager::Ignored),
    }
}

/// Prints lines made of a guest that could be started, on standard output.
fn print(asked: &Asked, lines: impl FnOnce(Prepared) -> Vec<String>) -> Status {
    match prepare::prepare(asked, Purpose::Look) {
        Ok(prepared) => print_lines(&lines(prepared)),
        Err(error) => report(&error, ServiceManager::Ignored),
    }
}

fn print_lines(lines: &[String]) -> Status {
    let mut out = std::io::stdout().lock();
    for line in lines {
        if let Err(error) = writeln!(out, "{line}") {
            return unprinted(&error);
        }
    }
    Status::Success
}

fn unprinted(error: &std::io::Error) -> Status {
    failed(Status::Internal, &format!("standard output: {error}"), ServiceManager::Ignored)
}

/// Starts the guest and stays until it has ended.
fn run(cli: &Cli, asked: Asked, manager: ServiceManager) -> Status {
    match launch::launch(cli, asked, manager) {
        Ok(fate) => {
            let status = fate.status();
            let summary = fate.summary();
            if status == Status::Success {
                log::info(&summary);
            } else {
                log::error(&summary);
            }
            manager.notify(&[NotifyState::Status(&summary)]);
            status
        }
        Err(LaunchError::Prepare(error)) => report(&error, manager),
        Err(LaunchError::Claim(words)) => failed(Status::Claim, &words, manager),
        Err(LaunchError::Start(words)) => failed(Status::StartFailed, &words, manager),
        Err(LaunchError::Caller(error)) => failed(error.status(), &error.to_string(), manager),
        Err(LaunchError::Internal(error)) => {
            failed(Status::Internal, &format!("{error:#}"), manager)
        }
    }
}

fn report(error: &PrepareError, manager: ServiceManager) -> Status {
    let status = match error {
        PrepareError::Definition(_) | PrepareError::Undeclared(_) | PrepareError::Faulty(_) => {
            Status::Definition
        }
        PrepareError::HostFiles(_) | PrepareError::Placement(_) => Status::HostFile,
    };
    failed(status, &error.to_string(), manager)
}

/// Says why there is no guest: each line to the log, the first one to `systemctl status`.
fn failed(status: Status, message: &str, manager: ServiceManager) -> Status {
    for line in message.lines() {
        log::error(line);
    }
    manager.notify(&[NotifyState::Status(message.lines().next().unwrap_or_default())]);
    status
}
