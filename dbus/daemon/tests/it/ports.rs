//! Consoles and channels that a guest's shim opens for the daemon, and the agent behind one of them. The shim here is a
//! stand-in, for what a real one and a sound agent cannot be made to do: to be silent, to lie, to flood.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use nix::sys::socket::{MsgFlags, recv};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use crate::host::{DOMAIN, Host, NAME, error_parts, lifeline, pidfd, register_with, run, uuid};

/// What a stand-in does with each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Opens it.
    Opens,
    /// Refuses.
    Refuses,
    /// Says that it opened it, and passes nothing.
    Lies,
    /// Says that it began, and passes nothing.
    Begins,
    /// Answers another number first, then what is no answer, then nothing.
    Babbles,
}

/// A guest whose shim is a stand-in.
struct Guest {
    path: OwnedObjectPath,
    /// The guest's ends of what was opened, with what was asked for.
    opened: Arc<Mutex<Vec<(String, UnixStream)>>>,
    _lifeline: Arc<OwnedFd>,
}

impl Guest {
    async fn register(host: &Host, opens: bool, manner: Manner) -> Self {
        let (kept, handed) = lifeline();
        let options: HashMap<_, _> =
            opens.then(|| ("opens", OwnedVariant::from(true))).into_iter().collect();
        let peer = host.peer().await;
        let path = register_with(&peer, "web", &uuid(1), pidfd(), handed, options).await.unwrap();
        let (kept, opened) = (Arc::new(kept), Arc::default());
        let (end, list) = (kept.clone(), Arc::clone(&opened));
        std::thread::spawn(move || serve(&end, manner, &list));
        Self { path, opened, _lifeline: kept }
    }

    async fn call<B>(
        &self,
        bus: &Connection,
        method: &str,
        body: &B,
    ) -> Result<zbus::Message, (String, String)>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let reply = bus.call_method(Some(NAME), &self.path, Some(DOMAIN), method, body).await;
        reply.map_err(|error| error_parts(&error))
    }

    async fn agent(&self, bus: &Connection, command: &str, seconds: u32) -> Result<String, String> {
        let reply = self.call(bus, "AgentCommand", &(command, "", seconds)).await;
        reply.map(|it| it.body().deserialize().unwrap()).map_err(|(_, words)| words)
    }
}

/// Answers requests until the other end is closed.
fn serve(lifeline: &OwnedFd, manner: Manner, opened: &Mutex<Vec<(String, UnixStream)>>) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = recv(lifeline.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        let request = std::str::from_utf8(&buffer[..length]).unwrap();
        let (number, what) = request.split_once(' ').unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        match manner {
            Manner::Opens => {
                opened.lock().unwrap().push((what.to_owned(), ours));
                say(lifeline, &format!("{number} opened"), Some(&theirs));
            }
            Manner::Refuses => say(lifeline, &format!("{number} refused {what} is none"), None),
            Manner::Begins => say(lifeline, &format!("{number} begun"), None),
            Manner::Lies => say(lifeline, &format!("{number} opened"), None),
            Manner::Babbles => {
                say(lifeline, "1 opened", Some(&theirs));
                say(lifeline, "open sesame", None);
            }
        }
    }
}

fn say(lifeline: &OwnedFd, text: &str, fd: Option<&UnixStream>) {
    let fds: Vec<_> = fd.map(AsFd::as_fd).into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let parts = [IoSlice::new(text.as_bytes())];
    sendmsg(lifeline, &parts, &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn a_console_is_what_the_shim_opens() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, true, Manner::Opens).await;
        for alias in ["", "serial0", "a name with spaces"] {
            let reply = web.call(&bus, "OpenConsole", &alias).await.unwrap();
            let console: zbus::OwnedFd = reply.body().deserialize().unwrap();
            let mut console = UnixStream::from(OwnedFd::from(console));
            let (what, mut guest) = web.opened.lock().unwrap().pop().unwrap();
            assert_eq!(what, format!("console {alias}"));
            guest.write_all(b"login: ").unwrap();
            let mut said = [0; 7];
            console.read_exact(&mut said).unwrap();
            console.write_all(b"root\n").unwrap();
            let mut typed = String::new();
            BufReader::new(guest).read_line(&mut typed).unwrap();
            assert_eq!((&said, &*typed), (b"login: ", "root\n"));
        }
        let long = "x".repeat(2000);
        let refused = web.call(&bus, "OpenConsole", &long).await.unwrap_err();
        assert_eq!(refused.1, "guest 'web': it has none of so long a name");
    });
}

