//! Guests that a file defines, whether they run or not.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use zbus::fdo::ManagedObjects;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant};

use crate::host::{
    DOMAIN, Host, MANAGER, NAME, PATIENCE, ROOT, end, error_parts, register, run, uuid,
};
use crate::registry::property;

const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

fn definition(name: &str, uuid: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name>{uuid}<memory unit='MiB'>16</memory>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    )
}

fn with_uuid(name: &str, number: u32) -> String {
    definition(name, &format!("<uuid>{}</uuid>", uuid(number)))
}

fn write(host: &Host, file: &str, text: &str) {
    fs::create_dir_all(host.definitions()).unwrap();
    fs::write(host.definitions().join(file), text).unwrap();
}

/// What the daemon says of its objects from now on, in order: members and paths of signals.
async fn objects(bus: &Connection) -> MessageStream {
    let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).sender(NAME);
    MessageStream::for_match_rule(rule.build().unwrap(), bus, None).await.unwrap()
}

async fn next(signals: &mut MessageStream) -> Message {
    let next = std::future::poll_fn(|cx| {
        futures_core::Stream::poll_next(std::pin::Pin::new(&mut *signals), cx)
    });
    tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap().unwrap()
}

/// The next signals are these; of changed properties it tells the state.
async fn hears(signals: &mut MessageStream, expected: &[&str]) {
    for expected in expected {
        let message = next(signals).await;
        let header = message.header();
        let member = header.member().unwrap().to_string();
        let told = match &*member {
            "DomainAdded" | "DomainRemoved" => {
                let (name, _): (String, OwnedObjectPath) = message.body().deserialize().unwrap();
                format!("{member} {name}")
            }
            "PropertiesChanged" => {
                let body = message.body();
                let (_, changed, _): (String, HashMap<String, Variant<'_>>, Vec<String>) =
                    body.deserialize().unwrap();
                let state = String::try_from(changed["State"].try_clone().unwrap()).unwrap();
                format!("{member} {state}")
            }
            "Event" => {
                let body = message.body();
                let event: (u64, u64, String, String, String, HashMap<String, OwnedVariant>) =
                    body.deserialize().unwrap();
                format!("Event {}", event.4)
            }
            _ => member.clone(),
        };
        assert_eq!(told, *expected);
    }
}

/// Defines guest `web`, before the eyes of a client.
async fn hears_of_web(host: &Host) -> (Connection, MessageStream) {
    let bus = host.bus().await;
    let mut signals = objects(&bus).await;
    write(host, "web.xml", &with_uuid("web", 1));
    hears(&mut signals, &["InterfacesAdded", "DomainAdded web"]).await;
    (bus, signals)
}

async fn get(bus: &Connection, name: &str) -> Result<OwnedObjectPath, (String, String)> {
    let reply = bus.call_method(Some(NAME), ROOT, Some(MANAGER), "GetDomain", &name).await;
    reply.map(|it| it.body().deserialize().unwrap()).map_err(|error| error_parts(&error))
}

/// The objects of guests, as the object manager lists them.
async fn managed(bus: &Connection) -> ManagedObjects {
    let call = bus.call_method(Some(NAME), ROOT, Some(OBJECT_MANAGER), "GetManagedObjects", &());
    let mut objects: ManagedObjects = call.await.unwrap().body().deserialize().unwrap();
    objects.retain(|_, interfaces| interfaces.keys().any(|name| name.as_str() == DOMAIN));
    objects
}

fn word(text: &str) -> OwnedVariant {
    zbus::Str::from(text.to_owned()).into()
}

#[test]
fn a_file_written_by_hand_is_a_guest_until_it_is_removed() {
    let host = Host::start();
    run(async {
        // Not even the directory was there before.
        let (bus, mut signals) = hears_of_web(&host).await;
        let path = get(&bus, "web").await.unwrap();
        let file = host.definitions().join("web.xml").display().to_string();
        for (name, expected) in [
            ("Name", word("web")),
            ("UUID", word(&uuid(1))),
            ("State", word("shutoff")),
            ("Unit", word("qemu@web.service")),
            ("File", word(&file)),
            ("LeaderPID", 0u32.into()),
            ("Persistent", true.into()),
            ("Autostart", false.into()),
            ("Responding", true.into()),
            ("DataAge", u64::MAX.into()),
        ] {
            assert_eq!(property(&bus, &path, name).await, expected, "{name}");
        }
        let objects = managed(&bus).await;
        assert_eq!(objects[&path][DOMAIN]["State"], word("shutoff"));

        write(&host, "web.xml", &with_uuid("web", 2));
        hears(
            &mut signals,
            &["InterfacesRemoved", "DomainRemoved web", "InterfacesAdded", "DomainAdded web"],
        )
        .await;
        assert_ne!(get(&bus, "web").await.unwrap(), path, "another guest has that name now");
        fs::remove_file(host.definitions().join("web.xml")).unwrap();
        hears(&mut signals, &["InterfacesRemoved", "DomainRemoved web"]).await;
        let missing = get(&bus, "web").await.unwrap_err();
        assert_eq!(missing.0, "org.glassbox.Glassbox1.Error.NoSuchDomain");
    });
}

#[test]
fn a_defined_guest_keeps_its_object_while_it_runs_and_after() {
    let host = Host::start();
    run(async {
        let (bus, mut signals) = hears_of_web(&host).await;
        let peer = host.peer().await;
        let (lifeline, path) = register(&peer, "web", &uuid(1)).await.unwrap();
        assert_eq!(get(&bus, "web").await.unwrap(), path);
        hears(&mut signals, &["PropertiesChanged nostate"]).await;
        let pid = OwnedVariant::from(std::process::id());
        assert_eq!(property(&bus, &path, "LeaderPID").await, pid);
        end(&lifeline);
        hears(&mut signals, &["Event stopped", "PropertiesChanged shutoff"]).await;
        // Its definition goes while it runs: its object goes with it.
        let (lifeline, _) = register(&peer, "web", &uuid(1)).await.unwrap();
        hears(&mut signals, &["PropertiesChanged nostate"]).await;
        fs::remove_file(host.definitions().join("web.xml")).unwrap();
        hears(&mut signals, &["PropertiesChanged nostate"]).await;
        assert_eq!(property(&bus, &path, "Persistent").await, OwnedVariant::from(false));
        end(&lifeline);
        hears(&mut signals, &["Event stopped", "InterfacesRemoved", "DomainRemoved web"]).await;
    });
}

/// Each method that needs a running guest, with arguments that it takes.
const NEED_A_RUNNING_GUEST: [&str; 8] =
    ["Shutdown", "Reboot", "Reset", "Destroy", "Suspend", "Resume", "Screenshot", "GetStatistics"];

#[test]
fn what_needs_a_running_guest_says_so_at_once() {
    let host = Host::start();
    write(&host, "web.xml", &with_uuid("web", 1));
    run(async {
        let bus = host.bus().await;
        let start = Instant::now();
        let path = loop {
            match get(&bus, "web").await {
                Ok(path) => break path,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error:?}"),
            }
        };
        for method in NEED_A_RUNNING_GUEST {
            let call = bus.call_method(Some(NAME), &path, Some(DOMAIN), method, &());
            let refused = error_parts(&call.await.unwrap_err());
            let expected = "org.glassbox.Glassbox1.Error.NotRunning".to_owned();
            assert_eq!(refused, (expected, "guest 'web' does not run".to_owned()), "{method}");
        }
        let command = ("query-status", "");
        let call = bus.call_method(Some(NAME), &path, Some(DOMAIN), "MonitorCommand", &command);
        let refused = error_parts(&call.await.unwrap_err());
        assert_eq!(refused.0, "org.glassbox.Glassbox1.Error.NotRunning");
        // No service manager is on this bus; its job is there all the same, and says that.
        let mut signals = objects(&bus).await;
        let call = bus.call_method(Some(NAME), &path, Some(DOMAIN), "Start", &()).await.unwrap();
        let job: OwnedObjectPath = call.body().deserialize().unwrap();
        hears(&mut signals, &["InterfacesAdded", "JobNew", "InterfacesRemoved"]).await;
        let removed: (u32, OwnedObjectPath, String, String, String) =
            next(&mut signals).await.body().deserialize().unwrap();
        assert_eq!((&removed.1, &*removed.2, &*removed.3), (&job, "web", "failed"));
        let peer = host.peer().await;
        let (_lifeline, _) = register(&peer, "web", &uuid(1)).await.unwrap();
        let call = bus.call_method(Some(NAME), &path, Some(DOMAIN), "Start", &());
        let refused = error_parts(&call.await.unwrap_err());
        assert_eq!(refused.0, "org.glassbox.Glassbox1.Error.Running");
    });
}

