//! The methods of a guest's control socket (`io.systemd.MachineInstance`, systemd-vmspawn(1)), in terms of the jobs that
//! D-Bus has as well.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{events, storage};
use crate::failure::Failure;
use crate::guest::Guest;
use crate::jobs::{JobKind, Outcome};
use crate::monitor::AskFault;
use crate::runner::Runner;
use crate::state::State;
use crate::systemd::Systemd;
use crate::varlink::{Call, CallError, SERVICE};
use crate::work;
use crate::work::volumes::{VolumeFault, Volumes};

/// The interface of a machine.
pub(super) const INSTANCE: &str = "io.systemd.MachineInstance";

/// The descriptions of the interfaces, by their names.
const DESCRIPTIONS: [(&str, &str); 2] = [
    (INSTANCE, include_str!("io.systemd.MachineInstance.varlink")),
    (SERVICE, include_str!("org.varlink.service.varlink")),
];

/// What every method of systemd's takes beside its own arguments; there is nobody to ask for a password here.
const INTERACTIVE: &str = "allowInteractiveAuthentication";

/// A guest as its control socket shows it.
#[derive(Debug)]
pub(super) struct Instance {
    /// The guest.
    pub(super) guest: Arc<Guest>,
    /// Changes its volumes.
    pub(super) volumes: Volumes,
    /// Runs what is asked for.
    pub(super) runner: Runner,
    /// Stops units.
    pub(super) systemd: Systemd,
}

impl Instance {
    /// Does what is asked for, with the files that came with that, and gives what to answer; `manages` is whether the
    /// caller may do more than read.
    pub(super) async fn answer(
        &self,
        call: &Call,
        files: Vec<OwnedFd>,
        manages: bool,
    ) -> Result<Value, CallError> {
        let (interface, method) = call.method.rsplit_once('.').unwrap_or(("", &call.method));
        match interface {
            SERVICE => about(method, call),
            INSTANCE if method == "Describe" => {
                takes(call, &[])?;
                self.guest.monitor().refresh().await;
                Ok(description(self.guest.monitor().face().state))
            }
            INSTANCE if ["AddStorage", "RemoveStorage"].contains(&method) => {
                admit(manages)?;
                self.store(method, call, files).await
            }
            INSTANCE => self.manage(method, call, manages).await,
            _ => Err(CallError::of_service("InterfaceNotFound", "interface", interface)),
        }
    }

    /// The names of the events that the caller wants to be told, if that is what it calls for.
    pub(super) fn subscription(
        &self,
        call: &Call,
        manages: bool,
    ) -> Option<Result<Vec<String>, CallError>> {
        let method = call.method.strip_prefix(INSTANCE)?;
        // What QEMU tells may name clients of its displays, which are nobody else's affair.
        (method == ".SubscribeEvents").then(|| admit(manages).and_then(|()| events::wanted(call)))
    }

    async fn manage(&self, method: &str, call: &Call, manages: bool) -> Result<Value, CallError> {
        let (kind, command) = match method {
            "PowerOff" => (JobKind::Shutdown, "system_powerdown"),
            "Reboot" => (JobKind::Reset, "system_reset"),
            "Pause" => (JobKind::Suspend, "stop"),
            "Resume" => (JobKind::Resume, "cont"),
            "Terminate" => {
                takes(call, &[])?;
                admit(manages)?;
                let work = work::stop_unit(self.guest.clone(), self.systemd.clone());
                return self.job(JobKind::Destroy, work).await;
            }
            "ReplaceStorage" => return Err(CallError::plain(INSTANCE, "NotSupported")),
            _ => return Err(CallError::of_service("MethodNotFound", "method", &call.method)),
        };
        takes(call, &[])?;
        admit(manages)?;
        self.job(kind, work::command(self.guest.clone(), command, Value::Null)).await
    }