#[test]
fn a_shim_that_opens_nothing_is_an_error_and_holds_up_nobody() {
    let (failed, silent) =
        ("org.glassbox.Glassbox1.Error.Failed", "org.glassbox.Glassbox1.Error.NotResponding");
    for (opens, manner, name, words) in [
        (true, Manner::Refuses, failed, "console serial0 is none"),
        (true, Manner::Lies, failed, "its answer is malformed"),
        (true, Manner::Begins, failed, "its answer is malformed"),
        (true, Manner::Babbles, silent, "its glassbox-qemu does not answer"),
        (
            false,
            Manner::Opens,
            failed,
            "its glassbox-qemu opens nothing for others, as one does that is older than this daemon",
        ),
    ] {
        let host = Host::start();
        run(async {
            let bus = host.bus().await;
            let web = Guest::register(&host, opens, manner).await;
            let opening = async {
                let refused = web.call(&bus, "OpenConsole", &"serial0").await.unwrap_err();
                (std::time::Instant::now(), refused)
            };
            let reading = async {
                crate::registry::property(&bus, &web.path, "Name").await;
                std::time::Instant::now()
            };
            let ((refused_at, refused), read_at) = tokio::join!(opening, reading);
            assert_eq!(refused, (name.to_owned(), format!("guest 'web': {words}")), "{manner:?}");
            assert!(manner != Manner::Babbles || read_at < refused_at, "reading waits for nobody");
            assert!(web.opened.lock().unwrap().is_empty(), "an old shim is asked for nothing");
        });
    }
}

/// What a stand-in agent does once it is in step.
type Agent = fn(&Value, &mut UnixStream);

/// An agent at the other end of the channel that is opened next.
fn agent(web: &Guest, then: Agent) {
    let opened = web.opened.clone();
    std::thread::spawn(move || {
        let (what, mut socket) = loop {
            if let Some(next) = opened.lock().unwrap().pop() {
                break next;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        assert_eq!(what, "channel org.qemu.guest_agent.0");
        // What somebody who gave up is owed, and the end of another one's line.
        socket.write_all(b"{\"return\": 1}\n\"half\": 2}\xff{\"return\": 12345}\n").unwrap();
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let at = line.iter().rposition(|byte| *byte == 0xff).map_or(0, |at| at + 1);
            let request: Value = serde_json::from_slice(&line[at..]).unwrap();
            line.clear();
            if request["execute"] == "guest-sync-delimited" {
                let id = &request["arguments"]["id"];
                socket.write_all(b"\xff").unwrap();
                socket.write_all(format!("{}\n", json!({ "return": id })).as_bytes()).unwrap();
            } else {
                then(&request, &mut socket);
            }
        }
    });
}

#[test]
fn the_agent_is_asked_in_step_and_within_bounds() {
    const SILENT: &str =
        "guest 'web': its guest agent does not answer; look whether it runs in the guest";
    let cases: [(&str, Agent, Result<&str, &str>); 7] = [
        (
            "guest-info",
            |_, socket| socket.write_all(b"{\"return\": {\"version\": \"9\"}}\n").unwrap(),
            Ok("{\"version\": \"9\"}"),
        ),
        (
            "guest-nonsense",
            |_, socket| socket.write_all(b"{\"error\": {\"desc\": \"no such\"}}\n").unwrap(),
            Err("guest 'web': its guest agent refuses: no such"),
        ),
        ("guest-ping", |_, _| {}, Err(SILENT)),
        // The end of a guest that does as it is told.
        ("guest-shutdown", |_, _| {}, Ok("{}")),
        (
            "guest-shutdown",
            |_, socket| socket.write_all(b"{\"error\": {\"desc\": \"busy\"}}\n").unwrap(),
            Err("guest 'web': its guest agent refuses: busy"),
        ),
        (
            "guest-file-read",
            |_, socket| while socket.write_all(&[b'x'; 4096]).is_ok() {},
            Err("guest 'web': its guest agent says more than 4194304 bytes"),
        ),
        (
            "guest-ping",
            |_, socket| socket.shutdown(std::net::Shutdown::Both).unwrap(),
            Err("guest 'web': its guest agent's channel was closed"),
        ),
    ];
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let web = Guest::register(&host, true, Manner::Opens).await;
        for (command, then, expected) in cases {
            agent(&web, then);
            let told = web.agent(&bus, command, 1).await;
            assert_eq!(told.as_deref().map_err(String::as_str), expected, "{command}");
        }
        // Nobody listens behind the channel at all.
        assert_eq!(web.agent(&bus, "guest-ping", 1).await.unwrap_err(), SILENT);
        let refused = web.agent(&bus, "guest-ping", 301).await.unwrap_err();
        assert_eq!(refused, "seconds: an agent gets at most 300 of them");
    });
}
