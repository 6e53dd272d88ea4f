//! Devices of running guests, and of their definitions: the text is changed here, the guest by its unit.

use std::sync::Arc;

use domain::{DeviceEdit, DomainName, edit_device};

use super::redefinition;
use crate::guest::Guest;
use crate::jobs::Outcome;
use crate::live::{LiveFiles, ReloadOutcome};
use crate::services::Shared;
use crate::systemd::Systemd;

/// What a change of a device is for, libvirt's `virDomainModificationImpact`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Impact {
    /// The running guest.
    pub(crate) live: bool,
    /// Its definition.
    pub(crate) config: bool,
}

/// Flags that say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no sum of 1 (the running guest) and 2 (its definition)")]
pub(crate) struct ImpactError(u32);

impl TryFrom<u32> for Impact {
    type Error = ImpactError;

    fn try_from(flags: u32) -> Result<Self, ImpactError> {
        match flags {
            // The guest runs, for it has an object.
            0 | 1 => Ok(Self { live: true, config: false }),
            2 => Ok(Self { live: false, config: true }),
            3 => Ok(Self { live: true, config: true }),
            _ => Err(ImpactError(flags)),
        }
    }
}

/// Changes a device of a guest: in its definition first, so that its unit may open what the guest is to have, and
/// back again when the running guest is not changed.
pub(crate) async fn change(
    services: Shared,
    guest: Arc<Guest>,
    device: String,
    how: DeviceEdit,
    impact: Impact,
) -> Outcome {
    match try_change(&services, &guest, &device, how, impact).await {
        Ok(()) => Outcome::Done,
        Err(words) => Outcome::Failed(words),
    }
}

async fn try_change(
    services: &Shared,
    guest: &Guest,
    device: &str,
    how: DeviceEdit,
    impact: Impact,
) -> Result<(), String> {
    let name = guest.name();
    let edit = |text: &str| edit_device(text, device, how).map_err(|error| error.to_string());
    // All that can be known before is known before anything changes.
    let live = match impact.live {
        true => Some(edit(&live_text(&services.live, name)?)?),
        false => None,
    };
    let former = match impact.config {
        true => Some(redefinition::change(services, name, edit).await?),
        false => None,
    };
    let Some(live) = live else { return Ok(()) };
    let changed = reload(&services.live, &services.systemd, guest, &live).await;
    if let (Err(_), Some(former)) = (&changed, former) {
        redefinition::put_back(services, name, former).await;
    }
    changed
}

/// The live definition of a guest.
pub(super) fn live_text(live: &LiveFiles, name: &DomainName) -> Result<String, String> {
    let missing = |error| {
        format!(
            "there is no live definition of guest '{name}' ({error}); was it started by a unit of this version?"
        )
    };
    live.read(name).map_err(missing)
}

/// Has the guest's unit make the guest what it is to be.
pub(super) async fn reload(
    live: &LiveFiles,
    systemd: &Systemd,
    guest: &Guest,
    xml: &str,
) -> Result<(), String> {
    let (name, unit) = (guest.name(), guest.unit());
    if unit.is_empty() {
        return Err("it lives in no unit, and nobody else changes its devices".to_owned());
    }
    let wanted = live.want(name, xml);
    let _wanted = wanted.map_err(|error| format!("its unit cannot be told: {error}"))?;
    let result = systemd.reload_guest(guest).await?;
    match live.outcome(name) {
        Some(ReloadOutcome { failed, restart }) if result == "done" => {
            let left: Vec<String> = failed.into_iter().chain(restart).collect();
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        }
        Some(ReloadOutcome { failed, .. }) if !failed.is_empty() => Err(failed.join("\n")),
        Some(_) | None => Err(format!("{unit} was not reloaded ({result}); see its log")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_libvirts() {
        let impact = |live, config| Ok(Impact { live, config });
        for (flags, expected) in [
            (0, impact(true, false)),
            (1, impact(true, false)),
            (2, impact(false, true)),
            (3, impact(true, true)),
            (4, Err(ImpactError(4))),
        ] {
            assert_eq!(Impact::try_from(flags), expected);
        }
    }
}
