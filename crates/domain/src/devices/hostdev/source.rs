//! Which device of the host it is.

use crate::names::DomainUuid;
use crate::pci_address::PciAddress;
use crate::reader::Reader;
use crate::writer::{OpenElement, Writer};

use super::super::{Auth, VirtioModel};
use super::HostdevType;

crate::keywords! {
    /// Drivers of the host that pass PCI devices on.
    pub enum HostDriverName {
        /// VFIO.
        Vfio = "vfio",
        /// The one that KVM had; it is gone.
        Kvm = "kvm",
        /// Xen's.
        Xen = "xen",
    }
}

crate::attributes! {
    /// The host's driver for a PCI device.
    pub struct HostDriver {
        /// Its kind.
        pub name: HostDriverName = keyword "name",
        /// The kernel's module, a variant of vfio-pci.
        pub model: String = string "model",
    }
}

crate::keywords! {
    /// What becomes of a guest whose device is not there.
    pub enum HostdevPolicy {
        /// It does not start.
        Mandatory = "mandatory",
        /// It does not start, but may lose the device on its way to another host.
        Requisite = "requisite",
        /// It starts without.
        Optional = "optional",
    }
}

crate::keywords! {
    /// Which resets by the guest reach a USB device.
    pub enum GuestReset {
        /// None.
        Off = "off",
        /// Those before the device is set up.
        Uninitialized = "uninitialized",
        /// All.
        On = "on",
    }
}

crate::keywords! {
    /// How a mediated device is shown.
    pub enum MediatedModel {
        /// As a PCI device.
        VfioPci = "vfio-pci",
        /// As a channel device of s390.
        VfioCcw = "vfio-ccw",
        /// As a crypto adapter of s390.
        VfioAp = "vfio-ap",
    }
}

/// A PCI function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PciSource {
    /// The host's driver for it.
    pub driver: HostDriver,
    /// Whether a guest writes to the device's configuration only what is known to be harmless.
    pub write_filtering: Option<bool>,
    /// Its address on the host.
    pub address: PciAddress,
}

/// A USB device, by where it is or by what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsbSource {
    /// What becomes of the guest without it.
    pub policy: Option<HostdevPolicy>,
    /// Which resets reach it.
    pub guest_reset: Option<GuestReset>,
    /// The vendor's number.
    pub vendor: Option<u16>,
    /// The vendor's number of the product.
    pub product: Option<u16>,
    /// The number of its bus.
    pub bus: Option<u32>,
    /// Its number on the bus.
    pub device: Option<u32>,
}

/// A SCSI device of the host; displays as `scsi_host0:0:0:0`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScsiAdapter {
    /// The adapter, such as `scsi_host0`.
    pub adapter: String,
    /// The adapter's bus.
    pub bus: u32,
    /// The bus's target.
    pub target: u32,
    /// The target's unit.
    pub unit: u64,
}

/// A SCSI device behind iSCSI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScsiIscsi {
    /// The target's name with the unit behind a slash.
    pub name: String,
    /// The portal's host.
    pub host: String,
    /// The portal's port.
    pub port: Option<u16>,
    /// The name by which QEMU calls itself.
    pub initiator: Option<String>,
    /// Who the guest is to the server.
    pub auth: Option<Auth>,
}

/// A SCSI device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScsiSource {
    /// One of the host.
    Host(ScsiAdapter),
    /// One behind iSCSI.
    Iscsi(ScsiIscsi),
}

/// A target of vhost-scsi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiHost {
    /// Its virtio interface.
    pub model: Option<VirtioModel>,
    /// Its name, `naa.` and a number.
    pub wwpn: String,
}

/// A mediated device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediatedDevice {
    /// How it is shown.
    pub model: MediatedModel,
    /// Whether it has a display.
    pub display: Option<bool>,
    /// Whether firmware has a display on it.
    pub ramfb: Option<bool>,
    /// Its name.
    pub uuid: DomainUuid,
}

/// Which device of the host it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostdevSource {
    /// A PCI function.
    Pci(PciSource),
    /// A USB device.
    Usb(UsbSource),
    /// A SCSI device.
    Scsi(ScsiSource),
    /// A target of vhost-scsi.
    ScsiHost(ScsiHost),
    /// A mediated device.
    Mdev(MediatedDevice),
}

