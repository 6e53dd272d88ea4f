//! How many CPUs and how much memory a guest has: of the running one, of its definition, or of both.

use std::sync::Arc;

use domain::{Amount, edit_amount};

use super::devices::Impact;
use super::{redefinition, set_memory, set_vcpus};
use crate::guest::Guest;
use crate::jobs::Outcome;
use crate::runner::Reins;
use crate::services::Shared;

/// Changes an amount: in the definition first, and there back again when the running guest is not changed.
pub(crate) async fn change(
    services: Shared,
    guest: Arc<Guest>,
    amount: Amount,
    impact: Impact,
    reins: Reins,
) -> Outcome {
    let name = guest.name().clone();
    let edit = |text: &str| edit_amount(text, amount).map_err(|error| error.to_string());
    let former = match impact.config {
        true => match redefinition::change(&services, &name, edit).await {
            Ok(former) => Some(former),
            Err(words) => return Outcome::Failed(words),
        },
        false => None,
    };
    if !impact.live {
        return Outcome::Done;
    }
    let outcome = match amount {
        Amount::Vcpus(count) => set_vcpus(guest, count, reins).await,
        Amount::Memory(bytes) => set_memory(guest, bytes, reins).await,
    };
    if outcome != Outcome::Done
        && let Some(former) = former
    {
        redefinition::put_back(&services, &name, former).await;
    }
    outcome
}