    /// Gives the guest a volume, or takes one from it.
    async fn store(
        &self,
        method: &str,
        call: &Call,
        files: Vec<OwnedFd>,
    ) -> Result<Value, CallError> {
        let volumes = self.volumes.clone();
        if method == "AddStorage" {
            let volume = storage::added(call, files)?;
            return self.volume_job(JobKind::AttachDevice, volumes.add(volume)).await;
        }
        let name = storage::removed(call)?;
        let work = async move { volumes.remove(&name).await };
        self.volume_job(JobKind::DetachDevice, work).await
    }

    /// As [`Self::job`], with answers of its own for what fails.
    async fn volume_job<F>(&self, kind: JobKind, work: F) -> Result<Value, CallError>
    where
        F: Future<Output = Result<(), VolumeFault>> + Send + 'static,
    {
        let (failed, mut fault) = oneshot::channel();
        let work = async {
            match work.await {
                Ok(()) => Outcome::Done,
                Err(fault) => {
                    let words = fault.to_string();
                    // The caller may have hung up meanwhile.
                    let _ = failed.send(fault);
                    Outcome::Failed(words)
                }
            }
        };
        let answer = self.job(kind, work).await;
        fault.try_recv().map_or(answer, |fault| Err(refused(&fault)))
    }

    /// Runs a job, and answers when it is over.
    async fn job<F>(&self, kind: JobKind, work: F) -> Result<Value, CallError>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (ended, outcome) = oneshot::channel();
        let work = async {
            let outcome = work.await;
            // The caller may have hung up meanwhile.
            let _ = ended.send(outcome.clone());
            outcome
        };
        let begun = self.runner.begin_plainly(self.guest.name(), kind, work).await;
        begun.map_err(|failure| refusal(&failure))?;
        match outcome.await {
            Ok(Outcome::Done) => Ok(json!({})),
            Ok(Outcome::Failed(_)) if !self.guest.monitor().face().responding => {
                Err(CallError::plain(INSTANCE, "NotConnected"))
            }
            Ok(Outcome::Failed(words)) => Err(system_error(("EIO", nix::libc::EIO), &words)),
            // Nobody cancels these; the daemon ends.
            Ok(Outcome::Canceled) | Err(_) => Err(CallError::plain(INSTANCE, "NotConnected")),
        }
    }
}

/// The methods that every service has.
fn about(method: &str, call: &Call) -> Result<Value, CallError> {
    match method {
        "GetInfo" => Ok(json!({
            "vendor": "Glassbox",
            "product": "glassboxd",
            "version": env!("CARGO_PKG_VERSION"),
            "url": "man:glassboxd(8)",
            "interfaces": DESCRIPTIONS.map(|(name, _)| name),
        })),
        "GetInterfaceDescription" => {
            let parameters = call.parameters.as_ref();
            let asked = parameters.and_then(|given| given.get("interface")?.as_str());
            let asked = asked.ok_or_else(|| {
                CallError::of_service("InvalidParameter", "parameter", "interface")
            })?;
            let found = DESCRIPTIONS.iter().find(|(name, _)| *name == asked);
            let (_, text) = found
                .ok_or_else(|| CallError::of_service("InterfaceNotFound", "interface", asked))?;
            Ok(json!({ "description": text }))
        }
        _ => Err(CallError::of_service("MethodNotFound", "method", &call.method)),
    }
}

/// Refuses a caller who may not do more than read.
fn admit(manages: bool) -> Result<(), CallError> {
    match manages {
        true => Ok(()),
        false => Err(CallError::plain(SERVICE, "PermissionDenied")),
    }
}

/// Refuses a call with other arguments than these.
pub(super) fn takes(call: &Call, names: &[&str]) -> Result<(), CallError> {
    let given = call.parameters.iter().flat_map(|given| given.keys());
    match given.into_iter().find(|name| *name != INTERACTIVE && !names.contains(&name.as_str())) {
        Some(name) => Err(CallError::of_service("InvalidParameter", "parameter", name)),
        None => Ok(()),
    }
}

