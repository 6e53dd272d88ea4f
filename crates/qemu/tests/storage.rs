//! Secrets and volumes: a domain says what it needs, the host answers with facts, and the plan uses them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use domain::devices::{SecretKey, SourceKind};
use domain::{Domain, Faults};
use qemu::{HostFacts, Launch, SealedSecret, SecretNeed, Volume};

const XML: &str = "<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory>\
    <os><type machine='q35'>hvm</type></os><devices>\
    <disk type='network'><source protocol='https' name='a'><host name='h'/>\
    <cookies><cookie name='k'>v</cookie><cookie name='l'>w</cookie></cookies></source>\
    <target dev='vda'/></disk>\
    <disk type='file'><driver type='qcow2'/><source file='/a'><encryption format='luks'>\
    <secret type='passphrase' usage='a'/></encryption></source><target dev='vdb'/></disk>\
    <disk type='volume'><source pool='p' volume='v'/><target dev='vdc'/></disk>\
    <disk type='volume' device='cdrom'><source pool='p' volume='gone' startupPolicy='optional'/>\
    <target dev='sda' bus='sata'/></disk>\
    </devices></domain>";

fn sealed(data: &str) -> SealedSecret {
    SealedSecret { data: data.to_owned(), iv: "iv".to_owned() }
}

fn plan(facts: &HostFacts) -> Result<Vec<String>, Vec<String>> {
    let faults = Faults::new();
    let mut domain = Domain::parse(XML, &faults).unwrap();
    qemu::complete(&mut domain, facts, &faults);
    let plan = qemu::plan(&domain, facts, &Launch::default(), &faults);
    let messages = faults.into_sorted().iter().map(ToString::to_string).collect();
    plan.map(|plan| plan.arguments).ok_or(messages)
}

#[test]
fn a_domain_says_what_it_needs() {
    let domain = Domain::parse(XML, &Faults::new()).unwrap();
    let secrets: Vec<SecretNeed> = qemu::secrets(&domain).into_iter().collect();
    assert_eq!(
        secrets,
        [
            SecretNeed::Stored(SecretKey::Usage("a".to_owned())),
            SecretNeed::Text("k=v; l=w".to_owned())
        ]
    );
    let volumes: Vec<&str> = qemu::volumes(&domain).map(|volume| volume.volume.as_str()).collect();
    assert_eq!(volumes, ["v", "gone"]);
}

#[test]
fn what_the_host_has_not_is_refused() {
    let messages = plan(&HostFacts::local("a")).unwrap_err();
    assert_eq!(
        messages,
        [
            "1:134: /domain/devices/disk[1]/source: cookies could not be sealed for QEMU",
            "1:332: /domain/devices/disk[2]/source: the host has no secret for 'a'; store it first",
            "1:481: /domain/devices/disk[3]/source: the host knows no such volume, or QEMU cannot \
             reach it; check pool and volume",
        ]
    );
}

#[test]
fn what_the_host_has_is_used() {
    let mut facts = HostFacts::local("a");
    let storage = &mut facts.storage;
    let key = SecretNeed::Stored(SecretKey::Usage("a".to_owned()));
    storage.secrets.insert(key, sealed("AA"));
    storage.secrets.insert(SecretNeed::Text("k=v; l=w".to_owned()), sealed("BB"));
    let local = SourceKind::Block(Some("/dev/vg/v".to_owned()));
    storage.volumes.insert(("p".to_owned(), "v".to_owned()), Volume { local, direct: None });
    let arguments = plan(&facts).unwrap();
    let of = |word: &str| arguments.iter().filter(|text| text.contains(word)).collect::<Vec<_>>();
    assert_eq!(
        of("\"secret\""),
        [
            r#"{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/run/glassbox/guest/a/master-key.aes"}"#,
            r#"{"qom-type":"secret","id":"libvirt-3-storage-httpcookie-secret0","data":"BB","keyid":"masterKey0","iv":"iv","format":"base64"}"#,
            r#"{"qom-type":"secret","id":"libvirt-2-format-encryption-secret0","data":"AA","keyid":"masterKey0","iv":"iv","format":"base64"}"#,
        ]
    );
    assert_eq!(
        of("/dev/vg/v"),
        [
            r#"{"driver":"host_device","filename":"/dev/vg/v","node-name":"libvirt-1-storage","read-only":false}"#
        ]
    );
    // The drive whose volume is gone is there and empty.
    assert_eq!(of("ide-cd"), [r#"{"driver":"ide-cd","bus":"ide.0","id":"sata0-0-0"}"#]);
}
