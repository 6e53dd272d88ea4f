//! Network interfaces, `<interface>`.

use crate::fault::Place;
use crate::mac_address::MacAddress;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{DeviceInfo, VirtioOptions};

mod driver;
mod ip;
mod network;
mod source;

pub use driver::{
    BackendType, GuestOffloads, HostOffloads, InterfaceBackend, InterfaceDriver, NetDriver,
    NetOptions, Teaming, TeamingType, TxMode,
};
pub use ip::{InterfaceIp, IpFamily, IpSettings, Route};
pub use network::{
    Bandwidth, FilterRef, ForwardProtocol, NativeMode, PortForward, PortRange, Rate, VirtualPort,
    VirtualPortParameters, VirtualPortType, Vlan, VlanTag,
};
pub use source::{DirectMode, InterfaceSource, SocketAddress, VhostUserMode};

crate::keywords! {
    /// What an interface is connected to.
    pub enum InterfaceType {
        /// A network that QEMU itself translates.
        User = "user",
        /// A tap device.
        Ethernet = "ethernet",
        /// A vhost-user server.
        VhostUser = "vhostuser",
        /// A listening socket of another guest.
        Server = "server",
        /// A socket of another guest.
        Client = "client",
        /// A multicast group of guests.
        Mcast = "mcast",
        /// UDP.
        Udp = "udp",
        /// A virtual network.
        Network = "network",
        /// A bridge.
        Bridge = "bridge",
        /// An internal network.
        Internal = "internal",
        /// A host interface by macvtap.
        Direct = "direct",
        /// A host device.
        Hostdev = "hostdev",
        /// A vDPA device.
        Vdpa = "vdpa",
        /// A distributed switch of VMware.
        Vds = "vds",
        /// Nothing.
        Null = "null",
    }
}

crate::keywords! {
    /// Who chose an interface's address.
    pub enum MacType {
        /// The program that made the definition.
        Generated = "generated",
        /// The user.
        Static = "static",
    }
}

crate::attributes! {
    /// An interface's address with what is said of it.
    pub struct Mac {
        /// The address; none gets one that is made of the guest's UUID.
        pub address: MacAddress = value "address",
        /// Who chose it.
        pub kind: MacType = keyword "type",
        /// Whether it is to be checked for twins.
        pub check: bool = yes_no "check",
    }
}

