//! Peers that mean no good: other users with too many connections and names, file descriptors that are none, messages that
//! are none, and QEMUs that were broken into.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, setgid, setuid};
use serde_json::json;
use tests::{SecondProcess, second_process};
use zbus::Fd;

use crate::host::{
    Host, PATIENCE, REGISTRY, ROOT, end, lifeline, peer, pidfd, register, register_with, run, uuid,
};
use crate::manage::Guest;
use crate::registry::{CLAIMED, INVALID, list, wait_until_empty};

const REFUSED: &str = "org.glassbox.Glassbox1.Error.Refused";

/// A user of this host, as far as the daemon is concerned.
const STRANGER: u32 = 61_000;

/// How many guests and connections of its own a user may have.
const GUESTS: u32 = 64;
const CONNECTIONS: usize = 128;

/// What a stranger tries to have.
const TOO_MANY: usize = 10_000;

/// How long a call of somebody else may take meanwhile. It takes a hundredth of that on a machine with nothing else to do.
const SOON: Duration = Duration::from_secs(1);

/// A host with the daemon of the system, whose registry's socket is for everybody; none without root.
fn open_host(test: &str) -> Option<Host> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP {test}: only root becomes another user");
        return None;
    }
    let mut host = Host::without_daemon();
    host.start_daemon(&[]);
    let socket = host.socket();
    let directories = [socket.parent().unwrap(), socket.parent().unwrap().parent().unwrap()];
    for (path, mode) in [(&*socket, 0o666)].into_iter().chain(directories.map(|it| (it, 0o755))) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    Some(host)
}

/// A process of another user that did something, and holds what it has.
fn stranger(host: &Host, does: &str) -> SecondProcess {
    let variables = [("STRANGER_SOCKET", host.socket().into_os_string())];
    SecondProcess::of(&format!("strangers::{does}"), variables)
}

/// Becomes the stranger; gives the socket.
fn become_stranger() -> std::path::PathBuf {
    setgid(Gid::from_raw(STRANGER)).unwrap();
    setuid(Uid::from_raw(STRANGER)).unwrap();
    std::env::var_os("STRANGER_SOCKET").unwrap().into()
}

