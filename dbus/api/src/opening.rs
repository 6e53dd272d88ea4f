//! What goes over a lifeline when its shim opens things for the daemon, or reboots its guest: one datagram a request, one an
//! answer.
//!
//! A console or the socket of a channel is the guest's account's, and the daemon may not open it. A shim that said
//! [`OPTION_OPENS`](crate::OPTION_OPENS) when it registered opens it, and hands the file descriptor over with its answer
//! (unix(7), `SCM_RIGHTS`). A guest outside of the units that the daemon can have signaled is rebooted by its shim, which
//! answers when it has begun; an older one does not answer that. Both sides know requests by their numbers, for an answer may come to another daemon than the
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
/// use dbus_api::opening::{Port, Request, Wish};
/// let wish = Wish::Open { port: Port::Console, name: "serial0" };
/// let request = Request { number: 7, wish };
/// assert_eq!(request.to_string(), "7 console serial0");
/// assert_eq!(Request::parse(b"7 console serial0"), Some(request));
/// assert_eq!(Request::parse(b"7 window serial0"), None);
/// let request = Request { number: 8, wish: Wish::Reboot };
/// assert_eq!(request.to_string(), "8 reboot");
/// assert_eq!(Request::parse(b"8 reboot"), Some(request));
/// assert_eq!(Request::parse(b"8 reboot now"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'n> {
    /// Its number.
    pub number: u64,
    /// What is wanted.
    pub wish: Wish<'n>,
}

/// What the daemon wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish<'n> {
    /// Something is to be opened.
    Open {
        /// What.
        port: Port,
        /// Which one.
        name: &'n str,
    },
    /// The guest is to shut down and to be started anew, as by the signal `SIGRTMIN+5`.
    Reboot,
}

/// An answer of the shim's; that of one that was opened has the file descriptor with it.
///
/// ```
/// use dbus_api::opening::{Answer, Outcome};
/// for (outcome, text) in [(Outcome::Opened, "7 opened"), (Outcome::Begun, "7 begun")] {
///     let answer = Answer { number: 7, outcome };
///     assert_eq!(answer.to_string(), text);
///     assert_eq!(Answer::parse(text.as_bytes()), Some(answer));
/// }
/// let refused = Answer { number: 8, outcome: Outcome::Refused("it is a file") };
/// assert_eq!(refused.to_string(), "8 refused it is a file");
/// assert_eq!(Answer::parse(b"8 refused it is a file"), Some(refused));
/// assert_eq!(Answer::parse(b"8 maybe"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'w> {
    /// The request's number.
    pub number: u64,
    /// What came of it.
    pub outcome: Outcome<'w>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'w> {
    /// It was opened.
    Opened,
    /// The guest's reboot was begun.
    Begun,
    /// It was refused, in these words.
    Refused(&'w str),
}

/// The word of [`Wish::Reboot`].
const REBOOT: &str = "reboot";

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
        if word == REBOOT {
            return parts.next().is_none().then_some(Self { number, wish: Wish::Reboot });
        }
        let port = Port::ALL.into_iter().find(|port| port.word() == word)?;
        // The name is the rest: that of a channel may have spaces.
        Some(Self { number, wish: Wish::Open { port, name: parts.next()? } })
    }
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wish {
            Wish::Open { port, name } => write!(f, "{} {} {name}", self.number, port.word()),
            Wish::Reboot => write!(f, "{} {REBOOT}", self.number),
        }
    }
}

impl<'w> Answer<'w> {
    /// Reads an answer; none of another form.
    #[must_use]
    pub fn parse(bytes: &'w [u8]) -> Option<Self> {
        let (number, rest) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
        let number = number.parse().ok()?;
        let outcome = match rest {
            "opened" => Outcome::Opened,
            "begun" => Outcome::Begun,
            _ => Outcome::Refused(rest.strip_prefix("refused ")?),
        };
        Some(Self { number, outcome })
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Opened => write!(f, "{} opened", self.number),
            Outcome::Begun => write!(f, "{} begun", self.number),
            Outcome::Refused(words) => write!(f, "{} refused {words}", self.number),
        }
    }
}