crate::attributes! {
    /// The tap device that the host sees.
    pub struct InterfaceTarget {
        /// Its name.
        pub dev: String = string "dev",
        /// Whether it is made for the guest; one that is not is there already.
        pub managed: bool = yes_no "managed",
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Where the element stands.
    pub place: Place,
    /// What it is connected to.
    pub source: InterfaceSource,
    /// Whether a device of the host is taken from its driver and given back.
    pub managed: Option<bool>,
    /// Whether the host follows the filters that the guest sets.
    pub trust_guest_rx_filters: Option<bool>,
    /// Its address.
    pub mac: Mac,
    /// The VLANs that it sees.
    pub vlan: Vlan,
    /// The port of a switch outside.
    pub virtual_port: Option<VirtualPort>,
    /// How much passes.
    pub bandwidth: Bandwidth,
    /// Whether it reaches no other isolated port.
    pub isolated: Option<bool>,
    /// What the guest is given.
    pub guest_ip: IpSettings,
    /// Ports of the host that reach the guest.
    pub port_forwards: Vec<PortForward>,
    /// The program that configures a tap device.
    pub script: Option<String>,
    /// The program that takes that back.
    pub downscript: Option<String>,
    /// The tap device that the host sees.
    pub target: InterfaceTarget,
    /// The model, a word of libvirt's list such as `virtio` or a device of QEMU.
    pub model: Option<String>,
    /// How a device of virtio works; empty for others.
    pub driver: InterfaceDriver,
    /// What the host's side is made with.
    pub backend: InterfaceBackend,
    /// The filter of the host.
    pub filter: Option<FilterRef>,
    /// Bytes that the host's side holds back for a slow network.
    pub send_buffer: Option<u64>,
    /// Whether the cable is plugged.
    pub link_up: Option<bool>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// After how many packets the host is told.
    pub coalesced_frames: Option<u32>,
    /// The team that it is in.
    pub teaming: Option<Teaming>,
    /// What all devices have.
    pub info: DeviceInfo,
}

crate::keywords! {
    /// Whether the cable is plugged.
    pub enum LinkState {
        /// It is.
        Up = "up",
        /// It is not.
        Down = "down",
    }
}

/// Models that libvirt knows, whatever the case of their letters.
const MODELS: [&str; 21] = [
    "netfront",
    "rtl8139",
    "virtio",
    "e1000",
    "e1000e",
    "igb",
    "virtio-transitional",
    "virtio-non-transitional",
    "usb-net",
    "spapr-vlan",
    "lan9118",
    "smc91c111",
    "vlance",
    "vmxnet",
    "vmxnet2",
    "vmxnet3",
    "Am79C970A",
    "Am79C973",
    "82540EM",
    "82545EM",
    "82543GC",
];

/// What names of tap devices begin with that are chosen at each start.
const GENERATED_TARGETS: [&str; 3] = ["vnet", "macvtap", "macvlan"];

impl Interface {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("type", "user"); // The keyword itself is read next.
        let Some(kind) = reader.keyword::<InterfaceType>("type") else {
            let _ = reader.raw(); // Nothing else can be judged without the type.
            return None;
        };
        reader.refuse_children(&["guest", "backenddomain"]);
        let model = reader.child("model").and_then(|model| read_model(&model));
        let source = InterfaceSource::parse(reader, kind);
        let vlan = reader.child("vlan").map(|vlan| Vlan::parse(&vlan)).unwrap_or_default();
        let interface = Self {
            place: reader.place(),
            managed: reader.yes_no("managed").filter(|managed| *managed),
            trust_guest_rx_filters: reader.yes_no("trustGuestRxFilters"),
            mac: reader.child("mac").map(|mac| Mac::parse(&mac)).unwrap_or_default(),
            vlan,
            virtual_port: reader.child("virtualport").map(|port| VirtualPort::parse(&port)),
            bandwidth: reader.child("bandwidth").map(|b| Bandwidth::parse(&b)).unwrap_or_default(),
            isolated: reader.child("port").and_then(|port| port.yes_no("isolated")),
            guest_ip: IpSettings::parse(reader),
            port_forwards: reader
                .children("portForward")
                .iter()
                .filter_map(PortForward::parse)
                .collect(),
            script: path_of(reader, "script"),
            downscript: path_of(reader, "downscript"),
            target: reader.child("target").map(|t| read_target(&t)).unwrap_or_default(),
            driver: read_driver(reader, kind, model.as_deref()),
            backend: read_backend(reader, model.as_deref()),
            filter: reader.child("filterref").and_then(|filter| FilterRef::parse(&filter)),
            send_buffer: nested(reader, &["tune", "sndbuf"]).and_then(|r| r.text_number()),
            link_up: reader
                .child("link")
                .and_then(|link| link.keyword::<LinkState>("state"))
                .map(|state| state == LinkState::Up),
            mtu: reader.child("mtu").and_then(|mtu| mtu.number("size")),
            coalesced_frames: nested(reader, &["coalesce", "rx", "frames"])
                .and_then(|frames| frames.number("max")),
            teaming: reader.child("teaming").and_then(|teaming| Teaming::parse(&teaming)),
            info: DeviceInfo::parse(reader),
            model,
            source: source?,
        };
        Some(interface)
    }

    /// What it is connected to.
    #[must_use]
    pub fn kind(&self) -> InterfaceType {
        self.source.kind()
    }

    /// Whether its model is one of virtio.
    #[must_use]
    pub fn is_virtio(&self) -> bool {
        self.model.as_deref().is_some_and(is_virtio)
    }

    /// How many pairs of queues it has.
    #[must_use]
    pub fn queues(&self) -> u16 {
        self.driver.options.queues.unwrap_or(1)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("interface")
            .attribute("type", self.kind())
            .yes_no("managed", self.managed)
            .yes_no("trustGuestRxFilters", self.trust_guest_rx_filters)
            .children(|w| {
                self.mac.write("mac", w);
                self.source.write(w);
                self.write_network(w);
                self.write_device(w);
                self.info.write(w);
            });
    }

    fn write_network(&self, w: &mut Writer) {
        self.vlan.write(w);
        if let Some(port) = &self.virtual_port {
            port.write(w);
        }
        self.bandwidth.write(w);
        w.element("port").yes_no("isolated", self.isolated).empty_if_any();
        self.guest_ip.write(w);
        self.port_forwards.iter().for_each(|forward| forward.write(w));
        w.element("script").optional("path", self.script.as_ref()).empty_if_any();
        w.element("downscript").optional("path", self.downscript.as_ref()).empty_if_any();
        self.target.write("target", w);
    }

    fn write_device(&self, w: &mut Writer) {
        w.element("model").optional("type", self.model.as_ref()).empty_if_any();
        self.driver.write(w);
        self.backend.write("backend", w);
        if let Some(filter) = &self.filter {
            filter.write(w);
        }
        if let Some(bytes) = self.send_buffer {
            w.element("tune").children(|w| w.element("sndbuf").text(bytes));
        }
        let state = self.link_up.map(|up| if up { LinkState::Up } else { LinkState::Down });
        w.element("link").optional("state", state).empty_if_any();
        w.element("mtu").optional("size", self.mtu).empty_if_any();
        if let Some(frames) = self.coalesced_frames {
            w.element("coalesce").children(|w| {
                w.element("rx").children(|w| {
                    w.element("frames").attribute("max", frames).empty();
                });
            });
        }
        if let Some(teaming) = &self.teaming {
            teaming.write(w);
        }
    }
}