fn open_files(host: &Host) -> usize {
    let pid = host.daemon.as_ref().unwrap().id();
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Waits until the daemon has at most so many files open.
fn wait_for_open_files(host: &Host, most: usize) {
    let start = Instant::now();
    while open_files(host) > most {
        assert!(start.elapsed() < PATIENCE, "{} files are open, not {most}", open_files(host));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A guest of root's comes and goes, which is nobody's business.
fn others_are_served(host: &Host) {
    let start = Instant::now();
    run(async {
        let (kept, _) = register(&host.peer().await, "mine", &uuid(999_999)).await.unwrap();
        end(&kept);
    });
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_user_has_so_many_guests_and_none_of_the_system_s_names() {
    let Some(host) = open_host("a_user_has_so_many_guests") else { return };
    let its = stranger(&host, "register_ten_thousand_names");
    others_are_served(&host);
    let refusals = host.log().matches("which is the most of a user").count();
    assert!((1..=10).contains(&refusals), "{refusals} lines for {TOO_MANY} names");
    run(async {
        let (bus, root) = (host.bus().await, host.peer().await);
        let many = usize::try_from(GUESTS).unwrap();
        assert_eq!(list(&bus).await.len(), many);
        // The system's guests get what the user has of theirs, by name and by UUID.
        let _name = register(&root, "u-0", &uuid(1)).await.unwrap();
        let _uuid = register(&root, "mine", &uuid(2001)).await.unwrap();
        assert_eq!(list(&bus).await.len(), many, "two came and two went");
        let gives_way = format!("of uid {STRANGER} is listed no more: pid");
        assert_eq!(host.log().matches(&gives_way).count(), 2, "{}", host.log());
        let (error, _) = register(&root, "u-0", &uuid(3)).await.unwrap_err();
        assert_eq!(error, CLAIMED, "that of the system's is held");
        drop(its);
        let start = Instant::now();
        while list(&bus).await.len() > 2 {
            assert!(start.elapsed() < PATIENCE, "claims of an ended user's process are held");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
#[ignore = "it is the other process of another test"]
fn register_ten_thousand_names() {
    let socket = become_stranger();
    run(async {
        let connection = peer(&socket).await;
        let mut kept = Vec::new();
        for number in 0..u32::try_from(TOO_MANY).unwrap() {
            match register(&connection, &format!("u-{number}"), &uuid(2000 + number)).await {
                Ok((lifeline, _)) => kept.push(lifeline),
                Err((error, text)) => {
                    assert_eq!(error, REFUSED);
                    let expected = format!("uid {STRANGER} has {GUESTS} guests here, which is");
                    assert!(number >= GUESTS && text.starts_with(&expected), "{number}: {text}");
                }
            }
        }
        assert_eq!(kept.len(), usize::try_from(GUESTS).unwrap());
        tokio::task::spawn_blocking(second_process::done).await.unwrap();
    });
}

#[test]
fn a_user_has_so_many_connections() {
    let Some(host) = open_host("a_user_has_so_many_connections") else { return };
    let before = open_files(&host);
    let its = stranger(&host, "connect_ten_thousand_times");
    others_are_served(&host);
    wait_for_open_files(&host, before + CONNECTIONS + 8);
    let lines = host.log().matches("a client of the registry socket is hung up on").count();
    assert!((1..=10).contains(&lines), "{lines} lines for {TOO_MANY} connections");
    drop(its);
    wait_for_open_files(&host, before);
}

#[test]
#[ignore = "it is the other process of another test"]
fn connect_ten_thousand_times() {
    let socket = become_stranger();
    let connections: Vec<_> =
        (0..TOO_MANY).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let hung_up_on = |mut connection: &UnixStream| {
        connection.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        matches!(connection.read(&mut [0]), Ok(0))
    };
    let start = Instant::now();
    while !connections.last().is_some_and(hung_up_on) {
        assert!(start.elapsed() < PATIENCE, "the last connection is one too many");
    }
    second_process::done();
}

/// The authentication of a client that passes file descriptors.
const BEGUN: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";

/// A whole call of `Register`, without its file descriptors.
fn call() -> Vec<u8> {
    let options: HashMap<&str, zbus::Variant<'_>> = HashMap::new();
    let body = ("web", uuid(1), Fd::from(pidfd()), Fd::from(lifeline().1), options);
    let message = zbus::Message::method_call(ROOT, "Register").interface(REGISTRY);
    message.build(&body).unwrap().data().to_vec()
}

/// Sends bytes with file descriptors; whether somebody is there to read them.
fn pass(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> bool {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    let parts = [std::io::IoSlice::new(bytes)];
    sendmsg(stream, &parts, &mut control, SendFlags::NOSIGNAL).is_ok()
}

/// Sends bytes with file descriptors, and reads until the daemon hangs up or says nothing for a while.
fn send(host: &Host, bytes: &[u8], fds: &[OwnedFd]) -> Vec<u8> {
    let mut stream = UnixStream::connect(host.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream.write_all(BEGUN).unwrap();
    assert!(pass(&stream, bytes, fds));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => {
            let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionReset];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
    }
    answer
}

#[test]
fn file_descriptors_that_are_none_are_refused_and_closed() {
    let mut host = Host::start();
    let before = open_files(&host);
    let file = |path: &str| OwnedFd::from(std::fs::File::open(path).unwrap());
    let (whole, many) = (call(), || (0..200).map(|_| file("/dev/null")).collect::<Vec<_>>());
    for fds in [vec![], vec![file("/")], vec![file("/"), file("/")], many()] {
        let (count, answer) = (fds.len(), send(&host, &whole, &fds));
        let granted = String::from_utf8_lossy(&answer).contains("/domain/");
        assert!(!granted, "with {count} file descriptors: {answer:?}");
    }
    // Byte by byte, so that a message is whole only after thousands of them.
    let dripping = UnixStream::connect(host.socket()).unwrap();
    (&dripping).write_all(BEGUN).unwrap();
    let some = &many()[..16];
    for byte in whole.chunks(1) {
        // It hangs up before the end.
        if !pass(&dripping, byte, some) {
            break;
        }
    }
    wait_for_open_files(&host, before + 20);
    // Also before there is anything that they could belong to, and with a message that never ends.
    send(&host, b"", &[]);
    send(&host, &whole[..whole.len() - 1], &many());
    send(&host, &whole[..20], &many());
    let number = uuid(1);
    run(async {
        let connection = host.peer().await;
        for (leader, lifeline_of_it) in [(file("/"), lifeline().1), (pidfd(), file("/"))] {
            let options = HashMap::new();
            let answer =
                register_with(&connection, "web", &number, leader, lifeline_of_it, options);
            assert_eq!(answer.await.unwrap_err().0, INVALID);
        }
        let (named, _) = UnixStream::pair().unwrap();
        let monitor = zbus::Variant::from(Fd::from(file("/"))).try_into_owned().unwrap();
        let options = HashMap::from([("monitor", monitor)]);
        let answer = register_with(&connection, "web", &number, pidfd(), named.into(), options);
        assert_eq!(answer.await.unwrap_err().0, INVALID);
        // What is no `Register` at all, over the bus.
        let bus = host.bus().await;
        let wrong =
            bus.call_method(Some(crate::host::NAME), ROOT, Some(REGISTRY), "Register", &7u32);
        wrong.await.unwrap_err();
        let (kept, _) = register(&connection, "web", &number).await.unwrap();
        end(&kept);
        wait_until_empty(&bus).await;
    });
    wait_for_open_files(&host, before + 1);
    assert!(host.daemon.as_mut().unwrap().try_wait().unwrap().is_none(), "the daemon lives");
    assert!(!host.log().contains("panicked"), "{}", host.log());
}

/// What a QEMU that was broken into may say, and whether the daemon then gives its monitor up.
fn malformed() -> Vec<(&'static str, Vec<u8>, bool)> {
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000), b"\n".to_vec()].concat();
    vec![
        ("no JSON", b"hello\n".to_vec(), true),
        ("a line without an end", vec![b' '; 2 << 20], true),
        ("bytes that are no text", b"{\"return\": \"\xff\xfe\"}\n".to_vec(), true),
        ("NUL", b"\0\0\0\0\n".to_vec(), true),
        ("no object", b"[]\n".to_vec(), true),
        ("a depth without bound", deep, true),
        ("a number without bound", b"{\"return\": 1e99999, \"id\": 1}\n".to_vec(), true),
        (
            "an answer to nothing",
            b"{\"return\": {}, \"id\": 18446744073709551615}\n".to_vec(),
            false,
        ),
        ("an answer without a number", b"{\"return\": {}}\n".repeat(1000), true),
        ("an event of another form", b"{\"event\": 7}\n".to_vec(), true),
        ("an event without end", b"{\"event\": \"STOP\", \"data\": 7}\n".repeat(1000), false),
    ]
}

#[test]
fn a_qemu_that_was_broken_into_loses_its_monitor_and_nobody_else_does() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        let db = Guest::register(&host, "db", 1).await;
        db.wait(&bus, "VCPUs", 2u32).await;
        for (number, (what, bytes, is_given_up)) in (10..).zip(malformed()) {
            let name = format!("web-{number}");
            let web = Guest::register(&host, &name, number).await;
            web.wait(&bus, "VCPUs", 2u32).await;
            // It may be hung up on before it has said all.
            web.qemu.try_send(&bytes);
            let given_up = format!("the monitor of guest '{name}' is given up");
            if is_given_up {
                web.wait(&bus, "Responding", false).await;
                assert_eq!(host.log().matches(&given_up).count(), 1, "{what}: {}", host.log());
            } else {
                web.qemu.happen("BALLOON_CHANGE", &json!({ "actual": 12345 }));
                web.wait(&bus, "Memory", 12345u64).await;
                assert!(!host.log().contains(&given_up), "{what}");
            }
            let start = Instant::now();
            db.call(&bus, "MonitorCommand", &("query-status", "")).await.unwrap();
            assert!(start.elapsed() < SOON, "{what}: {:?}", start.elapsed());
            let listed = list(&bus).await;
            assert!(listed.iter().any(|row| row.0 == name), "{what}: its claim holds");
        }
    });
    assert!(!host.log().contains("panicked"), "{}", host.log());
}
