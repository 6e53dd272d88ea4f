//! What QEMU is told over QMP in the course of a guest's life.

use serde_json::{Value, json};

/// What is sent over QMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Capabilities,
    QueryChardev,
    QueryCpus,
    QueryIothreads,
    /// A reset by the guest stops QEMU's CPUs and tells, instead of starting the guest anew.
    RebootShutsDown,
    /// A reset starts the guest anew, as QEMU does unless told otherwise.
    RebootResets,
    /// The order with this index of those that go before the guest runs, see [`crate::orders`].
    Order(usize),
    Cont,
    /// What the guest does once it is prepared and nobody was told to let it run.
    QueryStatus,
    /// Writes the guest's memory to a file, while QEMU goes on answering.
    Dump,
    Powerdown,
    Reset,
    Quit,
}

impl Command {
    /// QMP's name of the command.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Capabilities => "qmp_capabilities",
            Self::QueryChardev => "query-chardev",
            Self::QueryCpus => "query-cpus-fast",
            Self::QueryIothreads => "query-iothreads",
            // Of QEMU 6.0 and later, qapi/run-state.json.
            Self::RebootShutsDown | Self::RebootResets => "set-action",
            Self::Order(_) => "to prepare the guest",
            Self::Cont => "cont",
            Self::QueryStatus => "query-status",
            Self::Dump => "dump-guest-memory",
            Self::Powerdown => "system_powerdown",
            Self::Reset => "system_reset",
            Self::Quit => "quit",
        }
    }

    /// Its arguments as a JSON object, or null where there are none or another place knows them.
    pub(crate) fn arguments(self) -> Value {
        match self {
            Self::RebootShutsDown => json!({ "reboot": "shutdown" }),
            Self::RebootResets => json!({ "reboot": "reset" }),
            Self::Capabilities
            | Self::QueryChardev
            | Self::QueryCpus
            | Self::QueryIothreads
            | Self::Order(_)
            | Self::Cont
            | Self::QueryStatus
            | Self::Dump
            | Self::Powerdown
            | Self::Reset
            | Self::Quit => Value::Null,
        }
    }
}
