//! How a guest is registered, by what the machined of the host has (`io.systemd.Machine`, org.freedesktop.machine1(5)).
//!
//! | systemd | call |
//! |---|---|
//! | 261 and later | Varlink's `Register` with the address of the guest's control socket |
//! | 256 to 260 | the same without that |
//! | before | D-Bus's `RegisterMachineWithNetwork`, which serves as well where the guest has no control socket |
//!
//! Nobody asks for a version: what is not understood is refused by name, and left out then. `RegisterMachineEx` of 259 on
//! D-Bus has nothing that Varlink's `Register` does not have.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use dbus_api::{CONTROL_SOCKETS, MACHINE_SERVICE};
use domain::{DomainUuid, MachineName};
use serde_json::{Value, json};
use zbus::{Connection, Message, OwnedObjectPath, OwnedVariant};

use crate::broker::{Failure, refused};
use crate::varlink;

const BUS_NAME: &str = "org.freedesktop.machine1";
const PATH: &str = "/org/freedesktop/machine1";
const MANAGER: &str = "org.freedesktop.machine1.Manager";
const MACHINE: &str = "org.freedesktop.machine1.Machine";
const EXISTS: &str = "org.freedesktop.machine1.MachineExists";
const NO_SUCH_MACHINE: &str = "org.freedesktop.machine1.NoSuchMachine";

/// Where machined speaks Varlink, systemd-machined.service(8).
const SOCKET: &str = "/run/systemd/machine/io.systemd.Machine";

const REGISTER: &str = "io.systemd.Machine.Register";
const VARLINK_EXISTS: &str = "io.systemd.Machine.MachineExists";
const INVALID: &str = "org.varlink.service.InvalidParameter";

/// The argument that machined has since 261.
const CONTROL_ADDRESS: &str = "controlAddress";

/// How long machined may take to answer; libdbus's own default for a call.
const PATIENCE: Duration = Duration::from_secs(25);

/// A guest to be registered.
#[derive(Debug)]
pub(crate) struct Registration {
    /// Its name, in machined's alphabet.
    pub(crate) name: MachineName,
    /// Its UUID.
    pub(crate) uuid: DomainUuid,
    /// The process that stands for it.
    pub(crate) leader: u32,
    /// The kernel's numbers of its network devices.
    pub(crate) interfaces: Vec<i32>,
    /// The number of its vsock.
    pub(crate) vsock_cid: Option<u32>,
    /// Whether it has a control socket.
    pub(crate) control: bool,
}

/// What machined says to a registration that it does not refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The guest is registered.
    Registered,
    /// There is a machine of that name.
    Exists,
    /// This machined does not know the call, or not its arguments.
    Unknown,
}

/// Registers a guest, once.
pub(crate) async fn register(bus: &Connection, guest: &Registration) -> Result<Answer, Failure> {
    if guest.control {
        let control = format!("{CONTROL_SOCKETS}/{}", guest.name);
        // Not every systemd has a socket that starts machined, but the bus starts it with all of them.
        wake(bus).await?;
        for control in [Some(control.as_str()), None] {
            match register_by_varlink(guest, control).await? {
                Answer::Unknown => {}
                answer @ (Answer::Registered | Answer::Exists) => return Ok(answer),
            }
        }
    }
    register_by_bus(bus, guest).await
}

