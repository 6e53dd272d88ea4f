//! Guests register with a stand-in for systemd-machined on the test's own bus.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zbus::connection::Builder;
use zbus::message::Header;
use zbus::{Connection, ObjectServer, OwnedObjectPath, interface};

use crate::host::{Cgroup, Host, PATIENCE, other, run, uuid};

/// What the stand-in has: all arguments of `RegisterMachineWithNetwork`, by name.
type Machines = Arc<Mutex<BTreeMap<String, Entry>>>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    id: Vec<u8>,
    service: String,
    class: String,
    leader: u32,
    root: String,
    interfaces: Vec<i32>,
}

/// How the stand-in answers registrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Willing,
    Refusing,
    Hanging,
}

struct Manager {
    machines: Machines,
    mood: Mood,
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.machine1")]
enum Answer {
    MachineExists(String),
    NoSuchMachine(String),
}

#[interface(name = "org.freedesktop.machine1.Manager")]
impl Manager {
    // The method of machined has these arguments.
    #[allow(clippy::too_many_arguments)]
    async fn register_machine_with_network(
        &self,
        #[zbus(object_server)] server: &ObjectServer,
        name: String,
        id: Vec<u8>,
        service: String,
        class: String,
        leader: u32,
        root: String,
        interfaces: Vec<i32>,
    ) -> Result<OwnedObjectPath, Answer> {
        match self.mood {
            Mood::Willing => {}
            Mood::Refusing => return Err(Answer::NoSuchMachine("the stand-in refuses".to_owned())),
            Mood::Hanging => std::future::pending().await,
        }
        let entry = Entry { id, service, class, leader, root, interfaces };
        {
            let mut machines = self.machines.lock().unwrap();
            if machines.contains_key(&name) {
                return Err(Answer::MachineExists(format!("Machine '{name}' already exists")));
            }
            machines.insert(name.clone(), entry.clone());
        }
        let path = path(&name);
        server.at(&path, Machine(entry)).await.unwrap();
        Ok(path)
    }

    async fn unregister_machine(
        &self,
        #[zbus(object_server)] server: &ObjectServer,
        #[zbus(header)] _header: Header<'_>,
        name: String,
    ) -> Result<(), Answer> {
        if self.machines.lock().unwrap().remove(&name).is_none() {
            return Err(Answer::NoSuchMachine(name));
        }
        server.remove::<Machine, _>(path(&name)).await.unwrap();
        Ok(())
    }

    async fn get_machine(&self, name: String) -> Result<OwnedObjectPath, Answer> {
        if self.machines.lock().unwrap().contains_key(&name) {
            return Ok(path(&name));
        }
        Err(Answer::NoSuchMachine(name))
    }
}

struct Machine(Entry);

#[interface(name = "org.freedesktop.machine1.Machine")]
impl Machine {
    #[zbus(property)]
    async fn leader(&self) -> u32 {
        self.0.leader
    }

