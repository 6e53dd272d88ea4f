//! Claims are granted, refused and given back, over both transports.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tests::SecondProcess;
use zbus::{Connection, Fd, OwnedObjectPath, OwnedVariant};

use crate::host::{
    DOMAIN, Host, MANAGER, NAME, PATIENCE, ROOT, end, error_parts, lifeline, other, peer, pidfd,
    register, register_with, run, uuid,
};

pub(crate) const CLAIMED: &str = "org.glassbox.Glassbox1.Error.Claimed";
pub(crate) const INVALID: &str = "org.freedesktop.DBus.Error.InvalidArgs";

pub(crate) type Row = (String, String, u32, String, OwnedObjectPath);

async fn manager<B, R>(bus: &Connection, method: &str, body: &B) -> Result<R, (String, String)>
where
    B: serde::Serialize + zbus::Type,
    R: serde::de::DeserializeOwned + zbus::Type,
{
    match bus.call_method(Some(NAME), ROOT, Some(MANAGER), method, body).await {
        Ok(reply) => Ok(reply.body().deserialize().unwrap()),
        Err(error) => Err(error_parts(&error)),
    }
}

pub(crate) async fn list(bus: &Connection) -> Vec<Row> {
    manager(bus, "ListDomains", &()).await.unwrap()
}

pub(crate) async fn property(bus: &Connection, path: &OwnedObjectPath, name: &str) -> OwnedVariant {
    let properties = "org.freedesktop.DBus.Properties";
    let reply = bus.call_method(Some(NAME), path, Some(properties), "Get", &(DOMAIN, name)).await;
    reply.unwrap().body().deserialize().unwrap()
}

fn text(value: &str) -> OwnedVariant {
    zbus::Str::from(value).into()
}

/// Waits until nobody is listed any more.
pub(crate) async fn wait_until_empty(bus: &Connection) {
    let start = Instant::now();
    while !list(bus).await.is_empty() {
        assert!(start.elapsed() < PATIENCE, "an ended guest is still listed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_claim_is_seen_on_the_bus_and_ends_with_its_lifeline() {
    let host = Host::start();
    run(async {
        let bus = host.bus().await;
        for connection in [host.peer().await, bus.clone()] {
            let (kept, path) = register(&connection, "web", &uuid(1)).await.unwrap();
            assert_eq!(path.as_str(), format!("{ROOT}/domain/{}", uuid(1).replace('-', "_")));
            let pid = std::process::id();
            let unit: String = property(&bus, &path, "Unit").await.try_into().unwrap();
            assert_eq!(
                list(&bus).await,
                vec![("web".to_owned(), uuid(1), pid, unit, path.clone())]
            );
            assert_eq!(property(&bus, &path, "Name").await, text("web"));
            assert_eq!(property(&bus, &path, "UUID").await, text(&uuid(1)));
            assert_eq!(property(&bus, &path, "LeaderPID").await, OwnedVariant::from(pid));
            assert_eq!(manager(&bus, "GetDomain", &"web").await, Ok(path.clone()));
            assert_eq!(manager(&bus, "GetDomainByUUID", &uuid(1)).await, Ok(path));
            drop(kept);
            wait_until_empty(&bus).await;
            let gone = manager::<_, OwnedObjectPath>(&bus, "GetDomain", &"web").await;
            let missing = "org.glassbox.Glassbox1.Error.NoSuchDomain";
            let text = "no guest has the name 'web'";
            assert_eq!(gone, Err((missing.to_owned(), text.to_owned())));
        }
    });
}

#[test]
fn the_holder_is_named() {
    let host = Host::start();
    let holder = other(&host, "web", &uuid(1), None);
    run(async {
        let (bus, peer) = (host.bus().await, host.peer().await);
        let unit = list(&bus).await.remove(0).3;
        let pid = holder.0.id();
        let who =
            if unit.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({unit})") };
        for connection in [&bus, &peer] {
            for (name, number, text) in [
                ("web", 1, format!("the name 'web' is held by {who}")),
                ("web", 2, format!("the name 'web' is held by {who}")),
                ("db", 1, format!("the UUID {} is held by guest 'web', {who}", uuid(1))),
            ] {
                let refused = register(connection, name, &uuid(number)).await.unwrap_err();
                assert_eq!(refused, (CLAIMED.to_owned(), text));
            }
        }
        drop(holder);
        register(&peer, "web", &uuid(1)).await.unwrap();
    });
}

#[test]
fn a_name_is_free_the_moment_its_lifeline_is_closed() {
    let host = Host::start();
    run(async {
        let connection = host.peer().await;
        for number in 1..=200 {
            let (kept, _) = register(&connection, "web", &uuid(number)).await.unwrap();
            end(&kept);
        }
    });
}

#[test]
fn the_claim_outlives_the_connection() {
    let host = Host::start();
    run(async {
        let connection = host.peer().await;
        let (_kept, _) = register(&connection, "web", &uuid(1)).await.unwrap();
        drop(connection);
        let bus = host.bus().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(list(&bus).await.len(), 1);
    });
}

#[test]
fn the_same_leader_renews_its_claim() {
    let host = Host::start();
    run(async {
        let (bus, connection) = (host.bus().await, host.peer().await);
        let (first, _) = register(&connection, "web", &uuid(1)).await.unwrap();
        let (second, path) = register(&connection, "web", &uuid(1)).await.unwrap();
        drop(first);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(list(&bus).await.len(), 1, "the former lifeline keeps nothing any more");
        assert_eq!(property(&bus, &path, "Name").await, text("web"));
        drop(second);
        wait_until_empty(&bus).await;
    });
}

#[test]
fn of_a_hundred_racing_claims_one_wins() {
    let host = Host::start();
    run(async {
        let racers: Vec<_> = (1..=100)
            .map(|number| {
                let socket = host.socket();
                tokio::spawn(async move {
                    let connection = peer(&socket).await;
                    register(&connection, "web", &uuid(number)).await
                })
            })
            .collect();
        let mut won = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                Ok(claim) => won.push(claim),
                Err((name, _)) => assert_eq!(name, CLAIMED),
            }
        }
        assert_eq!(won.len(), 1);
    });
}

