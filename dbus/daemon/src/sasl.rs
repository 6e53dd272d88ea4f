//! The server's half of D-Bus authentication: bytes in, bytes out, without any socket.
//!
//! Only EXTERNAL is offered: the kernel tells the client's user id, and it alone counts (D-Bus specification,
//! "Authentication Protocol"). What number the client says is no matter, as long as it is one: in a user namespace,
//! such as a pod's, it knows itself by another.
//!
//! ```text
//!         AUTH EXTERNAL            DATA and an identity, or none
//!   Auth ----------------> Data ------------------------------------------> Begin ----> begun
//!    | ^                    |                                                | ^  BEGIN
//!    | +------ CANCEL, ERROR, or what is no identity ------------------------+ |
//!    +-------------------------------------------------------------------------+
//!         AUTH EXTERNAL and an identity
//! ```
//!
//! It is ours because zbus's own (6.2) panics at a first byte of LF, so that any client could end the daemon, and
//! because it reads lines of any length.

/// No line that a sensible client sends is longer; the longest one is a refused mechanism's.
const LONGEST_LINE: usize = 512;

/// How many lines a client may take to authenticate; a sensible one needs four.
const MOST_LINES: u32 = 32;

/// An authentication in progress.
#[derive(Debug)]
pub(crate) struct Handshake {
    guid: String,
    state: State,
    lines: u32,
    is_greeted: bool,
}

/// What the server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For AUTH.
    Auth,
    /// For the identity.
    Data,
    /// For BEGIN.
    Begin,
}

/// Whether the client is authenticated and sends messages from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More input is needed.
    More,
    /// What is left of the input is the first message's.
    Begun,
}

/// A client does not speak the protocol; it is to be disconnected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SaslFault {
    /// The credentials byte is missing.
    #[error("its first byte is not NUL")]
    NoNul,
    /// A line is not ended by CR and LF.
    #[error("it ends a line without CR")]
    NoCr,
    /// A line is too long.
    #[error("it sends a line of more than {LONGEST_LINE} bytes")]
    TooLong,
    /// A client tries without end.
    #[error("it is not authenticated after {MOST_LINES} lines")]
    TooMany,
    /// A client does not wait until it is authenticated.
    #[error("it begins before it is authenticated")]
    TooEarly,
}

impl Handshake {
    /// Starts the authentication of a client to a server known by `guid`.
    pub(crate) fn new(guid: String) -> Self {
        Self { guid, state: State::Auth, lines: 0, is_greeted: false }
    }

