//! What is made of the answers of real QEMUs, from transcripts.
//!
//! `tests/probe` has those of Debian 12's QEMU 7.2 and Debian 13's QEMU 10.0, which `record.py` there wrote, and
//! beside each what is to be known of that QEMU; `UPDATE_GOLDEN=1 cargo test -p qemu --test probe` writes it anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "the transcripts are files; the crate itself opens none"
)]

use std::path::{Path, PathBuf};

use domain::{Domain, Faults};
use qemu::{HostFacts, Launch, NetdevReconnect, ProbeError, QemuBinary, Question, Unanswered};
use serde_json::{Value, json};

/// Answers questions from a transcript: documents of JSON, a command and its reply in turn.
struct Transcript(Vec<(Value, Value)>);

impl Transcript {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let documents: Vec<Value> = documents.collect::<Result<_, _>>().unwrap();
        Self(documents.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
    }

    /// The answer to the very question, else to the command with other arguments, where only those restrict it.
    fn answer(&self, question: &Question) -> Result<Value, Unanswered> {
        if question.command == "qmp_capabilities" {
            return Ok(json!({}));
        }
        let of_command = || self.0.iter().filter(|(it, _)| it["execute"] == question.command);
        let same = of_command().find(|(asked, _)| asked["arguments"] == question.arguments);
        let wider = || of_command().find(|_| question.command == "qom-list-types");
        let Some((_, reply)) = same.or_else(wider) else {
            return Err(Unanswered::Refused("it is not in the transcript".to_owned()));
        };
        match reply.get("return") {
            Some(answer) => Ok(answer.clone()),
            None => Err(Unanswered::Refused(reply["error"]["desc"].to_string())),
        }
    }

    fn binary(&self) -> QemuBinary {
        QemuBinary::ask(&mut |question| self.answer(question)).unwrap()
    }
}

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe").join(name)
}

fn debian(version: &str) -> QemuBinary {
    Transcript::read(&recorded(&format!("qemu-{version}.replies"))).binary()
}

#[test]
fn transcripts_say_what_is_known() {
    for version in ["7.2.22", "10.0.13"] {
        let got = serde_json::to_string_pretty(&debian(version)).unwrap() + "\n";
        let file = recorded(&format!("qemu-{version}.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(got, expected, "{}", file.display());
        let kept: QemuBinary = serde_json::from_str(&got).unwrap();
        assert_eq!(kept, debian(version), "what is kept reads back equal");
    }
}

/// The plan's machine type and character device, and the lasting definition, with a QEMU.
fn planned(binary: &QemuBinary, xml: &str) -> Result<(Vec<String>, String), String> {
    let mut facts = HostFacts::local("web");
    binary.tell(&mut facts);
    let faults = Faults::new();
    let mut domain = Domain::parse(xml, &faults).unwrap();
    qemu::complete(&mut domain, &facts, &faults);
    let plan = qemu::plan(&domain, &facts, &Launch::default(), &faults);
    let faults: Vec<_> = faults.into_sorted().iter().map(ToString::to_string).collect();
    plan.map(|plan| (plan.arguments, domain.write())).ok_or_else(|| faults.join("\n"))
}

fn small(machine: &str, devices: &str) -> String {
    format!(
        "<domain type='qemu'><name>web</name><memory>65536</memory>
         <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
         <devices><controller type='usb' model='none'/><memballoon model='none'/>{devices}</devices></domain>"
    )
}

#[test]
fn a_definition_keeps_the_machine_type_of_its_first_planning() {
    for (version, machine) in [("7.2.22", "pc-i440fx-7.2"), ("10.0.13", "pc-i440fx-10.0")] {
        let (arguments, written) = planned(&debian(version), &small("pc", "")).unwrap();
        let option = arguments.iter().position(|argument| argument == "-machine").unwrap();
        assert!(arguments[option + 1].starts_with(&format!("{machine},")), "{arguments:?}");
        assert!(written.contains(&format!("machine='{machine}'")), "{written}");
    }
}

#[test]
fn each_version_has_its_own_words() {
    let channel = "<channel type='unix'><source mode='connect' path='/run/s'><reconnect enabled='yes' timeout='3'/>
        </source><target type='virtio' name='a'/></channel>";
    let controller = "<controller type='virtio-serial' index='0'/>";
    // The recordings are cut down, so this device is not in them; it is in every QEMU.
    let with = |version| {
        let mut binary = debian(version);
        binary.devices.extend(["virtio-serial-pci", "virtserialport"].map(str::to_owned));
        planned(&binary, &small("pc", &format!("{controller}{channel}"))).unwrap().0.join(" ")
    };
    assert!(with("7.2.22").contains(",path=/run/s,reconnect=3 "), "{}", with("7.2.22"));
    assert!(with("10.0.13").contains(",path=/run/s,reconnect-ms=3000 "), "{}", with("10.0.13"));
    assert_eq!(debian("7.2.22").abilities.netdev_reconnect, NetdevReconnect::No);
    assert_eq!(debian("10.0.13").abilities.netdev_reconnect, NetdevReconnect::Milliseconds);
}

#[test]
fn a_device_that_the_binary_lacks_is_refused() {
    let card = small(
        "pc",
        "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='igb'/></interface>",
    );
    let refused = planned(&debian("7.2.22"), &card).unwrap_err();
    assert!(refused.contains("/domain/devices: this QEMU has no device 'igb'; "), "{refused}");
    assert!(planned(&debian("10.0.13"), &card).is_ok());
}

#[test]
fn an_answer_that_is_missing_or_strange_is_told() {
    let ask = |answer: &dyn Fn(&Question) -> Result<Value, Unanswered>| {
        QemuBinary::ask(&mut |question| answer(question)).unwrap_err()
    };
    let refused = ask(&|_| Err(Unanswered::Refused("no".to_owned())));
    assert_eq!(refused.to_string(), "QEMU refused qmp_capabilities: no");
    let lost = ask(&|_| Err(Unanswered::Lost("gone".to_owned())));
    assert_eq!(lost, ProbeError::Lost("gone".to_owned()));
    let strange = ask(&|_| Ok(json!([])));
    assert!(strange.to_string().starts_with("QEMU's answer to query-version cannot be read: "));
}

/// Libvirt's transcript of QEMU 10.0.0, which is no part of this repository.
#[test]
fn the_transcript_of_libvirts_tests_is_read() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let corpus = std::env::var_os("GLASSBOX_CORPUS").map_or(beside, PathBuf::from);
    let path = corpus.join("libvirt-11.3/qemu-10.0.0-x86_64.replies");
    if !path.is_file() {
        eprintln!("SKIP the_transcript_of_libvirts_tests_is_read: no file {}", path.display());
        return;
    }
    let binary = Transcript::read(&path).binary();
    assert_eq!((binary.version.number, binary.kvm), ((10, 0, 0), true));
    assert_eq!(binary.default_machine, "pc-i440fx-10.0");
    assert_eq!(binary.machine_aliases["q35"], "pc-q35-10.0");
    assert_eq!(binary.machines["pc-q35-10.0"].as_deref(), Some("qemu64"));
    assert_eq!(binary.abilities, debian("10.0.13").abilities);
    assert!(binary.devices.contains("virtio-sound-pci"));
    // It has no expansions of named models, by which the host's would be found.
    assert_eq!((binary.host_model, binary.sev), (None, None));
}