/// How many guests are defined where memory is measured.
const MANY: u32 = 1000;

#[test]
fn guests_that_do_not_run_cost_little() {
    // Of the code, more or less is resident when a daemon has just begun to serve.
    let heap = |host: &Host| {
        let pid = host.daemon.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let without = heap(&Host::start());
    let mut host = Host::without_daemon();
    for number in 0..MANY {
        write(
            &host,
            &format!("guest-{number}.xml"),
            &with_uuid(&format!("guest-{number}"), number),
        );
    }
    let start = Instant::now();
    host.start_daemon(&["--user"]);
    let took = start.elapsed();
    let each = (heap(&host) - without) * 1024 / u64::from(MANY);
    run(async {
        let bus = host.bus().await;
        let start = Instant::now();
        assert_eq!(managed(&bus).await.len(), MANY as usize);
        let listed = start.elapsed();
        let mut signals = objects(&bus).await;
        let start = Instant::now();
        write(&host, "one-more.xml", &with_uuid("one-more", MANY));
        hears(&mut signals, &["InterfacesAdded", "DomainAdded one-more"]).await;
        eprintln!(
            "{MANY} defined guests: ready after {took:?}, {each} bytes each, GetManagedObjects \
             {listed:?}, one more seen after {:?}",
            start.elapsed()
        );
        assert!(each < 20 * 1024, "{each} bytes a guest");
    });
}

#[test]
fn what_no_guest_can_be_started_from_has_no_object() {
    let mut host = Host::without_daemon();
    for (file, text) in [
        ("broken.xml", "<domain".to_owned()),
        ("other.xml", with_uuid("web", 1)),
        ("worker@.xml", definition("worker@%i", "")),
        ("first.xml", with_uuid("first", 7)),
        ("second.xml", with_uuid("second", 7)),
        ("masked.xml", String::new()),
    ] {
        write(&host, file, &text);
    }
    std::os::unix::fs::symlink("worker@.xml", host.definitions().join("worker@3.xml")).unwrap();
    host.start_daemon(&["--user"]);
    run(async {
        let bus = host.bus().await;
        let mut names = Vec::new();
        for interfaces in managed(&bus).await.values() {
            let properties = &interfaces[DOMAIN];
            names.push(String::try_from(properties["Name"].clone()).unwrap());
        }
        names.sort_unstable();
        assert_eq!(names, ["first", "worker@3"]);
        let said = format!("'first' and 'second' are defined with one UUID, {}", uuid(7));
        assert!(host.log().contains(&said), "{}", host.log());
    });
}
