//! QEMU's machine protocol, QMP, as bytes in and bytes out.
//!
//! [`Session`] is the client's side of one monitor: feed it what the socket gave, take [`Message`]s out, send
//! what it wants sent. It owns no socket, no clock and no thread, so that the shim can run it on `poll` and
//! the daemon on its runtime, and a test on a transcript.
//!
//! Fields that a QEMU leaves out are optional and fields that it adds are ignored, so one session serves
//! every version from 7.2 on. The protocol is described in QEMU's `docs/interop/qmp-spec.rst`.

mod message;
mod session;
pub mod vcpus;

pub use message::{CommandError, Event, Message, Version};
pub use session::{CommandId, ProtocolError, Session};
