//! The storage that libvirt's tests pretend: secrets, and pools whose volumes exist by being named.

use domain::Domain;
use domain::devices::{NetworkHost, NetworkProtocol, NetworkSource, SecretKey, SourceKind};
use qemu::{SealedSecret, SecretNeed, StorageFacts, Volume};

/// What the pretended secrets are for, when they have no UUID.
const USAGES: [&str; 2] = ["mycluster_myname", "client.admin secret"];

/// The storage facts of the pretended host, as far as this domain needs them.
pub(crate) fn facts(domain: &Domain) -> StorageFacts {
    let needs = qemu::secrets(domain).into_iter().filter(exists);
    let sealed = SealedSecret { data: "c2VhbGVk".to_owned(), iv: "aXY=".to_owned() };
    let volumes = qemu::volumes(domain).filter_map(|source| {
        let volume = volume(&source.pool, &source.volume)?;
        Some(((source.pool.clone(), source.volume.clone()), volume))
    });
    StorageFacts {
        secrets: needs.map(|need| (need, sealed.clone())).collect(),
        volumes: volumes.collect(),
        cdrom_drives: ["/dev/cdrom".to_owned()].into(),
        nbd_certificates: "/etc/pki/libvirt-nbd".to_owned(),
        gluster_debug: Some(4),
        virtiofsd: "/usr/libexec/virtiofsd".to_owned(),
        reservation_helper: "/usr/bin/qemu-pr-helper".to_owned(),
    }
}

fn exists(need: &SecretNeed) -> bool {
    match need {
        SecretNeed::Stored(SecretKey::Uuid(_)) | SecretNeed::Text(_) => true,
        SecretNeed::Stored(SecretKey::Usage(usage)) => {
            USAGES.contains(&usage.as_str()) || usage.starts_with("/storage/guest_disks/")
        }
    }
}

/// A volume `TYPE+NAME`, or of type block without a type.
fn volume(pool: &str, name: &str) -> Option<Volume> {
    if pool == "inactive" || name == "nonexistent" {
        return None;
    }
    let (kind, file) = name.split_once('+').unwrap_or(("block", name));
    let path = Some(format!("/some/{kind}/device/{file}"));
    let local = match kind {
        "block" => SourceKind::Block(path),
        "dir" => SourceKind::Dir(path),
        _ => SourceKind::File(path),
    };
    let unit = name.rsplit_once(':').map_or("0", |(_, unit)| unit);
    let direct = pool.starts_with("pool-iscsi").then(|| iscsi(unit));
    Some(Volume { local, direct })
}

fn iscsi(unit: &str) -> SourceKind {
    SourceKind::Network(Box::new(NetworkSource {
        protocol: NetworkProtocol::Iscsi,
        name: Some(format!("demo-target/{unit}")),
        query: None,
        tls: None,
        tls_hostname: None,
        hosts: vec![NetworkHost {
            transport: None,
            name: Some("iscsi.example.com".to_owned()),
            port: Some(3260),
            socket: None,
        }],
        snapshot: None,
        config: None,
        initiator: None,
        verify: None,
        readahead: None,
        timeout: None,
        cookies: Vec::new(),
        known_hosts: None,
        identity: domain::devices::NetworkIdentity::default(),
        reconnect_delay: None,
    }))
}