impl HostdevSource {
    pub(super) fn parse(reader: &Reader<'_>, kind: HostdevType) -> Option<Self> {
        let Some(source) = reader.child("source") else {
            reader.refuse("<source> is missing; add it with the device's address on the host");
            return None;
        };
        match kind {
            HostdevType::Pci => PciSource::parse(reader, &source).map(Self::Pci),
            HostdevType::Usb => UsbSource::parse(&source).map(Self::Usb),
            HostdevType::Scsi => ScsiSource::parse(&source).map(Self::Scsi),
            HostdevType::ScsiHost => ScsiHost::parse(reader, &source).map(Self::ScsiHost),
            HostdevType::Mdev => MediatedDevice::parse(reader, &source).map(Self::Mdev),
        }
    }

    /// The value of the device's attribute `type`.
    #[must_use]
    pub fn kind(&self) -> HostdevType {
        match self {
            Self::Pci(_) => HostdevType::Pci,
            Self::Usb(_) => HostdevType::Usb,
            Self::Scsi(_) => HostdevType::Scsi,
            Self::ScsiHost(_) => HostdevType::ScsiHost,
            Self::Mdev(_) => HostdevType::Mdev,
        }
    }

    pub(super) fn write_attributes<'w>(&self, element: OpenElement<'w>) -> OpenElement<'w> {
        match self {
            Self::Pci(_) | Self::Usb(_) | Self::Scsi(_) => element,
            Self::ScsiHost(host) => element.optional("model", host.model),
            Self::Mdev(mdev) => element
                .attribute("model", mdev.model)
                .on_off("display", mdev.display)
                .on_off("ramfb", mdev.ramfb),
        }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        match self {
            Self::Pci(pci) => pci.write(w),
            Self::Usb(usb) => usb.write(w),
            Self::Scsi(scsi) => scsi.write(w),
            Self::ScsiHost(host) => {
                let source = w.element("source").attribute("protocol", "vhost");
                source.attribute("wwpn", &host.wwpn).empty();
            }
            Self::Mdev(mdev) => w.element("source").children(|w| {
                w.element("address").attribute("uuid", mdev.uuid).empty();
            }),
        }
    }
}

/// The child `<address>` of a source, which must be there.
fn address<'d>(source: &Reader<'d>, example: &str) -> Option<Reader<'d>> {
    let address = source.child("address");
    if address.is_none() {
        source.refuse(format!("<address> is missing; add one such as {example}"));
    }
    address
}

impl PciSource {
    fn parse(reader: &Reader<'_>, source: &Reader<'_>) -> Option<Self> {
        let driver = reader.child("driver").map(|driver| HostDriver::parse(&driver));
        let write_filtering = source.yes_no("writeFiltering");
        let address = address(source, "<address bus='0x06' slot='0x12' function='0x5'/>")?;
        if address.attribute("type").is_some_and(|kind| kind != "pci") {
            address.refuse_attribute("type", "the device is one of PCI; remove it");
        }
        let place = PciAddress::parse(&address)?;
        Some(Self { driver: driver.unwrap_or_default(), write_filtering, address: place })
    }

    fn write(&self, w: &mut Writer) {
        self.driver.write("driver", w);
        w.element("source").yes_no("writeFiltering", self.write_filtering).children(|w| {
            self.address.write_attributes(w.element("address")).empty();
        });
    }
}

impl UsbSource {
    fn parse(source: &Reader<'_>) -> Option<Self> {
        let id = |name: &str| {
            let child = source.child(name)?;
            let _ = child.required("id", "0x1234")?; // The number itself is read next.
            child.number("id")
        };
        let (vendor, product) = (id("vendor"), id("product"));
        if vendor.is_some() != product.is_some() {
            source.refuse("<vendor> and <product> go together; add the other");
        }
        let address = source.child("address");
        if let Some(address) = &address {
            address.refuse_attributes(&["port"]);
            let _ = (address.required("bus", "1"), address.required("device", "4"));
        } else if vendor.is_none() {
            source.refuse(
                "the device is not named; add <vendor id='0x...'/> and <product id='0x...'/>",
            );
            return None;
        }
        let number = |name: &str| address.as_ref().and_then(|address| address.number(name));
        Some(Self {
            policy: source.keyword("startupPolicy"),
            guest_reset: source.keyword("guestReset"),
            vendor,
            product,
            bus: number("bus"),
            device: number("device"),
        })
    }

    fn write(&self, w: &mut Writer) {
        let policy = self.policy.filter(|policy| *policy != HostdevPolicy::Mandatory);
        let source = w.element("source").optional("startupPolicy", policy);
        source.optional("guestReset", self.guest_reset).children(|w| {
            for (name, id) in [("vendor", self.vendor), ("product", self.product)] {
                let id = id.map(|id| format!("0x{id:04x}"));
                w.element(name).optional("id", id).empty_if_any();
            }
            let address = w.element("address").optional("bus", self.bus);
            address.optional("device", self.device).empty_if_any();
        });
    }
}