/// systemd's error for a volume that does not come or go.
fn refused(fault: &VolumeFault) -> CallError {
    match fault {
        VolumeFault::Exists => CallError::plain(INSTANCE, "StorageExists"),
        VolumeFault::Missing => CallError::plain(INSTANCE, "NoSuchStorage"),
        VolumeFault::NoUnit => CallError::plain(INSTANCE, "NotSupported"),
        VolumeFault::TooMany => system_error(("EBUSY", nix::libc::EBUSY), &fault.to_string()),
        VolumeFault::Ask(AskFault::Refused(_)) | VolumeFault::Failed(_) => {
            system_error(("EIO", nix::libc::EIO), &fault.to_string())
        }
        VolumeFault::Ask(AskFault::NoMonitor | AskFault::Silent | AskFault::Ended) => {
            CallError::plain(INSTANCE, "NotConnected")
        }
    }
}

/// What `Describe` tells, with libvirt's word for the state.
fn description(state: State) -> Value {
    let status = if state == State::Unknown { "unknown" } else { state.word() };
    json!({ "running": matches!(state, State::Running(_)), "status": status })
}

/// A job that was not begun; all that keeps one from that is another, and the end of the daemon.
fn refusal(failure: &Failure) -> CallError {
    if let Failure::Busy(busy) = failure {
        return system_error(("EBUSY", nix::libc::EBUSY), &busy.to_string());
    }
    CallError::plain(INSTANCE, "NotConnected")
}

/// systemd's error for what has no name of its own, by which machinectl knows what to print (varlink-util.c); the
/// message is for others.
pub(super) fn system_error((name, number): (&str, i32), message: &str) -> CallError {
    let parameters =
        json!({ "origin": "linux", "errno": number, "errnoName": name, "message": message });
    CallError { name: "io.systemd.System".to_owned(), parameters }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{WhyPaused, WhyRunning};

    fn call(method: &str, parameters: &Value) -> Call {
        serde_json::from_value(json!({ "method": method, "parameters": parameters })).unwrap()
    }

    #[test]
    fn states_are_described() {
        for (state, running, status) in [
            (State::Running(WhyRunning::Booted), true, "running"),
            (State::Paused(WhyPaused::User), false, "paused"),
            (State::Unknown, false, "unknown"),
        ] {
            assert_eq!(description(state), json!({ "running": running, "status": status }));
        }
    }

    #[test]
    fn a_call_is_admitted_by_who_makes_it_and_what_it_has() {
        let pause = format!("{INSTANCE}.Pause");
        assert_eq!(takes(&call(&pause, &json!({ INTERACTIVE: true })), &[]), Ok(()));
        let wrong = takes(&call(&pause, &json!({ "force": true })), &["name"]).unwrap_err();
        assert_eq!(wrong.parameters, json!({ "parameter": "force" }));
        assert_eq!(admit(true), Ok(()));
        assert_eq!(admit(false).unwrap_err().name, "org.varlink.service.PermissionDenied");
    }

    #[test]
    fn the_service_tells_what_it_is() {
        let info = about("GetInfo", &call("org.varlink.service.GetInfo", &Value::Null)).unwrap();
        assert_eq!(info["interfaces"], json!([INSTANCE, SERVICE]));
        let ask = |interface: Value| {
            let call = call("org.varlink.service.GetInterfaceDescription", &interface);
            about("GetInterfaceDescription", &call)
        };
        for (name, _) in DESCRIPTIONS {
            let told = ask(json!({ "interface": name })).unwrap();
            let text = told["description"].as_str().unwrap();
            assert!(text.contains(&format!("\ninterface {name}\n")), "{text}");
        }
        let unknown = ask(json!({ "interface": "a.b" })).unwrap_err();
        assert_eq!(unknown, CallError::of_service("InterfaceNotFound", "interface", "a.b"));
        let missing = ask(json!({})).unwrap_err();
        assert_eq!(missing, CallError::of_service("InvalidParameter", "parameter", "interface"));
    }
}
