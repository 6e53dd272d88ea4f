//! Where what is taken over goes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use domain::{DomainName, UnitInstance};

/// Our places, the system's or a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    definitions: PathBuf,
    autostart: PathBuf,
    variables: PathBuf,
    /// The directories of guests that run.
    running: PathBuf,
}

impl Target {
    /// The places of the system, or of the user by the environment.
    ///
    /// # Errors
    /// When a user's are meant, and the environment has no home.
    pub(crate) fn of(user: bool) -> Result<Self> {
        let search = crate::search_path(user);
        let autostart = search.autostart().context("HOME is not set; set it")?.to_owned();
        let definitions = search.directories().first().context("HOME is not set; set it")?;
        let (data, runtime) = if user {
            let environment = crate::user_environment();
            let data = environment.data().context("HOME is not set; set it")?;
            (data, environment.runtime().unwrap_or_default())
        } else {
            ("/var/lib".into(), "/run".into())
        };
        Ok(Self {
            definitions: definitions.clone(),
            autostart,
            variables: data.join("glassbox/nvram"),
            running: runtime.join("glassbox/guest"),
        })
    }

    /// The guest's definition.
    pub(crate) fn definition(&self, name: &DomainName) -> PathBuf {
        self.definitions.join(format!("{name}.xml"))
    }

    /// The entry by which the guest starts at boot.
    pub(crate) fn autostart(&self, name: &DomainName) -> PathBuf {
        self.autostart.join(format!("{name}.xml"))
    }

    /// The guest's firmware variables, `fd` or `qcow2`.
    pub(crate) fn variables(&self, name: &DomainName, extension: &str) -> PathBuf {
        self.variables.join(format!("{name}_VARS.{extension}"))
    }

    /// Whether the guest runs as a unit: systemd removes its directory when it has ended.
    pub(crate) fn runs(&self, name: &DomainName) -> bool {
        self.running.join(UnitInstance::from(name).directory()).exists()
    }
}
