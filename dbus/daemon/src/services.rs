//! What the objects on the bus work with.

use std::sync::Arc;

use crate::authority::Authority;
use crate::catalog::Rereading;
use crate::definitions::Definitions;
use crate::herald::Herald;
use crate::inventory::Inventory;
use crate::keeper::KeeperHandle;
use crate::live::LiveFiles;
use crate::reload::Reloader;
use crate::runner::Runner;
use crate::systemd::Systemd;

/// What the objects on the bus work with; each part does one thing.
#[derive(Debug)]
pub(crate) struct Services {
    /// Knows which guests there are.
    pub(crate) keeper: KeeperHandle,
    /// Runs jobs.
    pub(crate) runner: Runner,
    /// Starts and signals units.
    pub(crate) systemd: Systemd,
    /// Has systemd read units anew.
    pub(crate) reloader: Reloader,
    /// Has the files that define guests.
    pub(crate) definitions: Arc<Definitions>,
    /// Has those files read anew.
    pub(crate) rereading: Rereading,
    /// Knows which guests have objects.
    pub(crate) inventory: Inventory,
    /// Has the definitions of guests as they run.
    pub(crate) live: LiveFiles,
    /// Has the last events.
    pub(crate) herald: Herald,
    /// Decides who may manage.
    pub(crate) authority: Authority,
}

/// Shared by all objects.
pub(crate) type Shared = Arc<Services>;
