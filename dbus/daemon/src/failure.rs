//! What a D-Bus caller is told when its call fails.

use std::borrow::Cow;

use dbus_api::{
    ERROR_BUSY, ERROR_CLAIMED, ERROR_FAILED, ERROR_INVALID_ARGS, ERROR_NO_SUCH_DOMAIN,
    ERROR_NOT_CANCELABLE, ERROR_NOT_RESPONDING, ERROR_NOT_RUNNING, ERROR_REFUSED, ERROR_RUNNING,
};
use domain::DomainName;
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

use crate::agent::AgentFault;
use crate::jobs::Busy;
use crate::lifeline::OpenFault;
use crate::monitor::AskFault;
use crate::registry::Malformed;

/// A failed call; the text is the message of the D-Bus error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A live guest holds the name or the UUID.
    Claimed(String),
    /// The caller may not register guests, or not manage this one.
    Refused(String),
    /// An argument is malformed.
    InvalidArgs(String),
    /// No guest has that name or UUID.
    NoSuchDomain(String),
    /// The guest has a job that excludes the new one.
    Busy(Busy),
    /// The job cannot be canceled.
    NotCancelable(String),
    /// The guest is to be started, and runs.
    Running(String),
    /// The guest does not run.
    NotRunning(String),
    /// The guest's QEMU does not answer, or has ended.
    NotResponding(String),
    /// The guest's QEMU, or the system, refuses.
    Failed(String),
    /// The daemon is about to exit, and its state is gone.
    Ending,
}

impl Failure {
    /// An argument, by its name in the introspection data, is malformed.
    pub(crate) fn argument(name: &str, fault: &dyn std::error::Error) -> Self {
        Malformed::argument(name, fault).into()
    }

    /// A command of QEMU's has no answer, or a refusal for one.
    pub(crate) fn of_ask(name: &DomainName, fault: &AskFault) -> Self {
        let text = format!("guest '{name}': {fault}");
        match fault {
            AskFault::Silent | AskFault::Ended => Self::NotResponding(text),
            AskFault::NoMonitor | AskFault::Refused(_) => Self::Failed(text),
        }
    }

    /// Nothing was opened.
    pub(crate) fn of_open(name: &DomainName, fault: &OpenFault) -> Self {
        let text = format!("guest '{name}': {fault}");
        match fault {
            OpenFault::Silent => Self::NotResponding(text),
            OpenFault::Unable | OpenFault::Refused(_) => Self::Failed(text),
        }
    }

    /// A command of the guest agent's has no answer, or a refusal for one.
    pub(crate) fn of_agent(name: &DomainName, fault: &AgentFault) -> Self {
        let text = format!("guest '{name}': {fault}");
        match fault {
            AgentFault::Open(fault) => Self::of_open(name, fault),
            AgentFault::Silent | AgentFault::Closed => Self::NotResponding(text),
            AgentFault::Channel(_)
            | AgentFault::TooLong
            | AgentFault::Malformed(_)
            | AgentFault::Refused(_) => Self::Failed(text),
        }
    }

    /// The message.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Claimed(text)
            | Self::Refused(text)
            | Self::InvalidArgs(text)
            | Self::NoSuchDomain(text)
            | Self::NotCancelable(text)
            | Self::Running(text)
            | Self::NotRunning(text)
            | Self::NotResponding(text)
            | Self::Failed(text) => text,
            Self::Busy(busy) => return Cow::Owned(busy.to_string()),
            Self::Ending => "glassboxd is ending; try again when it is back",
        })
    }
}

impl From<Malformed> for Failure {
    fn from(fault: Malformed) -> Self {
        Self::InvalidArgs(fault.to_string())
    }
}

impl zbus::DBusError for Failure {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name()).build(&(&*self.text(),))
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(match self {
            Self::Claimed(_) => ERROR_CLAIMED,
            Self::Refused(_) => ERROR_REFUSED,
            Self::InvalidArgs(_) => ERROR_INVALID_ARGS,
            Self::NoSuchDomain(_) => ERROR_NO_SUCH_DOMAIN,
            Self::Busy(_) => ERROR_BUSY,
            Self::NotCancelable(_) => ERROR_NOT_CANCELABLE,
            Self::Running(_) => ERROR_RUNNING,
            Self::NotRunning(_) => ERROR_NOT_RUNNING,
            Self::NotResponding(_) => ERROR_NOT_RESPONDING,
            Self::Failed(_) => ERROR_FAILED,
            Self::Ending => "org.freedesktop.DBus.Error.Disconnected",
        })
    }

    fn description(&self) -> Option<&str> {
        match self.text() {
            Cow::Borrowed(text) => Some(text),
            // zbus takes the reply from `create_reply`, which has it.
            Cow::Owned(_) => None,
        }
    }
}
