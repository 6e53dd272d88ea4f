//! `glassboxd`: holds the claims of running guests, and shows them on the bus.
//!
//! A shim claims its guest's name and UUID before it starts QEMU, and keeps the claim by a lifeline. With it comes a
//! monitor of QEMU's, over which the daemon manages the guest. It makes no process and signals none: what is started or
//! ended is asked of systemd, and no guest ends because the daemon does.
//!
//! The pure parts are `allowance`, `claims`, `record`, `sasl`, `state`, `jobs`, `happening`, `event` and `digest`; one task, the
//! `keeper`, owns the claims, and one for each guest its monitor; the rest is a thin skin of I/O around them.

mod agent;
mod allowance;
mod authority;
mod broker;
mod caller;
mod catalog;
mod claims;
mod cli;
mod clock;
mod control;
mod definitions;
mod digest;
mod event;
mod failure;
mod fdstore;
mod guest;
mod happening;
mod herald;
mod host;
mod inherited;
mod inventory;
mod jobs;
mod keeper;
mod leader;
mod lifeline;
mod limits;
mod live;
mod log;
mod machined;
mod monitor;
mod objects;
mod peer;
mod publisher;
mod record;
mod registry;
mod reload;
mod ring;
mod runner;
mod sasl;
mod services;
mod sparing;
mod state;
mod stream;
mod systemd;
mod varlink;
mod watch;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use dbus_api::{BUS_NAME, ROOT_PATH, SYSTEM_REGISTRY, USER_REGISTRY};
use domain::{SearchPath, UserEnvironment};
use nix::unistd::geteuid;
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use zbus::Connection;
use zbus::fdo::ObjectManager;

use crate::authority::Authority;
use crate::broker::Broker;
use crate::caller::Admission;
use crate::catalog::{Catalog, Rereading};
use crate::cli::Options;
use crate::control::Controls;
use crate::definitions::Definitions;
use crate::herald::Herald;
use crate::inherited::{FirstMoment, Inherited};
use crate::inventory::Inventory;
use crate::keeper::Keeper;
use crate::live::LiveFiles;
use crate::machined::Machined;
use crate::objects::Manager;
use crate::peer::SocketFile;
use crate::registry::{Origin, Registry};
use crate::reload::Reloader;
use crate::runner::Runner;
use crate::services::{Services, Shared};
use crate::systemd::Systemd;
use crate::watch::Watch;

/// How long another service on the bus may take to answer; libdbus's own default.
const BUS_TIMEOUT: Duration = Duration::from_secs(25);

/// `FileDescriptorName=` of glassboxd.socket.
const REGISTRY_FD: &str = "registry";

fn main() -> ExitCode {
    let inherited = inherited::take(FirstMoment(()));
    let options = Options::parse();
    log::start(if options.verbose { tracing::Level::DEBUG } else { tracing::Level::INFO });
    match inherited.and_then(|inherited| run(&options, inherited)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, inherited: Vec<Inherited>) -> anyhow::Result<()> {
    // One thread is enough for messages of a few hundred bytes, and each further one costs memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options, inherited))
}

/// Serves until a signal ends the daemon, or the bus does.
async fn serve(options: &Options, mut inherited: Vec<Inherited>) -> anyhow::Result<()> {
    limits::raise();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let admission = if options.user { Admission::User(geteuid()) } else { Admission::System };
    let bus = connect(options).await?;
    let (publisher, publications) = mpsc::unbounded_channel();
    let events = fdstore::events(&mut inherited, clock::realtime());
    let (ring, told) = events.context("there is no memory for events")?;
    let herald = Herald::new(ring, publisher.clone());
    let runner = Runner::new(publisher.clone());
    let broker = (!options.user).then(|| Broker::new(bus.clone()));
    let systemd = Systemd::new(bus.clone(), broker.clone());
    let definitions = Arc::new(definitions(options));
    let (rereading, requests) = Rereading::new();
    let catalog = Catalog::new(definitions.clone());
    let following = catalog::follow(catalog, watch(&definitions), requests, publisher.clone());
    let inventory = Inventory::default();
    let live = live_files(options);
    let machined = machined(&bus, broker, controls(&live, &runner, &systemd)).await?;
    let known = (definitions.clone(), inventory.clone());
    let mut keeper = Keeper::new(publisher, machined, herald.clone(), known);
    let (claims, inherited) = fdstore::take_back(inherited, admission);
    let restored = keeper.restore(claims, told);
    let handle = keeper.handle();
    let services = Arc::new(Services {
        keeper: handle.clone(),
        runner,
        reloader: Reloader::new(systemd.clone()),
        systemd,
        definitions,
        rereading: rereading.clone(),
        inventory,
        live,
        authority: Authority::new(bus.clone(), geteuid()),
        herald: herald.clone(),
    });
    tokio::spawn(publisher::publish(publications, bus.clone(), services.clone()));
    tokio::spawn(publisher::announce(herald, bus.clone()));
    for published in restored {
        published.await.context("the bus failed before the stored claims were on it")?;
    }
    tokio::spawn(keeper.run());
    tokio::spawn(following);
    rereading.done().await;
    let sockets = listen(options, inherited)?;
    let listener = UnixListener::from_std(sockets.listener)?;
    tokio::spawn(peer::serve(listener, handle.clone(), admission));
    offer(&bus, services, admission).await?;
    tracing::info!("serving {BUS_NAME} and {}", sockets.whence);
    notify(&[NotifyState::Ready]);
    footprint::give_back();
    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = bus.closed() => Err(anyhow::anyhow!("the bus closed the connection; start again when it is back")),
    };
    notify(&[NotifyState::Stopping]);
    result
}

