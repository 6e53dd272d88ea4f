//! `glassbox-broker ACCOUNT`: does for `glassboxd`, which has no privilege, the few things that take some.
//!
//! systemd-machined before version 258 takes registrations from root only, and the service manager takes orders from root
//! only where there is no polkit. So this program runs as root, without capabilities, and does just those: it registers
//! guests as machines, starts guests, ends them and has the service manager reload. It is asked over the bus
//! ([`dbus_api::BROKER_NAME`]) by one account, is started by the first call, and ends when nobody has called for a while.
//!
//! Whoever has that account can do no more with it than is written here: what is about a guest that runs takes the
//! guest's lifeline, which `proof` has the kernel's word for, and what is about one that does not run takes its name, of
//! which a `qemu@` unit is made here.

mod broker;
mod machined;
mod proof;
mod systemd;
mod varlink;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use dbus_api::{BROKER_NAME, BROKER_PATH};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use zbus::connection::Builder;

use crate::broker::Broker;

/// How long nobody calls before it ends; what systemd's own services have.
const IDLE: Duration = Duration::from_secs(30);

/// How long a call that was on its way when the name was given up may take to be seen.
const STRAGGLERS: Duration = Duration::from_millis(50);

/// How long another service on the bus may take to answer; libdbus's own default.
const BUS_TIMEOUT: Duration = Duration::from_secs(25);

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(account), None) = (words.next(), words.next()) else {
        eprintln!("usage: glassbox-broker ACCOUNT");
        return ExitCode::from(2);
    };
    match run(account) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("<3>{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(account: String) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(account))
}

/// Serves until nobody calls any more, a signal ends it, or the bus does.
async fn serve(account: String) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let bus = Builder::system().method_timeout(BUS_TIMEOUT).build().await;
    let bus = bus.context("cannot connect to the system bus; is it running?")?;
    let (calls, running) = watch::channel(0);
    let broker = Broker { bus: bus.clone(), account, calls };
    bus.object_server().at(BROKER_PATH, broker).await?;
    bus.request_name(BROKER_NAME).await.with_context(|| format!("cannot own {BROKER_NAME}"))?;
    notify(NotifyState::Ready);
    tokio::select! {
        _ = terminate.recv() => {}
        () = idle(running.clone(), IDLE) => {}
        () = bus.closed() => anyhow::bail!("the bus closed the connection"),
    }
    // In this order: the service manager then starts another one for who calls from now on, once this one has ended.
    notify(NotifyState::Stopping);
    bus.release_name(BROKER_NAME).await?;
    idle(running, STRAGGLERS).await;
    Ok(())
}

/// Returns when no call has been running for that long.
async fn idle(mut running: watch::Receiver<usize>, quiet: Duration) {
    loop {
        // The sender is an object on the bus, which is there for as long as the program.
        if running.wait_for(|calls| *calls == 0).await.is_err() {
            return;
        }
        if tokio::time::timeout(quiet, running.changed()).await.is_err() {
            return;
        }
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        eprintln!("<4>the service manager is not told: {error}");
    }
}
