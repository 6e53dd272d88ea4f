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

use serde_json::{Value, json};

use super::{BUS_NAME, EXISTS, Machine, Machined, PATH, Refusal, SERVICE, is_named};
use crate::varlink;

/// Where machined speaks Varlink, systemd-machined.service(8).
const SOCKET: &str = "/run/systemd/machine/io.systemd.Machine";

const REGISTER: &str = "io.systemd.Machine.Register";
const VARLINK_EXISTS: &str = "io.systemd.Machine.MachineExists";
const INVALID: &str = "org.varlink.service.InvalidParameter";

/// The argument that machined has since 261.
const CONTROL_ADDRESS: &str = "controlAddress";

/// How long machined may take to answer; libdbus's own default for a call.
const PATIENCE: Duration = Duration::from_secs(25);

/// What machined says to a registration that it does not refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The guest is registered.
    Registered,
    /// There is a machine of that name.
    Exists,
    /// This machined does not know the call, or not its arguments.
    Unknown,
}

impl Machined {
    /// Registers a guest, whose control socket is at `control`, once.
    pub(super) async fn try_register(
        &self,
        machine: &Machine,
        control: Option<&Path>,
    ) -> Result<Answer, Refusal> {
        if let Some(control) = control.and_then(Path::to_str) {
            // Not every systemd has a socket that starts machined, but the bus starts it with all of them.
            self.wake().await?;
            for control in [Some(control), None] {
                match register_by_varlink(machine, control).await? {
                    Answer::Unknown => {}
                    answer @ (Answer::Registered | Answer::Exists) => return Ok(answer),
                }
            }
        }
        self.register_by_bus(machine).await
    }

    async fn wake(&self) -> zbus::Result<()> {
        let peer = Some("org.freedesktop.DBus.Peer");
        self.bus.call_method(Some(BUS_NAME), PATH, peer, "Ping", &()).await.map(drop)
    }

    async fn register_by_bus(&self, machine: &Machine) -> Result<Answer, Refusal> {
        let Machine { name, uuid, leader, network } = machine;
        let interfaces = network.interfaces.as_slice();
        let id: &[u8] = uuid.as_bytes();
        let body = (name.as_str(), id, SERVICE, "vm", *leader, "", interfaces);
        match self.call("RegisterMachineWithNetwork", &body).await {
            Ok(_) => Ok(Answer::Registered),
            Err(error) if is_named(&error, EXISTS) => Ok(Answer::Exists),
            Err(error) => Err(error.into()),
        }
    }
}

async fn register_by_varlink(machine: &Machine, control: Option<&str>) -> Result<Answer, Refusal> {
    let call = varlink::call(Path::new(SOCKET), REGISTER, arguments(machine, control));
    let answered = tokio::time::timeout(PATIENCE, call).await;
    match answered.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
        Ok(answer) => read(answer, control.is_some()),
        Err(error) if is_nobody(error.kind()) => Ok(Answer::Unknown),
        Err(error) => Err(Refusal::Varlink(error.to_string())),
    }
}

/// Whether an attempt to connect fails so where no machined speaks Varlink.
fn is_nobody(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn arguments(machine: &Machine, control: Option<&str>) -> Value {
    let mut arguments = json!({
        "name": machine.name.as_str(),
        "id": machine.uuid.to_string(),
        "service": SERVICE,
        "class": "vm",
        "leader": machine.leader,
    });
    if !machine.network.interfaces.is_empty() {
        arguments["ifIndices"] = machine.network.interfaces.as_slice().into();
    }
    if let Some(cid) = machine.network.vsock_cid {
        arguments["vSockCid"] = cid.into();
    }
    if let Some(address) = control {
        arguments[CONTROL_ADDRESS] = address.into();
    }
    arguments
}

/// Reads machined's answer to a registration with or without a control address.
fn read(answer: varlink::Answer, with_control: bool) -> Result<Answer, Refusal> {
    let Some(error) = answer.error else { return Ok(Answer::Registered) };
    let told = Value::from(answer.parameters.unwrap_or_default());
    match error.as_str() {
        VARLINK_EXISTS => Ok(Answer::Exists),
        INVALID if with_control && told["parameter"] == CONTROL_ADDRESS => Ok(Answer::Unknown),
        _ => Err(Refusal::Varlink(format!("{error} {told}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Network;

    fn answer(text: &str, with_control: bool) -> Result<Answer, String> {
        read(serde_json::from_str(text).unwrap(), with_control).map_err(|why| why.to_string())
    }

    #[test]
    fn what_an_older_machined_does_not_know_is_left_out() {
        let unknown = r#"{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"controlAddress"}}"#;
        assert_eq!(answer(unknown, true), Ok(Answer::Unknown));
        let words = "systemd-machined: org.varlink.service.InvalidParameter {\"parameter\":\"controlAddress\"}";
        assert_eq!(answer(unknown, false), Err(words.to_owned()), "it was not there");
        assert_eq!(answer(r#"{"parameters":{}}"#, true), Ok(Answer::Registered));
        let exists = r#"{"error":"io.systemd.Machine.MachineExists"}"#;
        assert_eq!(answer(exists, true), Ok(Answer::Exists));
        let denied = r#"{"error":"org.varlink.service.PermissionDenied"}"#;
        let words = "systemd-machined: org.varlink.service.PermissionDenied {}";
        assert_eq!(answer(denied, true), Err(words.to_owned()));
    }

    #[test]
    fn a_machine_has_the_domain_s_uuid_and_its_own_address() {
        let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
        let machine = Machine {
            name: (&"web".parse::<domain::DomainName>().unwrap()).try_into().unwrap(),
            uuid: uuid.parse().unwrap(),
            leader: 42,
            network: Network { interfaces: vec![7], vsock_cid: Some(9) },
        };
        let told = arguments(&machine, Some("/run/glassbox/machine/web"));
        let expected = json!({
            "name": "web", "id": uuid, "service": "glassbox", "class": "vm", "leader": 42,
            "ifIndices": [7], "vSockCid": 9, "controlAddress": "/run/glassbox/machine/web",
        });
        assert_eq!(told, expected);
        assert_eq!(arguments(&machine, None)[CONTROL_ADDRESS], Value::Null);
    }
}