/// Unregisters a machine that a registration here made.
pub(crate) async fn unregister(bus: &Connection, name: &MachineName) -> Result<(), Failure> {
    let machine = match call(bus, "GetMachine", &name.as_str()).await {
        Ok(reply) => reply.body().deserialize::<OwnedObjectPath>()?,
        Err(error) if is_named(&error, NO_SUCH_MACHINE) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    let properties = Some("org.freedesktop.DBus.Properties");
    let body = (MACHINE, "Service");
    let reply = bus.call_method(Some(BUS_NAME), &machine, properties, "Get", &body).await;
    let service: OwnedVariant = reply.map_err(|error| failed(&error))?.body().deserialize()?;
    if String::try_from(service).is_ok_and(|service| service != MACHINE_SERVICE) {
        return Err(refused(format!("machine {name} is another program's")));
    }
    match call(bus, "UnregisterMachine", &name.as_str()).await {
        Ok(_) => Ok(()),
        Err(error) if is_named(&error, NO_SUCH_MACHINE) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

async fn wake(bus: &Connection) -> Result<(), Failure> {
    let peer = Some("org.freedesktop.DBus.Peer");
    bus.call_method(Some(BUS_NAME), PATH, peer, "Ping", &())
        .await
        .map_err(|error| failed(&error))
        .map(drop)
}

async fn register_by_bus(bus: &Connection, guest: &Registration) -> Result<Answer, Failure> {
    let Registration { name, uuid, leader, interfaces, .. } = guest;
    let id: &[u8] = uuid.as_bytes();
    let interfaces = interfaces.as_slice();
    let body = (name.as_str(), id, MACHINE_SERVICE, "vm", *leader, "", interfaces);
    match call(bus, "RegisterMachineWithNetwork", &body).await {
        Ok(_) => Ok(Answer::Registered),
        Err(error) if is_named(&error, EXISTS) => Ok(Answer::Exists),
        Err(error) => Err(failed(&error)),
    }
}

async fn call<B>(bus: &Connection, method: &str, body: &B) -> zbus::Result<Message>
where
    B: serde::Serialize + zbus::DynamicType,
{
    bus.call_method(Some(BUS_NAME), PATH, Some(MANAGER), method, body).await
}

fn is_named(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(named, _, _) if named.as_str() == name)
}

fn failed(error: &zbus::Error) -> Failure {
    use zbus::fdo;
    if let zbus::Error::FDO(named) = error
        && let fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_) = **named
    {
        return Failure::NoMachined(error.to_string());
    }
    Failure::Failed(error.to_string())
}

async fn register_by_varlink(
    guest: &Registration,
    control: Option<&str>,
) -> Result<Answer, Failure> {
    let call = varlink::call(Path::new(SOCKET), REGISTER, arguments(guest, control));
    let answered = tokio::time::timeout(PATIENCE, call).await;
    match answered.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
        Ok(answer) => read(answer, control.is_some()).map_err(Failure::Failed),
        Err(error) if is_nobody(error.kind()) => Ok(Answer::Unknown),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

/// Whether an attempt to connect fails so where no machined speaks Varlink.
fn is_nobody(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn arguments(guest: &Registration, control: Option<&str>) -> Value {
    let mut arguments = json!({
        "name": guest.name.as_str(),
        "id": guest.uuid.to_string(),
        "service": MACHINE_SERVICE,
        "class": "vm",
        "leader": guest.leader,
    });
    if !guest.interfaces.is_empty() {
        arguments["ifIndices"] = guest.interfaces.as_slice().into();
    }
    if let Some(cid) = guest.vsock_cid {
        arguments["vSockCid"] = cid.into();
    }
    if let Some(address) = control {
        arguments[CONTROL_ADDRESS] = address.into();
    }
    arguments
}

/// Reads machined's answer to a registration with or without a control address.
fn read(answer: varlink::Answer, with_control: bool) -> Result<Answer, String> {
    let Some(error) = answer.error else { return Ok(Answer::Registered) };
    let told = Value::from(answer.parameters.unwrap_or_default());
    match error.as_str() {
        VARLINK_EXISTS => Ok(Answer::Exists),
        INVALID if with_control && told["parameter"] == CONTROL_ADDRESS => Ok(Answer::Unknown),
        _ => Err(format!("{error} {told}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, with_control: bool) -> Result<Answer, String> {
        read(serde_json::from_str(text).unwrap(), with_control)
    }

    #[test]
    fn what_an_older_machined_does_not_know_is_left_out() {
        let unknown = r#"{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"controlAddress"}}"#;
        assert_eq!(answer(unknown, true), Ok(Answer::Unknown));
        let words = "org.varlink.service.InvalidParameter {\"parameter\":\"controlAddress\"}";
        assert_eq!(answer(unknown, false), Err(words.to_owned()), "it was not there");
        assert_eq!(answer(r#"{"parameters":{}}"#, true), Ok(Answer::Registered));
        let exists = r#"{"error":"io.systemd.Machine.MachineExists"}"#;
        assert_eq!(answer(exists, true), Ok(Answer::Exists));
        let denied = r#"{"error":"org.varlink.service.PermissionDenied"}"#;
        let words = "org.varlink.service.PermissionDenied {}";
        assert_eq!(answer(denied, true), Err(words.to_owned()));
    }

    #[test]
    fn a_machine_has_the_domain_s_uuid_and_its_own_address() {
        let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
        let guest = Registration {
            name: (&"web".parse::<domain::DomainName>().unwrap()).try_into().unwrap(),
            uuid: uuid.parse().unwrap(),
            leader: 42,
            interfaces: vec![7],
            vsock_cid: Some(9),
            control: true,
        };
        let told = arguments(&guest, Some("/run/glassbox/machine/web"));
        let expected = json!({
            "name": "web", "id": uuid, "service": "glassbox", "class": "vm", "leader": 42,
            "ifIndices": [7], "vSockCid": 9, "controlAddress": "/run/glassbox/machine/web",
        });
        assert_eq!(told, expected);
        assert_eq!(arguments(&guest, None)[CONTROL_ADDRESS], Value::Null);
    }
}
