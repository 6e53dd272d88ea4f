//! A stand-in for QEMU's end of a monitor, for what a real one cannot be made to do on demand: to hang, to send half a
//! line, to say what is no QMP.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tests::StandInQemu;

/// A stand-in QEMU, with a thread that answers until its other end is closed.
pub(crate) struct StandIn {
    socket: UnixStream,
    state: Arc<Mutex<State>>,
    /// The daemon's end.
    handed: UnixStream,
}

#[derive(Default)]
struct State {
    hangs: bool,
    qemu: StandInQemu,
    commands: Vec<String>,
    /// The command that it was given last, whether it has taken it or hangs.
    last: String,
}

impl StandIn {
    /// A QEMU whose guest runs, which greets as one that was just started.
    pub(crate) fn running() -> Self {
        let (socket, handed) = UnixStream::pair().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let stand_in = Self { socket, state, handed };
        stand_in.say(&StandInQemu::greeting());
        let (socket, state) = (stand_in.socket.try_clone().unwrap(), stand_in.state.clone());
        std::thread::spawn(move || serve(socket, &state));
        stand_in
    }

    /// The daemon's end, as the option of `Register`.
    pub(crate) fn handed(&self) -> zbus::OwnedVariant {
        let fd = OwnedFd::from(self.handed.try_clone().unwrap());
        zbus::Variant::from(zbus::Fd::from(fd)).try_into_owned().unwrap()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&self, bytes: &[u8]) {
        (&self.socket).write_all(bytes).unwrap();
    }

    /// Sends as much of the bytes as is taken before the other end gives up, which this one does not see.
    pub(crate) fn try_send(&self, bytes: &[u8]) {
        self.socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // That is the way it fails, if it does.
        let _ = (&self.socket).write_all(bytes);
        self.socket.set_write_timeout(None).unwrap();
    }

    /// Sends a message.
    pub(crate) fn say(&self, message: &Value) {
        self.send(format!("{message}\r\n").as_bytes());
    }

    /// Sends an event.
    pub(crate) fn happen(&self, event: &str, data: &Value) {
        self.say(&json!({ "event": event, "data": data }));
    }

    /// Answers nothing any more, or everything again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.state().hangs = hangs;
    }

    /// The commands that it was given, queries left out.
    pub(crate) fn commands(&self) -> Vec<String> {
        let state = self.state();
        state.commands.iter().filter(|command| !command.starts_with("query-")).cloned().collect()
    }

    /// The command that it was given last, also where it answers nothing.
    pub(crate) fn last(&self) -> String {
        self.state().last.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn serve(socket: UnixStream, state: &Mutex<State>) {
    let mut writer = socket.try_clone().unwrap();
    let mut reader = BufReader::new(socket);
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return;
        }
        // Behind a byte that is in no JSON a command begins anew.
        let bad = line.iter().rposition(|byte| *byte == 0xff).map_or(0, |at| at + 1);
        let command: Value = serde_json::from_slice(&line[bad..]).unwrap();
        let word = command["execute"].as_str().unwrap().to_owned();
        state.lock().unwrap().last = word.clone();
        while state.lock().unwrap().hangs {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut answers = String::new();
        if bad > 0 {
            answers.push_str(
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Invalid JSON syntax\"}}\r\n",
            );
        }
        let mut state = state.lock().unwrap();
        state.commands.push(word);
        answers.push_str(&format!("{}\r\n", state.qemu.answer(&command)));
        drop(state);
        if writer.write_all(answers.as_bytes()).is_err() {
            return;
        }
    }
}