fn is_virtio(model: &str) -> bool {
    matches!(model, "virtio" | "virtio-transitional" | "virtio-non-transitional")
}

fn read_model(reader: &Reader<'_>) -> Option<String> {
    let word = reader.required("type", "virtio")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if word.is_empty() || !word.chars().all(plain) {
        let what = format!("'{word}' is no model; use one such as virtio");
        reader.refuse_attribute("type", what);
        return None;
    }
    let known = MODELS.iter().find(|known| known.eq_ignore_ascii_case(word));
    Some(known.map_or_else(|| word.to_owned(), |known| (*known).to_owned()))
}

/// The driver of a virtio model; other models have no such options.
fn read_driver(reader: &Reader<'_>, kind: InterfaceType, model: Option<&str>) -> InterfaceDriver {
    // The driver of a device of the host is another one.
    if kind == InterfaceType::Hostdev {
        return InterfaceDriver::default();
    }
    let Some(reader) = reader.child("driver") else { return InterfaceDriver::default() };
    let driver = InterfaceDriver::parse(&reader);
    if has_virtio_options(kind, model) {
        return driver;
    }
    if driver.virtio != VirtioOptions::default() {
        reader.refuse("'iommu', 'ats', 'packed' and 'page_per_vq' are for <model type='virtio'/>; remove them");
    } else if driver != InterfaceDriver::default() {
        reader.ignore("only <model type='virtio'/> has these options; remove them");
    }
    InterfaceDriver::default()
}

fn read_backend(reader: &Reader<'_>, model: Option<&str>) -> InterfaceBackend {
    let backend = reader.child("backend").map(|backend| InterfaceBackend::parse(&backend));
    let mut backend = backend.unwrap_or_default();
    if backend.vhost.is_some() && !model.is_some_and(is_virtio) {
        let place = reader.place().child("backend");
        let what = "attribute 'vhost' is of <model type='virtio'/> and is ignored; remove it";
        reader.faults().push(place.ignored(what));
        backend.vhost = None;
    }
    backend.kind = backend.kind.filter(|kind| *kind != BackendType::Default);
    backend
}

/// Whether the device is one of virtio; for some types it is when nothing is written.
fn has_virtio_options(kind: InterfaceType, model: Option<&str>) -> bool {
    match model {
        Some(model) => is_virtio(model),
        None => matches!(kind, InterfaceType::Vdpa | InterfaceType::VhostUser),
    }
}

fn read_target(reader: &Reader<'_>) -> InterfaceTarget {
    let mut target = InterfaceTarget::parse(reader);
    let generated = |dev: &String| GENERATED_TARGETS.iter().any(|prefix| dev.starts_with(prefix));
    if target.managed != Some(false) {
        target.dev = target.dev.filter(|dev| !generated(dev));
    }
    target
}

fn path_of(reader: &Reader<'_>, name: &str) -> Option<String> {
    reader.child(name)?.required("path", "/etc/qemu-ifup").map(str::to_owned)
}

/// The child of the child, and so on.
fn nested<'d>(reader: &Reader<'d>, names: &[&str]) -> Option<Reader<'d>> {
    let (first, rest) = names.split_first()?;
    let mut found = reader.child(first)?;
    for name in rest {
        let next = found.child(name)?;
        found = next;
    }
    Some(found)
}
