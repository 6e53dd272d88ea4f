//! How an interface's device and its backend work: `<driver>`, `<backend>`, `<coalesce>`, `<teaming>`.

use crate::alias::Alias;
use crate::reader::Reader;
use crate::writer::Writer;

use super::super::VirtioOptions;

crate::keywords! {
    /// Who moves packets between guest and host.
    pub enum NetDriver {
        /// The kernel.
        Vhost = "vhost",
        /// QEMU.
        Qemu = "qemu",
    }
}

crate::keywords! {
    /// When packets that the guest sends are handled.
    pub enum TxMode {
        /// In a thread, at once.
        Iothread = "iothread",
        /// When a timer has run down.
        Timer = "timer",
    }
}

crate::attributes! {
    /// Attributes of `<driver>` that only network devices of virtio have.
    pub struct NetOptions {
        /// Who moves packets.
        pub name: NetDriver = keyword "name",
        /// When packets that the guest sends are handled.
        pub tx_mode: TxMode = keyword "txmode",
        /// Whether notifications are handled apart from the virtual CPU.
        pub ioeventfd: bool = on_off "ioeventfd",
        /// Whether notifications are kept few.
        pub event_idx: bool = on_off "event_idx",
        /// How many pairs of queues there are.
        pub queues: u16 = number "queues",
        /// Packets of a queue to the guest.
        pub rx_queue_size: u32 = number "rx_queue_size",
        /// Packets of a queue from the guest.
        pub tx_queue_size: u32 = number "tx_queue_size",
        /// Whether the device spreads packets over queues.
        pub rss: bool = on_off "rss",
        /// Whether the device tells the guest the hash by which it does.
        pub rss_hash_report: bool = on_off "rss_hash_report",
    }
}

crate::attributes! {
    /// Work that the host offers to the guest.
    pub struct HostOffloads {
        /// Checksums.
        pub csum: bool = on_off "csum",
        /// Splitting of large packets.
        pub gso: bool = on_off "gso",
        /// Splitting of TCP over IPv4.
        pub tso4: bool = on_off "tso4",
        /// Splitting of TCP over IPv6.
        pub tso6: bool = on_off "tso6",
        /// Congestion marks.
        pub ecn: bool = on_off "ecn",
        /// Fragments of UDP.
        pub ufo: bool = on_off "ufo",
        /// Packets to the guest in several buffers.
        pub mrg_rxbuf: bool = on_off "mrg_rxbuf",
    }
}

crate::attributes! {
    /// Work that the guest offers to the host.
    pub struct GuestOffloads {
        /// Checksums.
        pub csum: bool = on_off "csum",
        /// Large packets of TCP over IPv4.
        pub tso4: bool = on_off "tso4",
        /// Large packets of TCP over IPv6.
        pub tso6: bool = on_off "tso6",
        /// Congestion marks.
        pub ecn: bool = on_off "ecn",
        /// Fragments of UDP.
        pub ufo: bool = on_off "ufo",
    }
}

/// How a network device of virtio works.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceDriver {
    /// What only network devices have.
    pub options: NetOptions,
    /// What all devices of virtio have.
    pub virtio: VirtioOptions,
    /// Work that the host offers.
    pub host: HostOffloads,
    /// Work that the guest offers.
    pub guest: GuestOffloads,
}

crate::keywords! {
    /// Who translates a network of the user's.
    pub enum BackendType {
        /// QEMU's own translator.
        Default = "default",
        /// The program passt.
        Passt = "passt",
    }
}

crate::attributes! {
    /// What the host's side is made with.
    pub struct InterfaceBackend {
        /// Who translates.
        pub kind: BackendType = keyword "type",
        /// The device by which tap devices are made.
        pub tap: String = string "tap",
        /// The device by which the kernel moves packets.
        pub vhost: String = string "vhost",
        /// The log of passt.
        pub log_file: String = string "logFile",
        /// The name that passt gives the guest.
        pub hostname: String = string "hostname",
        /// The full name that passt gives the guest.
        pub fqdn: String = string "fqdn",
    }
}

crate::keywords! {
    /// The part of a device in a team.
    pub enum TeamingType {
        /// It stays when the guest moves to another host.
        Persistent = "persistent",
        /// It is unplugged then.
        Transient = "transient",
    }
}

/// A team of two devices of which one stays when the guest moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Teaming {
    /// This device's part.
    pub kind: TeamingType,
    /// The alias of the device that stays, given by the one that does not.
    pub persistent: Option<Alias>,
}

impl InterfaceDriver {
    pub(super) fn parse(reader: &Reader<'_>) -> Self {
        let mut options = NetOptions::parse(reader);
        // One pair of queues is what every device has.
        options.queues = options.queues.filter(|queues| *queues > 1);
        for (name, size) in
            [("rx_queue_size", options.rx_queue_size), ("tx_queue_size", options.tx_queue_size)]
        {
            if size.is_some_and(|size| !size.is_power_of_two()) {
                reader.refuse_attribute(name, "is no power of two; give one such as 512");
            }
        }
        Self {
            options,
            virtio: VirtioOptions::parse(reader),
            host: reader.child("host").map(|host| HostOffloads::parse(&host)).unwrap_or_default(),
            guest: reader.child("guest").map(|g| GuestOffloads::parse(&g)).unwrap_or_default(),
        }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        let element = self.options.write_attributes(w.element("driver"));
        self.virtio.write_attributes(element).children_if_any(|w| {
            self.host.write("host", w);
            self.guest.write("guest", w);
        });
    }
}

impl Teaming {
    pub(in crate::devices) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let persistent: Option<Alias> = reader.value("persistent");
        let _ = reader.required("type", "persistent")?; // The keyword itself is read next.
        let kind = reader.keyword("type")?;
        match kind {
            TeamingType::Persistent if persistent.is_some() => {
                reader
                    .refuse_attribute("persistent", "this device is the one that stays; remove it");
            }
            TeamingType::Transient if persistent.is_none() => {
                let _ = reader.required("persistent", "ua-backup0"); // Refused by this.
            }
            TeamingType::Persistent | TeamingType::Transient => {}
        }
        Some(Self { kind, persistent })
    }

    pub(in crate::devices) fn write(&self, w: &mut Writer) {
        w.element("teaming")
            .attribute("type", self.kind)
            .optional("persistent", self.persistent.as_ref())
            .empty();
    }
}
