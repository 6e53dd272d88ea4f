//! What goes over a lifeline when its shim opens things for the daemon: one datagram a request, one an answer.
//!
//! A console or the socket of a channel is the guest's account's, and the daemon may not open it. A shim that said
//! [`OPTION_OPENS`](crate::OPTION_OPENS) when it registered opens it, and hands the file descriptor over with its answer
//! (unix(7), `SCM_RIGHTS`). Both sides know requests by their numbers, for an answer may come to another daemon than the
//! one that asked.

use std::fmt;

/// The longest request or answer, in bytes; a longer one is cut off and then none.
pub const LONGEST: usize = 1024;

/// What is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// A console by its alias, `serial0`; without a name the first one.
    Console,
    /// A channel by its name in the guest, `org.qemu.guest_agent.0`.
    Channel,
}

/// A request of the daemon's.
///
/// ```
/// use dbus_api::opening::{Port, Request};
/// let request = Request { number: 7, port: Port::Console, name: "serial0" };
/// assert_eq!(request.to_string(), "7 console serial0");
/// assert_eq!(Request::parse(b"7 console serial0"), Some(request));
/// assert_eq!(Request::parse(b"7 window serial0"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'n> {
    /// Its number.
    pub number: u64,
    /// What is to be opened.
    pub port: Port,
    /// Which one.
    pub name: &'n str,
}

/// An answer of the shim's; that of one that was opened has the file descriptor with it.
///
/// ```
/// use dbus_api::opening::Answer;
/// let opened = Answer { number: 7, refusal: None };
/// assert_eq!(Answer::parse(opened.to_string().as_bytes()), Some(opened));
/// let refused = Answer { number: 8, refusal: Some("it is a file") };
/// assert_eq!(refused.to_string(), "8 refused it is a file");
/// assert_eq!(Answer::parse(b"8 refused it is a file"), Some(refused));
/// assert_eq!(Answer::parse(b"8 maybe"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'w> {
    /// The request's number.
    pub number: u64,
    /// Why it was not opened, if it was not.
    pub refusal: Option<&'w str>,
}

impl Port {
    const ALL: [Self; 2] = [Self::Console, Self::Channel];

    fn word(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Channel => "channel",
        }
    }
}

impl<'n> Request<'n> {
    /// Reads a request; none of another form.
    #[must_use]
    pub fn parse(bytes: &'n [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.splitn(3, ' ');
        let number = parts.next()?.parse().ok()?;
        let word = parts.next()?;
        let port = Port::ALL.into_iter().find(|port| port.word() == word)?;
        // The name is the rest: that of a channel may have spaces.
        Some(Self { number, port, name: parts.next()? })
    }
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.number, self.port.word(), self.name)
    }
}

impl<'w> Answer<'w> {
    /// Reads an answer; none of another form.
    #[must_use]
    pub fn parse(bytes: &'w [u8]) -> Option<Self> {
        let (number, rest) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
        let number = number.parse().ok()?;
        match rest {
            "opened" => Some(Self { number, refusal: None }),
            _ => Some(Self { number, refusal: Some(rest.strip_prefix("refused ")?) }),
        }
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.refusal {
            None => write!(f, "{} opened", self.number),
            Some(words) => write!(f, "{} refused {words}", self.number),
        }
    }
}