/// The registry's socket, ready to accept.
#[derive(Debug)]
struct Sockets {
    listener: std::os::unix::net::UnixListener,
    /// Where clients find it, for the log.
    whence: String,
    /// Removes the file at the end, when the daemon made it.
    _file: Option<SocketFile>,
}

/// Takes the socket that systemd passed, or binds one.
fn listen(options: &Options, inherited: Vec<Inherited>) -> anyhow::Result<Sockets> {
    let mut passed = None;
    for Inherited { name, fd } in inherited {
        match name.as_str() {
            REGISTRY_FD => passed = Some(fd.into()),
            other => {
                tracing::warn!("closed the file descriptor '{other}', which is not known here");
            }
        }
    }
    let sockets = match passed {
        Some(listener) => {
            Sockets { listener, whence: "the socket that systemd passed".to_owned(), _file: None }
        }
        None => {
            let path = registry_path(options)?;
            let (listener, file) = peer::bind(&path)?;
            Sockets { listener, whence: path.display().to_string(), _file: Some(file) }
        }
    };
    sockets.listener.set_nonblocking(true).context("the registry's socket cannot be used")?;
    Ok(sockets)
}

/// Connects to the bus without a name on it, so that nobody calls yet.
async fn connect(options: &Options) -> anyhow::Result<Connection> {
    use zbus::connection::Builder;
    let (builder, which) =
        if options.user { (Builder::session(), "session") } else { (Builder::system(), "system") };
    let bus = builder.method_timeout(BUS_TIMEOUT).build().await;
    bus.with_context(|| format!("cannot connect to the {which} bus; is it running?"))
}

/// Where guests are defined.
fn definitions(options: &Options) -> Definitions {
    if !options.user {
        return Definitions::new(SearchPath::system(), Some(PathBuf::from("/run/glassbox")));
    }
    let path = |variable| std::env::var_os(variable).map(PathBuf::from);
    let environment = UserEnvironment {
        home: path("HOME"),
        config_home: path("XDG_CONFIG_HOME"),
        runtime_dir: path("XDG_RUNTIME_DIR"),
        data_home: path("XDG_DATA_HOME"),
    };
    let runtime = environment.runtime_dir.as_ref().map(|folder| folder.join("glassbox"));
    Definitions::new(SearchPath::user(&environment), runtime)
}

/// Watches where guests are defined.
fn watch(definitions: &Definitions) -> Option<Watch> {
    Watch::begin(definitions.directories())
        .inspect_err(|error| {
            tracing::warn!("definitions that others change are not seen: {error}");
        })
        .ok()
}

/// The definitions of guests as they run, without what a daemon that died has left among them.
fn live_files(options: &Options) -> LiveFiles {
    let runtime = || std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let files = match options.user {
        false => LiveFiles::System,
        true => LiveFiles::User(runtime().map(|folder| folder.join("glassbox"))),
    };
    if let Err(error) = files.want_nothing() {
        tracing::warn!(
            "what an earlier daemon wanted guests to be stays, and reloads go by it: {error}"
        );
    }
    files
}

/// The control sockets, where systemd made a directory for them (`RuntimeDirectory=`, systemd.exec(5)).
fn controls(live: &LiveFiles, runner: &Runner, systemd: &Systemd) -> Option<Controls> {
    let directory = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from)?;
    let (live, runner, systemd) = (live.clone(), runner.clone(), systemd.clone());
    Some(Controls { directory, runner, systemd, live, own: geteuid() })
}

/// The machined that guests are registered with.
async fn machined(
    bus: &Connection,
    broker: Option<Broker>,
    controls: Option<Controls>,
) -> anyhow::Result<Option<Machined>> {
    let Some(broker) = broker else {
        tracing::info!(
            "a user's guests are not in machinectl: systemd-machined takes them only since version 258, \
             and this daemon does not ask it to"
        );
        return Ok(None);
    };
    let machined = Machined::watch(bus.clone(), broker, controls).await;
    Ok(Some(machined.context("cannot watch for systemd-machined on the bus")?))
}

/// Puts the registry and the manager on the bus, then takes the name by which they are called.
async fn offer(bus: &Connection, services: Shared, admission: Admission) -> anyhow::Result<()> {
    let objects = bus.object_server();
    let keeper = services.keeper.clone();
    objects.at(ROOT_PATH, ObjectManager).await?;
    objects.at(ROOT_PATH, Manager(services)).await?;
    objects.at(ROOT_PATH, Registry { keeper, admission, origin: Origin::Bus }).await?;
    bus.request_name(BUS_NAME)
        .await
        .with_context(|| format!("cannot own {BUS_NAME}; is another glassboxd running?"))
}

/// Where the registry's socket is, when systemd passes none.
fn registry_path(options: &Options) -> anyhow::Result<PathBuf> {
    match (&options.registry, options.user) {
        (Some(path), _) => Ok(path.clone()),
        (None, false) => Ok(PathBuf::from(SYSTEM_REGISTRY)),
        (None, true) => {
            let run = std::env::var_os("XDG_RUNTIME_DIR")
                .context("XDG_RUNTIME_DIR is not set; give the socket by --registry")?;
            Ok(PathBuf::from(run).join(USER_REGISTRY))
        }
    }
}

/// Tells the service manager; without one it does nothing.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager is not told {state:?}: {error}");
    }
}
