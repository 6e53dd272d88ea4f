//! A stand-in for QEMU's end of a monitor, for what a real one cannot be made to do on demand: to hang, to send half a
//! line, to say what is no QMP.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

/// A stand-in QEMU, with a thread that answers until its other end is closed.
pub(crate) struct StandIn {
    socket: UnixStream,
    state: Arc<Mutex<State>>,
    /// The daemon's end.
    handed: UnixStream,
}

#[derive(Default)]
struct State {
    negotiated: bool,
    hangs: bool,
    status: &'static str,
    commands: Vec<String>,
    /// What the balloon leaves the guest, and what it was told to leave it; it moves each time that somebody looks.
    balloon: Option<(u64, u64)>,
    cpus: usize,
}

impl StandIn {
    /// A QEMU whose guest runs, which greets as one that was just started.
    pub(crate) fn running() -> Self {
        let (socket, handed) = UnixStream::pair().unwrap();
        let state = Arc::new(Mutex::new(State { status: "running", ..State::default() }));
        let stand_in = Self { socket, state, handed };
        stand_in.say(
            &json!({ "QMP": { "version": { "qemu": { "major": 10, "minor": 0, "micro": 0 } } } }),
        );
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
        while state.lock().unwrap().hangs {
            std::thread::sleep(Duration::from_millis(5));
        }
        // As QEMU answers a byte that is in no JSON.
        let bad = line.iter().rposition(|byte| *byte == 0xff).map_or(0, |at| at + 1);
        let mut answers = String::new();
        if bad > 0 {
            answers.push_str(
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Invalid JSON syntax\"}}\r\n",
            );
        }
        let command: Value = serde_json::from_slice(&line[bad..]).unwrap();
        answers.push_str(&format!("{}\r\n", answer(&command, &mut state.lock().unwrap())));
        if writer.write_all(answers.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(command: &Value, state: &mut State) -> Value {
    let id = &command["id"];
    let name = command["execute"].as_str().unwrap();
    state.commands.push(name.to_owned());
    let returned = match name {
        "qmp_capabilities" if state.negotiated => {
            return refusal(id, "CommandNotFound", "negotiated");
        }
        "qmp_capabilities" => {
            state.negotiated = true;
            json!({})
        }
        "query-status" => json!({ "status": state.status }),
        "query-cpus-fast" => json!([{}, {}]),
        "query-hotpluggable-cpus" => hotpluggable(state.cpus),
        "device_add" => {
            state.cpus += 1;
            json!({})
        }
        "balloon" => {
            let wanted = command["arguments"]["value"].as_u64().unwrap();
            state.balloon = Some((1 << 20, wanted));
            json!({})
        }
        "query-balloon" if state.balloon.is_some() => {
            let (now, wanted) = state.balloon.unwrap();
            let next = now - (now - wanted).min(1 << 18);
            state.balloon = Some((next, wanted));
            json!({ "actual": next })
        }
        "query-memory-size-summary" => json!({ "base-memory": 1 << 20 }),
        "query-blockstats" => json!([]),
        "stop" => {
            state.status = "paused";
            json!({})
        }
        "cont" => {
            state.status = "running";
            json!({})
        }
        "system_reset" => json!({}),
        "qom-get" => json!("org.qemu.guest_agent.0"),
        _ => return refusal(id, "GenericError", "the stand-in does not know it"),
    };
    json!({ "return": returned, "id": id })
}

/// Four slots for CPUs, the last one first as QEMU lists them, of which so many beside the first are used.
fn hotpluggable(used: usize) -> Value {
    let slot = |number: usize| {
        let mut slot = json!({ "type": "max-x86_64-cpu", "props": { "socket-id": number } });
        if number <= used {
            slot["qom-path"] = json!(format!("/machine/peripheral/vcpu{number}"));
        }
        slot
    };
    (0..4).rev().map(slot).collect()
}

fn refusal(id: &Value, class: &str, desc: &str) -> Value {
    json!({ "error": { "class": class, "desc": desc }, "id": id })
}