impl ScsiSource {
    fn parse(source: &Reader<'_>) -> Option<Self> {
        match source.attribute("protocol") {
            None | Some("adapter") => ScsiAdapter::parse(source).map(Self::Host),
            Some("iscsi") => ScsiIscsi::parse(source).map(Self::Iscsi),
            Some(other) => {
                let _ = source.raw(); // The source is refused whole.
                let what = format!("'{other}' is not known; use adapter or iscsi");
                source.refuse_attribute("protocol", what);
                None
            }
        }
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::Host(host) => w.element("source").children(|w| {
                w.element("adapter").attribute("name", &host.adapter).empty();
                w.element("address")
                    .attribute("bus", host.bus)
                    .attribute("target", host.target)
                    .attribute("unit", host.unit)
                    .empty();
            }),
            Self::Iscsi(iscsi) => w
                .element("source")
                .attribute("protocol", "iscsi")
                .attribute("name", &iscsi.name)
                .children(|w| {
                    let host = w.element("host").attribute("name", &iscsi.host);
                    host.optional("port", iscsi.port).empty();
                    if let Some(auth) = &iscsi.auth {
                        auth.write(w);
                    }
                    if let Some(name) = &iscsi.initiator {
                        w.element("initiator").children(|w| {
                            w.element("iqn").attribute("name", name).empty();
                        });
                    }
                }),
        }
    }
}

impl ScsiAdapter {
    fn parse(source: &Reader<'_>) -> Option<Self> {
        let Some(adapter) = source.child("adapter") else {
            source.refuse("<adapter> is missing; add one such as <adapter name='scsi_host0'/>");
            return None;
        };
        let address = address(source, "<address bus='0' target='0' unit='0'/>")?;
        for name in ["bus", "target", "unit"] {
            let _ = address.required(name, "0")?; // The number itself is read next.
        }
        Some(Self {
            adapter: adapter.required("name", "scsi_host0")?.to_owned(),
            bus: address.number("bus")?,
            target: address.number("target")?,
            unit: address.number("unit")?,
        })
    }
}

impl std::fmt::Display for ScsiAdapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}:{}", self.adapter, self.bus, self.target, self.unit)
    }
}

impl ScsiIscsi {
    fn parse(source: &Reader<'_>) -> Option<Self> {
        let auth = source.child("auth").and_then(|auth| Auth::parse(&auth));
        let initiator = source.child("initiator").and_then(|initiator| initiator.child("iqn"));
        let name = source.required("name", "iqn.2014-01.org.example:target/0");
        let Some(host) = source.child("host") else {
            source.refuse("<host> is missing; add one such as <host name='storage.example.org'/>");
            return None;
        };
        Some(Self {
            name: name?.to_owned(),
            host: host.required("name", "storage.example.org")?.to_owned(),
            port: host.number("port"),
            initiator: initiator.and_then(|iqn| iqn.string("name")),
            auth,
        })
    }
}

impl ScsiHost {
    fn parse(reader: &Reader<'_>, source: &Reader<'_>) -> Option<Self> {
        let model = reader.keyword("model");
        if source.required("protocol", "vhost")? != "vhost" {
            source.refuse_attribute("protocol", "is not known; use vhost");
        }
        let wwpn = source.required("wwpn", "naa.5123456789abcde0")?;
        if !wwpn.strip_prefix("naa.").is_some_and(is_wwn) {
            let what =
                format!("'{wwpn}' is no name of a target; write naa. and 16 hexadecimal digits");
            source.refuse_attribute("wwpn", what);
        }
        Some(Self { model, wwpn: wwpn.to_owned() })
    }
}

fn is_wwn(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl MediatedDevice {
    fn parse(reader: &Reader<'_>, source: &Reader<'_>) -> Option<Self> {
        let (display, ramfb) = (reader.on_off("display"), reader.on_off("ramfb"));
        let _ = reader.required("model", "vfio-pci")?; // The keyword itself is read next.
        let model = reader.keyword("model")?;
        let address = address(source, "<address uuid='...'/>")?;
        let _ = address.required("uuid", "53764d0e-85a0-42b4-af5c-2046b460b1dc")?;
        Some(Self { model, display, ramfb, uuid: address.value("uuid")? })
    }
}
