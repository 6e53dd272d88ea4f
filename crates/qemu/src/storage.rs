//! What a plan must know of the host's storage: secrets, volumes of pools, folders.

use std::collections::{BTreeMap, BTreeSet};

use domain::Domain;
use domain::devices::{
    Disk, DiskSource, Hostdev, HostdevSource, NetworkProtocol, ScsiSource, SecretKey, SourceKind,
    StartupPolicy, Tpm, TpmBackend, VolumeSource,
};

/// A secret that a guest needs. QEMU gets it as text sealed by a key that only it and the shim know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretNeed {
    /// One that the host keeps.
    Stored(SecretKey),
    /// A text that the domain itself has and that other users of the host must not see.
    Text(String),
}

/// A secret encrypted with AES-256 in CBC mode with the guest's master key, both parts in Base64; see
/// "Providing secret data to QEMU", <https://www.qemu.org/docs/master/system/secrets.html>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// The secret.
    pub data: String,
    /// The initialization vector.
    pub iv: String,
}

/// What a volume of a storage pool is on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// How the host sees it.
    pub local: SourceKind,
    /// How QEMU reaches it itself, with the user's name and password, if it can.
    pub direct: Option<SourceKind>,
}

/// What a plan must know of the host's storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageFacts {
    /// Secrets, sealed for this start; [`secrets`] says which a domain needs.
    pub secrets: BTreeMap<SecretNeed, SealedSecret>,
    /// Volumes by pool and name; [`volumes`] says which a domain needs.
    pub volumes: BTreeMap<(String, String), Volume>,
    /// Devices that are CD-ROM drives of the host.
    pub cdrom_drives: BTreeSet<String>,
    /// The folder with certificates for network block devices.
    pub nbd_certificates: String,
    /// How much the client of Gluster logs, 0 to 9.
    pub gluster_debug: Option<u8>,
    /// The program that serves virtio-fs when the domain names none.
    pub virtiofsd: String,
    /// The program that answers for persistent reservations.
    pub reservation_helper: String,
}

/// The secrets that a domain needs, each once.
#[must_use]
pub fn secrets(domain: &Domain) -> BTreeSet<SecretNeed> {
    secrets_of_qemu(domain, |_| false)
}

/// The secrets that QEMU needs when another program serves the images that `served` tells.
pub(crate) fn secrets_of_qemu(
    domain: &Domain,
    served: impl Fn(&DiskSource) -> bool,
) -> BTreeSet<SecretNeed> {
    let mut needs: BTreeSet<SecretNeed> =
        domain.devices.hostdevs.iter().filter_map(login).collect();
    needs.extend(domain.devices.tpms.iter().filter_map(state_key));
    let variables = domain.os.nvram.iter().filter_map(|nvram| nvram.source.as_ref());
    let disks = domain.devices.disks.iter().flat_map(|disk| disk.source.chain());
    let disks = disks.map(|source| (source, served(source)));
    for (source, served) in disks.chain(variables.map(|source| (source, false))) {
        let keys = source.encryption.iter().flat_map(|encryption| encryption.secrets.clone());
        needs.extend(keys.map(SecretNeed::Stored));
        if served {
            continue;
        }
        if !matches!(source.kind, SourceKind::Volume(_)) {
            needs.extend(source.auth.iter().map(|auth| SecretNeed::Stored(auth.secret.clone())));
        }
        if let SourceKind::Network(network) = &source.kind
            && !network.cookies.is_empty()
        {
            needs.insert(SecretNeed::Text(cookie_text(&network.cookies)));
        }
    }
    needs
}

/// The secret that a module's state is encrypted with.
pub(crate) fn state_key(tpm: &Tpm) -> Option<SecretNeed> {
    match &tpm.backend {
        TpmBackend::Emulator(emulator) => {
            emulator.secret.map(|uuid| SecretNeed::Stored(SecretKey::Uuid(uuid.to_string())))
        }
        TpmBackend::Passthrough(_) | TpmBackend::External(_) => None,
    }
}

/// The password of a device of the host behind iSCSI.
fn login(hostdev: &Hostdev) -> Option<SecretNeed> {
    match &hostdev.source {
        HostdevSource::Scsi(ScsiSource::Iscsi(target)) => {
            target.auth.as_ref().map(|auth| SecretNeed::Stored(auth.secret.clone()))
        }
        HostdevSource::Scsi(ScsiSource::Host(_))
        | HostdevSource::Pci(_)
        | HostdevSource::Usb(_)
        | HostdevSource::ScsiHost(_)
        | HostdevSource::Mdev(_) => None,
    }
}

/// The volumes of storage pools that a domain needs.
pub fn volumes(domain: &Domain) -> impl Iterator<Item = &VolumeSource> {
    let sources = domain.devices.disks.iter().flat_map(|disk| disk.source.chain());
    sources.filter_map(|source| match &source.kind {
        SourceKind::Volume(volume) => Some(volume),
        SourceKind::File(_)
        | SourceKind::Block(_)
        | SourceKind::Dir(_)
        | SourceKind::Network(_)
        | SourceKind::Nvme(_)
        | SourceKind::VhostUser(_)
        | SourceKind::VhostVdpa(_) => None,
    })
}

/// Cookies as a client sends them.
pub(crate) fn cookie_text(cookies: &[(String, String)]) -> String {
    let pairs: Vec<String> =
        cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("; ")
}

impl StorageFacts {
    /// What a source is once volumes are looked up; nothing when there is no such volume.
    pub(crate) fn resolve(&self, source: &DiskSource) -> Option<SourceKind> {
        let SourceKind::Volume(volume) = &source.kind else { return Some(source.kind.clone()) };
        let found = self.volumes.get(&(volume.pool.clone(), volume.volume.clone()))?;
        let direct = volume.mode == Some(domain::devices::VolumeMode::Direct);
        if direct { found.direct.clone() } else { Some(found.local.clone()) }
    }

    /// Whether a disk starts without its medium because the volume is missing and need not be there.
    pub(crate) fn drops(&self, disk: &Disk) -> bool {
        disk.source.startup_policy == Some(StartupPolicy::Optional)
            && self.resolve(&disk.source).is_none()
    }
}

/// Whether QEMU reaches such a server itself.
pub(crate) fn is_known(protocol: NetworkProtocol) -> bool {
    !matches!(protocol, NetworkProtocol::Sheepdog | NetworkProtocol::Vxhs | NetworkProtocol::Tftp)
}
