//! What the command line asks for, checked, with the file descriptors taken that it names.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use domain::{DomainName, DomainUuid, SearchPath, UnitInstance};
use qemu::StartMode;

use crate::cli::Cli;
use crate::definition::{self, Source};
use crate::handed::Handed;
use crate::inheritance::Inheritance;
use crate::overrides::Overrides;
use crate::sys;

/// Which guest is to be started, and how.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Where its definition is.
    pub(crate) source: Source,
    /// What counts instead of the definition's own.
    pub(crate) overrides: Overrides,
    /// How it comes to life.
    pub(crate) start: Start,
    /// What the caller opened for its devices.
    pub(crate) inheritance: Inheritance,
    /// What the unit's privileged step handed over; none for a guest that runs with its caller's rights.
    pub(crate) handed: Option<Handed>,
    /// Whether nobody is to know of it, and its runtime directory is this run's alone.
    pub(crate) standalone: bool,
}

/// How the guest comes to life.
#[derive(Debug)]
pub(crate) enum Start {
    /// From its firmware.
    Boot,
    /// From its firmware, when somebody lets it go.
    Paused,
    /// By a migration.
    Incoming(Incoming),
}

/// Where a migration comes in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Where somebody says over the guest's other monitor.
    Deferred,
    /// At this address of QEMU's, such as `unix:/run/x` or `tcp:0:4444`.
    Address(String),
    /// From this file descriptor of the caller's.
    Descriptor(OwnedFd),
}

impl Asked {
    /// Reads the command line. Call it before any file descriptor is opened: one that was not inherited would
    /// be taken for the caller's.
    ///
    /// # Errors
    /// What is wrong with an option, and what to give.
    pub(crate) fn read(cli: &Cli) -> Result<Self, String> {
        let overrides = Overrides {
            name: cli.name.as_deref().map(|name| named(name, "--name")).transpose()?,
            uuid: cli.uuid.as_deref().map(uuid).transpose()?,
        };
        let source = source(cli)?;
        let start = start(cli)?;
        let mut inheritance = Inheritance::take(&cli.fds).map_err(|error| error.to_string())?;
        let handed = Handed::take(&mut inheritance).map_err(|error| format!("{error:#}"))?;
        Ok(Self { source, overrides, start, inheritance, handed, standalone: cli.standalone })
    }
}

impl Start {
    /// The mode that is planned for. A migration's address is given over QMP, after what must be done before.
    pub(crate) fn mode(&self) -> StartMode {
        match self {
            Self::Boot => StartMode::Boot,
            Self::Paused => StartMode::Paused,
            Self::Incoming(_) => StartMode::Incoming("defer".to_owned()),
        }
    }
}

fn source(cli: &Cli) -> Result<Source, String> {
    if let Some(number) = cli.xml_fd {
        let file = inherited(number, "--xml-fd")?.into();
        return Ok(Source::Descriptor { number, file });
    }
    let Some(instance) = &cli.instance else {
        return Ok(Source::File(cli.file.clone().unwrap_or_else(|| PathBuf::from("-"))));
    };
    let name = UnitInstance::try_from(instance.as_str())
        .and_then(|instance| instance.domain_name())
        .map_err(|error| format!("--instance {instance}: {error}"))?;
    let search = if cli.user { definition::user_search_path() } else { SearchPath::system() };
    Ok(Source::Named { name, search })
}

fn start(cli: &Cli) -> Result<Start, String> {
    let Some(address) = &cli.incoming else {
        return Ok(if cli.paused { Start::Paused } else { Start::Boot });
    };
    Ok(Start::Incoming(match address.split_once(':') {
        None if address == "defer" => Incoming::Deferred,
        Some(("fd", number)) => {
            let number = number.parse().map_err(|_| {
                format!("--incoming {address}: '{number}' is no number of a file descriptor; give one such as fd:3")
            })?;
            Incoming::Descriptor(inherited(number, "--incoming fd:")?)
        }
        Some(_) => Incoming::Address(address.clone()),
        None => {
            return Err(format!(
                "--incoming {address}: it is no address; give one such as tcp:0:4444, fd:3 or defer"
            ));
        }
    }))
}

fn named(name: &str, option: &str) -> Result<DomainName, String> {
    DomainName::try_from(name).map_err(|error| format!("{option} {name}: {error}"))
}

fn uuid(uuid: &str) -> Result<DomainUuid, String> {
    uuid.parse().map_err(|error| format!("--uuid {uuid}: {error}"))
}

fn inherited(number: i32, option: &str) -> Result<OwnedFd, String> {
    sys::inherited(number).map_err(|error| {
        format!("{option} {number}: {error}; open it in the caller and let it be inherited")
    })
}