    /// Takes the whole lines from `input` and appends the answers to `output`.
    pub(crate) fn feed(
        &mut self,
        input: &mut Vec<u8>,
        output: &mut Vec<u8>,
    ) -> Result<Progress, SaslFault> {
        if !self.is_greeted && !input.is_empty() {
            if input.remove(0) != 0 {
                return Err(SaslFault::NoNul);
            }
            self.is_greeted = true;
        }
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = input.drain(..=end).collect();
            let line = line.strip_suffix(b"\r\n").ok_or(SaslFault::NoCr)?;
            let Some(answer) = self.answer(line)? else { return Ok(Progress::Begun) };
            output.extend_from_slice(answer.as_bytes());
            output.extend_from_slice(b"\r\n");
        }
        if input.len() > LONGEST_LINE {
            return Err(SaslFault::TooLong);
        }
        Ok(Progress::More)
    }

    /// The answer to one line, or `None` when messages follow.
    fn answer(&mut self, line: &[u8]) -> Result<Option<String>, SaslFault> {
        self.lines += 1;
        if self.lines > MOST_LINES {
            return Err(SaslFault::TooMany);
        }
        if line.len() > LONGEST_LINE {
            return Err(SaslFault::TooLong);
        }
        // What is no text is no command either, and is answered as one that is not known.
        let line = std::str::from_utf8(line).unwrap_or_default();
        let mut words = line.splitn(3, ' ');
        let command = (words.next().unwrap_or_default(), words.next(), words.next());
        Ok(Some(match (self.state, command) {
            (State::Auth, ("AUTH", Some("EXTERNAL"), Some(identity))) => self.check(identity),
            (State::Auth, ("AUTH", Some("EXTERNAL"), None)) => {
                self.state = State::Data;
                "DATA".to_owned()
            }
            (State::Auth, ("AUTH", _, _))
            | (State::Data | State::Begin, ("CANCEL" | "ERROR", _, _)) => self.reject(),
            (State::Data, ("DATA", identity, None)) => self.check(identity.unwrap_or_default()),
            (State::Begin, ("NEGOTIATE_UNIX_FD", None, None)) => "AGREE_UNIX_FD".to_owned(),
            (State::Begin, ("BEGIN", None, None)) => return Ok(None),
            (State::Auth | State::Data, ("BEGIN", _, _)) => {
                return Err(SaslFault::TooEarly);
            }
            (State::Auth | State::Data | State::Begin, _) => {
                "ERROR \"unknown or misplaced command\"".to_owned()
            }
        }))
    }

    /// Takes a client for whom the kernel says it is, if it says a user id in hexadecimal ASCII, or nothing.
    fn check(&mut self, identity: &str) -> String {
        let is_digit = |digit: &[u8]| matches!(digit, [b'3', b'0'..=b'9']);
        if !identity.as_bytes().chunks(2).all(is_digit) {
            return self.reject();
        }
        self.state = State::Begin;
        format!("OK {}", self.guid)
    }

    fn reject(&mut self) -> String {
        self.state = State::Auth;
        "REJECTED EXTERNAL".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GUID: &str = "1234deadbeef";

    fn handshake() -> Handshake {
        Handshake::new(GUID.to_owned())
    }

    /// Feeds the bytes in pieces of `size`; gives the answers and what is left when messages follow.
    fn converse(input: &[u8], size: usize) -> Result<(String, Option<Vec<u8>>), SaslFault> {
        let (mut handshake, mut pending, mut output) = (handshake(), Vec::new(), Vec::new());
        for (index, piece) in input.chunks(size).enumerate() {
            pending.extend_from_slice(piece);
            if handshake.feed(&mut pending, &mut output)? == Progress::Begun {
                pending.extend(input.chunks(size).skip(index + 1).flatten());
                return Ok((String::from_utf8(output).unwrap(), Some(pending)));
            }
        }
        Ok((String::from_utf8(output).unwrap(), None))
    }

    /// Lines of `>` to the server and `<` from it; a last `>>` is what follows BEGIN.
    fn check(transcript: &str) {
        let mut input = vec![0];
        let (mut expected, mut left) = (String::new(), None);
        for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix(">>") {
                input.extend_from_slice(rest.trim().as_bytes());
                left = Some(rest.trim().as_bytes().to_vec());
            } else if let Some(sent) = line.strip_prefix("> ") {
                input.extend_from_slice(sent.as_bytes());
                input.extend_from_slice(b"\r\n");
            } else {
                expected.push_str(line.strip_prefix("< ").unwrap());
                expected.push_str("\r\n");
            }
        }
        for size in [1, 2, 7, input.len()] {
            assert_eq!(
                converse(&input, size),
                Ok((expected.clone(), left.clone())),
                "{transcript}"
            );
        }
    }

    #[test]
    fn clients_that_speak_the_protocol_get_in() {
        // libdbus and zbus say who they are; 31303030 is "1000".
        check(
            "> AUTH EXTERNAL 31303030
             < OK 1234deadbeef
             > NEGOTIATE_UNIX_FD
             < AGREE_UNIX_FD
             > BEGIN
             >> message",
        );
        // In a user namespace a client may be 0 to itself.
        check(
            "> AUTH EXTERNAL 30
             < OK 1234deadbeef
             > BEGIN
             >>",
        );
        // sd-bus leaves it to the kernel.
        check(
            "> AUTH EXTERNAL
             < DATA
             > DATA
             < OK 1234deadbeef
             > NEGOTIATE_UNIX_FD
             < AGREE_UNIX_FD
             > BEGIN
             >>",
        );
        // GDBus first asks what there is.
        check(
            "> AUTH
             < REJECTED EXTERNAL
             > AUTH EXTERNAL 31303030
             < OK 1234deadbeef
             > BEGIN
             >> l",
        );
    }

    #[test]
    fn others_are_rejected_and_may_try_again() {
        check(
            "> AUTH EXTERNAL 726f6f74
             < REJECTED EXTERNAL
             > AUTH EXTERNAL 3
             < REJECTED EXTERNAL
             > AUTH ANONYMOUS
             < REJECTED EXTERNAL
             > AUTH DBUS_COOKIE_SHA1 31303030
             < REJECTED EXTERNAL
             > NEGOTIATE_UNIX_FD
             < ERROR \"unknown or misplaced command\"
             > DATA 31303030
             < ERROR \"unknown or misplaced command\"
             > AUTH EXTERNAL
             < DATA
             > DATA 0
             < REJECTED EXTERNAL
             > AUTH EXTERNAL 31303030
             < OK 1234deadbeef
             > CANCEL
             < REJECTED EXTERNAL",
        );
    }

    #[test]
    fn who_does_not_speak_it_is_disconnected() {
        let long = [&[0][..], &[b'A'; LONGEST_LINE + 2], b"\r\n"].concat();
        let endless = [&[0][..], &b"AUTH\r\n".repeat(40)].concat();
        for (input, fault) in [
            (&b"\n"[..], SaslFault::NoNul),
            (b"AUTH\r\n", SaslFault::NoNul),
            (b"\0\n", SaslFault::NoCr),
            (b"\0AUTH\n", SaslFault::NoCr),
            (b"\0AUTH\r\n\n", SaslFault::NoCr),
            (b"\0BEGIN\r\n", SaslFault::TooEarly),
            (b"\0AUTH EXTERNAL\r\nBEGIN\r\n", SaslFault::TooEarly),
            (&long, SaslFault::TooLong),
            (&endless, SaslFault::TooMany),
        ] {
            for size in [1, 3, input.len()] {
                assert_eq!(converse(input, size), Err(fault.clone()), "{input:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_let_a_stranger_in(
            lines in proptest::collection::vec("(AUTH|DATA|BEGIN|CANCEL|EXTERNAL|30|31|[ \r\n]|\\PC){0,4}\r?\n", 0..12),
            size in 1..64usize,
        ) {
            let input = [&[0][..], lines.concat().as_bytes()].concat();
            if let Ok((output, Some(_))) = converse(&input, size) {
                prop_assert!(output.contains("OK 1234deadbeef\r\n"));
            }
        }
    }
}
