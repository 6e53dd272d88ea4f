//! Orders to the service manager (org.freedesktop.systemd1(5)).

use dbus_api::Placement;
use domain::{DomainName, UnitInstance};
use zbus::{Connection, Message, OwnedObjectPath, OwnedVariant};

use crate::broker::{Failure, refused};

const BUS_NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const JOB: &str = "org.freedesktop.systemd1.Job";

/// The unit of a guest that is defined by a file: `qemu@web.service`.
fn unit_of(name: &DomainName) -> String {
    format!("qemu@{}.service", UnitInstance::from(name).as_str())
}

/// Whether the guest of this unit may have this name: one of `qemu@` has the name that the unit has, whatever way it is
/// written; others have any.
pub(crate) fn may_have(unit: &str, name: &DomainName) -> bool {
    Placement::instance(unit).is_none() || Placement::guest_of(unit).as_ref() == Some(name)
}

/// Starts the unit of a guest; gives the job.
pub(crate) async fn start(bus: &Connection, name: &DomainName) -> Result<OwnedObjectPath, Failure> {
    let reply = call(bus, "StartUnit", &(unit_of(name), "replace")).await?;
    Ok(reply.body().deserialize()?)
}

/// Begins to stop a unit.
pub(crate) async fn stop(bus: &Connection, unit: &str) -> Result<(), Failure> {
    call(bus, "StopUnit", &(unit, "replace")).await.map(drop)
}

/// Reloads the unit of a guest; gives the job. What others do when they are reloaded is not the daemon's affair.
pub(crate) async fn reload_guest(bus: &Connection, unit: &str) -> Result<OwnedObjectPath, Failure> {
    if Placement::instance(unit).is_none() {
        return Err(refused(format!("{unit} is no unit that changes a guest")));
    }
    let reply = call(bus, "ReloadUnit", &(unit, "replace")).await?;
    Ok(reply.body().deserialize()?)
}

/// Sends a signal to a unit's main process.
pub(crate) async fn signal(bus: &Connection, unit: &str, number: i32) -> Result<(), Failure> {
    call(bus, "KillUnit", &(unit, "main", number)).await.map(drop)
}

/// Reads all units anew.
pub(crate) async fn reload(bus: &Connection) -> Result<(), Failure> {
    call(bus, "Reload", &()).await.map(drop)
}

/// Cancels a job, if it is with the unit of a guest.
pub(crate) async fn cancel(bus: &Connection, job: &OwnedObjectPath) -> Result<(), Failure> {
    let properties = Some("org.freedesktop.DBus.Properties");
    let reply = bus.call_method(Some(BUS_NAME), job, properties, "Get", &(JOB, "Unit")).await;
    let unit: OwnedVariant = reply.map_err(failed)?.body().deserialize()?;
    let (unit, _): (String, OwnedObjectPath) = unit.try_into().map_err(|_| refused("no job"))?;
    if Placement::instance(&unit).is_none() {
        return Err(refused(format!("a job with {unit} is none with a guest")));
    }
    bus.call_method(Some(BUS_NAME), job, Some(JOB), "Cancel", &()).await.map_err(failed).map(drop)
}

async fn call<B>(bus: &Connection, method: &str, body: &B) -> Result<Message, Failure>
where
    B: serde::Serialize + zbus::DynamicType,
{
    bus.call_method(Some(BUS_NAME), PATH, Some(MANAGER), method, body).await.map_err(failed)
}

/// The text of an error, without its name on the bus where it has a text.
fn failed(error: zbus::Error) -> Failure {
    if let zbus::Error::MethodError(_, Some(text), _) = error {
        return Failure::Failed(text);
    }
    Failure::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_of_a_unit_has_the_unit_s_name() {
        let may = |unit: &str, name: &str| may_have(unit, &name.parse().unwrap());
        assert!(may("qemu@web-1.service", "web-1") && may("qemu@web\\x2d1.service", "web-1"));
        assert!(may("qemu@worker@3.service", "worker@3"));
        assert!(!may("qemu@web.service", "db") && !may("qemu@.service", "db"));
        assert!(may("run-r1.scope", "db") && may("app.service", "db"));
    }
}
