//! What the guest boots, `<os>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

mod firmware;

pub use firmware::{
    FirmwareFeature, FirmwareFeatureName, FirmwareKind, Loader, LoaderFormat, LoaderType, Nvram,
};

crate::keywords! {
    /// A kind of device that firmware tries to boot from.
    pub enum BootDevice {
        /// Floppy drives.
        Floppy = "fd",
        /// Hard disks.
        HardDisk = "hd",
        /// CD-ROM drives.
        Cdrom = "cdrom",
        /// Network cards.
        Network = "network",
    }
}

crate::keywords! {
    /// What kind of operating system runs.
    pub enum OsType {
        /// Unmodified, on emulated hardware.
        Hvm = "hvm",
    }
}

crate::keywords! {
    /// Where SMBIOS tables come from.
    pub enum SmbiosMode {
        /// QEMU's own.
        Emulate = "emulate",
        /// A copy of the host's.
        Host = "host",
        /// The domain's `<sysinfo>`.
        Sysinfo = "sysinfo",
    }
}

crate::keywords! {
    /// What an ACPI table in a file is.
    pub enum AcpiTableType {
        /// A table with its header.
        Raw = "raw",
        /// Tables with their headers, one behind the other.
        RawSet = "rawset",
        /// A licence of Windows.
        Slic = "slic",
        /// A key of Windows.
        Msdm = "msdm",
    }
}

/// An ACPI table that the guest gets from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcpiTable {
    /// Where the element stands.
    pub place: Place,
    /// What it is.
    pub kind: AcpiTableType,
    /// The file.
    pub path: String,
}

crate::attributes! {
    /// The firmware's boot menu.
    pub struct BootMenu {
        /// Whether it is shown.
        pub enable: bool = yes_no "enable",
        /// How long, in milliseconds.
        pub timeout: u16 = number "timeout",
    }
}

crate::attributes! {
    /// Settings of SeaBIOS.
    pub struct Bios {
        /// Whether it writes to the serial port.
        pub use_serial: bool = yes_no "useserial",
        /// After how many milliseconds it reboots when nothing boots; -1 is never.
        pub reboot_timeout: i32 = value "rebootTimeout",
    }
}

/// What the guest boots and on which machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Os {
    /// Where the element stands.
    pub place: Place,
    /// Where `<type>` stands, which has architecture and machine type.
    pub type_place: Place,
    /// The firmware to choose automatically.
    pub firmware: Option<FirmwareKind>,
    /// The architecture, such as `x86_64`.
    pub arch: Option<String>,
    /// The machine type, such as `q35`.
    pub machine: Option<String>,
    /// What the chosen firmware must have.
    pub firmware_features: Vec<FirmwareFeature>,
    /// The firmware's code.
    pub loader: Option<Loader>,
    /// The firmware's variables.
    pub nvram: Option<Nvram>,
    /// The file of a kernel to boot directly.
    pub kernel: Option<String>,
    /// The file of its initial RAM disk.
    pub initrd: Option<String>,
    /// Its command line.
    pub cmdline: Option<String>,
    /// The file of a program that UEFI trusts and that starts the kernel.
    pub shim: Option<String>,
    /// The file of the description of the machine that the kernel gets.
    pub dtb: Option<String>,
    /// ACPI tables beside the firmware's own.
    pub acpi_tables: Vec<AcpiTable>,
    /// The kinds of device to boot from, in order.
    pub boot: Vec<BootDevice>,
    /// The boot menu.
    pub boot_menu: BootMenu,
    /// Settings of SeaBIOS.
    pub bios: Bios,
    /// Where SMBIOS tables come from.
    pub smbios: Option<SmbiosMode>,
}

impl Os {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        reader.refuse_children(&["init", "initarg", "bootloader"]);
        let kind = reader.child("type");
        if let Some(kind) = &kind {
            let _ = kind.text_keyword::<OsType>(); // There is one; another word is a fault already.
        } else {
            reader.refuse("<type> is missing; add <type arch='x86_64' machine='q35'>hvm</type>");
        }
        let features = reader.child("firmware");
        let text = |name: &str| reader.child(name).map(|child| child.text().into_owned());
        Self {
            place: reader.place(),
            type_place: kind.as_ref().map_or_else(|| reader.place(), Reader::place),
            firmware: reader.keyword("firmware"),
            arch: kind.as_ref().and_then(|kind| kind.string("arch")),
            machine: kind.as_ref().and_then(|kind| kind.string("machine")),
            firmware_features: features.map(|f| FirmwareFeature::parse_all(&f)).unwrap_or_default(),
            loader: reader.child("loader").map(|loader| Loader::parse(&loader)),
            nvram: reader.child("nvram").map(|nvram| Nvram::parse(&nvram)),
            kernel: text("kernel"),
            initrd: text("initrd"),
            cmdline: text("cmdline"),
            shim: text("shim"),
            dtb: text("dtb"),
            acpi_tables: reader.child("acpi").map(|r| AcpiTable::parse_all(&r)).unwrap_or_default(),
            boot: boot_devices(reader),
            boot_menu: reader.child("bootmenu").map(|r| BootMenu::parse(&r)).unwrap_or_default(),
            bios: reader.child("bios").map(|bios| Bios::parse(&bios)).unwrap_or_default(),
            smbios: reader.child("smbios").and_then(|smbios| smbios.keyword("mode")),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("os").optional("firmware", self.firmware).children(|w| {
            w.element("type")
                .optional("arch", self.arch.as_ref())
                .optional("machine", self.machine.as_ref())
                .text(OsType::Hvm);
            FirmwareFeature::write_all(&self.firmware_features, w);
            if let Some(loader) = &self.loader {
                loader.write(w);
            }
            if let Some(nvram) = &self.nvram {
                nvram.write(w);
            }
            for (name, text) in [
                ("kernel", &self.kernel),
                ("initrd", &self.initrd),
                ("cmdline", &self.cmdline),
                ("dtb", &self.dtb),
                ("shim", &self.shim),
            ] {
                if let Some(text) = text {
                    w.element(name).text(text);
                }
            }
            w.element("acpi").children_if_any(|w| {
                for table in &self.acpi_tables {
                    w.element("table").attribute("type", table.kind).text(&table.path);
                }
            });
            for device in &self.boot {
                w.element("boot").attribute("dev", device).empty();
            }
            self.boot_menu.write("bootmenu", w);
            self.bios.write("bios", w);
            w.element("smbios").optional("mode", self.smbios).empty_if_any();
        });
    }
}

impl AcpiTable {
    fn parse_all(reader: &Reader<'_>) -> Vec<Self> {
        let parse = |table: &Reader<'_>| {
            let _ = table.required("type", "slic"); // The keyword itself is read next.
            let (place, path) = (table.place(), table.text().into_owned());
            if path.is_empty() {
                table.refuse("the path of the file is missing; write it between the tags");
            }
            Some(Self { place, path, kind: table.keyword("type")? })
        };
        let mut tables: Vec<Self> = Vec::new();
        for table in reader.children("table") {
            let Some(parsed) = parse(&table) else { continue };
            if parsed.kind != AcpiTableType::Raw && tables.iter().any(|t| t.kind == parsed.kind) {
                table.refuse(format!(
                    "there is a table of type '{}' above; remove one",
                    parsed.kind
                ));
            }
            tables.push(parsed);
        }
        tables
    }
}

fn boot_devices(reader: &Reader<'_>) -> Vec<BootDevice> {
    let devices = reader.children("boot");
    devices.iter().filter_map(|boot| boot.keyword("dev")).collect()
}
