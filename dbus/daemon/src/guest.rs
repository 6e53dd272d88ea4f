//! One guest, and the task that keeps its claim.

use std::sync::Arc;

use domain::{DomainName, DomainUuid};
use zbus::OwnedObjectPath;

use crate::claims::{Claim, Token};
use crate::keeper::KeeperHandle;
use crate::leader::Leader;
use crate::lifeline::Lifeline;

/// A guest whose claim was granted.
#[derive(Debug)]
pub(crate) struct Guest {
    claim: Claim,
}

impl Guest {
    /// The guest of a granted claim.
    pub(crate) fn new(claim: Claim) -> Self {
        Self { claim }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &DomainName {
        &self.claim.name
    }

    /// Its UUID.
    pub(crate) fn uuid(&self) -> &DomainUuid {
        &self.claim.uuid
    }

    /// The process that stands for it.
    pub(crate) fn leader(&self) -> &Leader {
        &self.claim.leader
    }

    /// The unit it lives in, or "".
    pub(crate) fn unit(&self) -> &str {
        self.claim.leader.unit.as_deref().unwrap_or_default()
    }

    /// The path of its object on the bus.
    pub(crate) fn path(&self) -> OwnedObjectPath {
        let path = dbus_api::domain_path(self.uuid());
        path.try_into().expect("hexadecimal digits and underscores are an object path")
    }
}

/// Keeps a claim until its lifeline ends.
pub(crate) async fn keep(lifeline: Arc<Lifeline>, token: Token, keeper: KeeperHandle) {
    lifeline.ended().await;
    keeper.ended(token).await;
}
