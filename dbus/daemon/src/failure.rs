//! What a D-Bus caller is told when its call fails.

use dbus_api::{ERROR_CLAIMED, ERROR_INVALID_ARGS, ERROR_NO_SUCH_DOMAIN, ERROR_REFUSED};
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

/// A failed call; the text is the message of the D-Bus error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A live guest holds the name or the UUID.
    Claimed(String),
    /// The caller may not register guests.
    Refused(String),
    /// An argument is malformed.
    InvalidArgs(String),
    /// No live guest has that name or UUID.
    NoSuchDomain(String),
    /// The daemon is about to exit, and its state is gone.
    Ending,
}

impl Failure {
    /// An argument, by its name in the introspection data, is malformed.
    pub(crate) fn argument(name: &str, fault: &dyn std::error::Error) -> Self {
        let mut text = format!("{name}: {fault}");
        let mut source = fault.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::InvalidArgs(text)
    }

    fn text(&self) -> &str {
        match self {
            Self::Claimed(text)
            | Self::Refused(text)
            | Self::InvalidArgs(text)
            | Self::NoSuchDomain(text) => text,
            Self::Ending => "glassboxd is ending; register again when it is back",
        }
    }
}

impl zbus::DBusError for Failure {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name()).build(&(self.text(),))
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(match self {
            Self::Claimed(_) => ERROR_CLAIMED,
            Self::Refused(_) => ERROR_REFUSED,
            Self::InvalidArgs(_) => ERROR_INVALID_ARGS,
            Self::NoSuchDomain(_) => ERROR_NO_SUCH_DOMAIN,
            Self::Ending => "org.freedesktop.DBus.Error.Disconnected",
        })
    }

    fn description(&self) -> Option<&str> {
        Some(self.text())
    }
}