/// Arguments of `Register`, and how the message begins that they are refused with.
struct Malformed {
    name: &'static str,
    uuid: String,
    leader: OwnedFd,
    lifeline: OwnedFd,
    options: HashMap<&'static str, OwnedVariant>,
    message: String,
}

/// Sound arguments; each case spoils one of them.
fn sound(message: &str) -> Malformed {
    Malformed {
        name: "web",
        uuid: uuid(1),
        leader: pidfd(),
        lifeline: lifeline().1,
        options: HashMap::new(),
        message: message.to_owned(),
    }
}

fn malformed(other: &Child) -> Vec<Malformed> {
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let flags = SockFlag::SOCK_CLOEXEC;
    let datagram = socketpair(AddressFamily::Unix, SockType::Datagram, None, flags).unwrap().0;
    let pid = rustix::process::Pid::from_child(other);
    let foreign = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let whose = format!(
        "leader: it refers to pid {}, but the caller is pid {}; give the caller's own",
        other.id(),
        std::process::id()
    );
    let pair = "give one end of socketpair(AF_UNIX, SOCK_SEQPACKET)";
    let no_socket = format!("lifeline: it is not a socket; {pair}");
    let wrong_kind = format!("lifeline: it is a socket of the wrong kind; {pair}");
    let no_pidfd = "leader: it is not a pidfd; get one from pidfd_open(2)";
    let option = "options: unknown key 'screen'; glassboxd 0.1.0 knows 'transient', 'opens', 'monitor', \
                  'interfaces' and 'vsock-cid'";
    let screen = HashMap::from([("screen", OwnedVariant::from(1u32))]);
    let no_monitor = "options: 'monitor': it is not a stream socket; give one end of \
                      socketpair(AF_UNIX, SOCK_STREAM), the other being QEMU's";
    let monitor = HashMap::from([(
        "monitor",
        zbus::Variant::from(Fd::from(file())).try_into_owned().unwrap(),
    )]);
    vec![
        Malformed { name: "a/b", ..sound("name: ") },
        Malformed { name: "", ..sound("name: ") },
        Malformed { uuid: "12".to_owned(), ..sound("uuid: \"12\" is not a UUID") },
        Malformed { leader: file(), ..sound(no_pidfd) },
        Malformed { leader: foreign, ..sound(&whose) },
        Malformed { lifeline: file(), ..sound(&no_socket) },
        Malformed { lifeline: datagram, ..sound(&wrong_kind) },
        Malformed { options: screen, ..sound(option) },
        Malformed { options: monitor, ..sound(no_monitor) },
    ]
}

#[test]
fn what_is_malformed_is_named() {
    let host = Host::start();
    let sleeping = SecondProcess(Command::new("sleep").arg("60").spawn().unwrap());
    run(async {
        for connection in [host.bus().await, host.peer().await] {
            for case in malformed(&sleeping.0) {
                let Malformed { name, uuid, leader, lifeline, options, message } = case;
                let answer =
                    register_with(&connection, name, &uuid, leader, lifeline, options).await;
                let (error, got) = answer.unwrap_err();
                assert_eq!(error, INVALID);
                assert!(got.starts_with(&message), "expected {message:?}, got {got:?}");
            }
        }
        assert_eq!(list(&host.bus().await).await, vec![]);
    });
}

#[test]
fn sigterm_ends_the_daemon_cleanly() {
    let mut host = Host::start();
    let daemon = host.daemon.as_mut().unwrap();
    let pid = rustix::process::Pid::from_child(daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    assert!(!host.socket().exists(), "the daemon removes the socket that it bound");
}

/// Sends these bytes to the registry's socket, and returns all that it answers until it hangs up.
fn send_raw(host: &Host, bytes: &[u8]) -> Vec<u8> {
    let mut stream = std::os::unix::net::UnixStream::connect(host.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer,
        // It hung up on bytes that it did not read.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("the daemon does not hang up on {bytes:?}: {error}"),
    }
}

#[test]
fn what_is_no_dbus_is_disconnected_and_harms_nobody() {
    let mut host = Host::start();
    let begun = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
    let message = |header: &[u8]| [begun, header].concat();
    for bytes in [
        b"\n".to_vec(),
        b"\0\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\0BEGIN\r\n".to_vec(),
        vec![0; 5000],
        message(&[0; 16]),
        message(b"l\x01\0\x01\xff\xff\xff\x07\x01\0\0\0\0\0\0\0"),
        message(b"l\x01\0\x01\0\0\0\0\x01\0\0\0\xff\xff\xff\xff"),
        message(b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x08\0\0\0\x01\x01o\0\xff\xff\xff\xff"),
    ] {
        send_raw(&host, &bytes);
    }
    assert!(host.daemon.as_mut().unwrap().try_wait().unwrap().is_none(), "the daemon lives");
    assert!(!host.log().contains("panicked"), "{}", host.log());
    run(async { register(&host.peer().await, "web", &uuid(1)).await.unwrap() });
}