    #[zbus(property)]
    async fn service(&self) -> &str {
        &self.0.service
    }
}

fn path(name: &str) -> OwnedObjectPath {
    let element = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("/org/freedesktop/machine1/machine/{element}").try_into().unwrap()
}

/// The stand-in, on a connection and a thread of its own; dropping it takes it off the bus.
struct Machined {
    machines: Machines,
    connection: Option<Connection>,
    runtime: tokio::runtime::Runtime,
}

impl Machined {
    fn start(host: &Host, mood: Mood, there: &[(&str, &Entry)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let machines = Machines::default();
        let connection = runtime.block_on(async {
            let manager = Manager { machines: machines.clone(), mood };
            let mut builder = Builder::address(host.address())
                .serve_at("/org/freedesktop/machine1", manager)
                .name("org.freedesktop.machine1");
            for (name, entry) in there {
                machines.lock().unwrap().insert((*name).to_owned(), (*entry).clone());
                builder = builder.serve_at(path(name), Machine((*entry).clone()));
            }
            builder.build().await.unwrap()
        });
        Self { machines, connection: Some(connection), runtime }
    }

    fn machines(&self) -> BTreeMap<String, Entry> {
        self.machines.lock().unwrap().clone()
    }

    fn wait_for(&self, expected: &BTreeMap<String, Entry>) {
        let start = Instant::now();
        while self.machines() != *expected {
            assert!(start.elapsed() < PATIENCE, "expected {expected:?}, got {:?}", self.machines());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Machined {
    fn drop(&mut self) {
        let connection = self.connection.take().unwrap();
        self.runtime.block_on(connection.close()).unwrap();
    }
}

/// A host with the daemon of the system, and a unit for a guest; `None` where a test cannot have them.
fn system(test: &str, unit: &str) -> Option<(Host, Cgroup)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "SKIP {test}: the daemon of the system takes claims only of root and glassbox-qemu"
        );
        return None;
    }
    match Cgroup::of_unit(unit) {
        Ok(cgroup) => Some((Host::without_daemon(), cgroup)),
        Err(why) => {
            eprintln!("SKIP {test}: {why}");
            None
        }
    }
}

fn entry(number: u32, leader: u32) -> Entry {
    let id = uuid(number).replace('-', "");
    let id = (0..16).map(|i| u8::from_str_radix(&id[2 * i..2 * i + 2], 16).unwrap()).collect();
    Entry {
        id,
        service: "glassbox".to_owned(),
        class: "vm".to_owned(),
        leader,
        root: String::new(),
        interfaces: vec![],
    }
}

fn only(name: &str, entry: Entry) -> BTreeMap<String, Entry> {
    BTreeMap::from([(name.to_owned(), entry)])
}

#[test]
fn a_guest_is_a_machine_when_register_answers_and_until_it_ends() {
    let Some((mut host, unit)) = system("a_guest_is_a_machine", "glassbox-test-1.service") else {
        return;
    };
    let machined = Machined::start(&host, Mood::Willing, &[]);
    host.start_daemon(&[]);
    for round in 1..=5 {
        let guest = other(&host, "my vm.1", &uuid(round), Some(&unit));
        assert_eq!(machined.machines(), only("gb--my-20vm-2e1", entry(round, guest.0.id())));
        let name: String = run(async {
            let bus = host.bus().await;
            let path = format!("/org/glassbox/Glassbox1/domain/{}", uuid(round).replace('-', "_"));
            let proxy =
                zbus::Proxy::new(&bus, "org.glassbox.Glassbox1", path, crate::host::DOMAIN).await;
            proxy.unwrap().get_property("MachineName").await.unwrap()
        });
        assert_eq!(name, "gb--my-20vm-2e1");
        // The next round registers the same name while this one may still be leaving.
        drop(guest);
    }
    machined.wait_for(&BTreeMap::new());
}

#[test]
fn guests_register_with_a_machined_that_comes_later() {
    let Some((mut host, unit)) = system("a_machined_that_comes", "glassbox-test-2.service") else {
        return;
    };
    host.start_daemon(&[]);
    let guest = other(&host, "web", &uuid(1), Some(&unit));
    let missing =
        "guest 'web' runs, but machinectl does not show it: systemd-machined is not installed";
    assert!(host.log().contains(missing), "{}", host.log());
    let expected = only("web", entry(1, guest.0.id()));
    let machined = Machined::start(&host, Mood::Willing, &[]);
    machined.wait_for(&expected);
    drop(machined);
    // A restarted machined that lost its state, and one that kept it.
    Machined::start(&host, Mood::Willing, &[]).wait_for(&expected);
    let machined = Machined::start(&host, Mood::Willing, &[("web", &expected["web"])]);
    drop(guest);
    machined.wait_for(&BTreeMap::new());
}

#[test]
fn a_hanging_machined_holds_up_nobody_for_long() {
    let Some((mut host, unit)) = system("a_hanging_machined", "glassbox-test-3.service") else {
        return;
    };
    let _machined = Machined::start(&host, Mood::Hanging, &[]);
    host.start_daemon(&[]);
    let start = Instant::now();
    let _guest = other(&host, "web", &uuid(1), Some(&unit));
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(5), "{waited:?}");
    let warning = "guest 'web' starts before machined answered in 1s";
    assert!(host.log().contains(warning), "{}", host.log());
}

#[test]
fn a_refusal_is_logged_and_the_guest_runs() {
    let Some((mut host, unit)) = system("a_refusal_is_logged", "glassbox-test-4.service") else {
        return;
    };
    let machined = Machined::start(&host, Mood::Refusing, &[]);
    host.start_daemon(&[]);
    let _guest = other(&host, "web", &uuid(1), Some(&unit));
    assert!(
        host.log().contains("machinectl does not show it: systemd-machined: "),
        "{}",
        host.log()
    );
    assert!(host.log().contains("the stand-in refuses"), "{}", host.log());
    assert_eq!(machined.machines(), BTreeMap::new());
}

#[test]
fn a_stale_machine_of_ours_is_replaced() {
    let Some((mut host, unit)) = system("a_stale_machine", "glassbox-test-5.service") else {
        return;
    };
    let machined = Machined::start(&host, Mood::Willing, &[("web", &entry(9, 1))]);
    host.start_daemon(&[]);
    let guest = other(&host, "web", &uuid(1), Some(&unit));
    assert_eq!(machined.machines(), only("web", entry(1, guest.0.id())));
}

#[test]
fn the_machine_of_another_program_is_left_alone() {
    let Some((mut host, unit)) = system("the_machine_of_another", "glassbox-test-6.service") else {
        return;
    };
    let foreign = Entry { service: "systemd-nspawn".to_owned(), ..entry(9, 1) };
    let machined = Machined::start(&host, Mood::Willing, &[("web", &foreign)]);
    host.start_daemon(&[]);
    let guest = other(&host, "web", &uuid(1), Some(&unit));
    let taken = "the machine name is taken by systemd-nspawn, leader 1; rename one of the two";
    assert!(host.log().contains(taken), "{}", host.log());
    drop(guest);
    let ended = "guest 'web' ended";
    let start = Instant::now();
    while !host.log().contains(ended) {
        assert!(start.elapsed() < PATIENCE, "{}", host.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(machined.machines(), only("web", foreign));
}

#[test]
fn a_guest_in_somebody_s_session_is_no_machine() {
    let Some((mut host, unit)) = system("a_guest_in_a_session", "session-glassbox7.scope") else {
        return;
    };
    let machined = Machined::start(&host, Mood::Willing, &[]);
    host.start_daemon(&[]);
    let _guest = other(&host, "web", &uuid(1), Some(&unit));
    let reason = "its leader lives in session-glassbox7.scope, and machinectl terminate would stop";
    assert!(host.log().contains(reason), "{}", host.log());
    assert_eq!(machined.machines(), BTreeMap::new());
}
