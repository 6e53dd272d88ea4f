//! What all devices have: alias, boot order, option ROM, ACPI index, address.

use crate::alias::Alias;
use crate::reader::Reader;
use crate::writer::Writer;

use super::address::{Address, PciPlace};

crate::attributes! {
    /// The option ROM of a PCI device.
    pub struct Rom {
        /// Whether the guest sees the ROM's address register.
        pub bar: bool = on_off "bar",
        /// Whether the device has a ROM at all.
        pub enabled: bool = yes_no "enabled",
        /// The file with the ROM.
        pub file: String = string "file",
    }
}

/// What all devices have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The id; after parsing only one that the user chose.
    pub alias: Option<Alias>,
    /// When the firmware tries to boot from it; 1 is first.
    pub boot_order: Option<u32>,
    /// The first port of a USB companion controller.
    pub master_start_port: Option<u32>,
    /// The option ROM.
    pub rom: Option<Rom>,
    /// The index that names the device for firmware and guest.
    pub acpi_index: Option<u32>,
    /// Where the device stands.
    pub address: Option<Address>,
}

impl DeviceInfo {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        let boot = reader.child("boot");
        if let Some(boot) = &boot {
            let _ = boot.required("order", "1"); // The number itself is read below.
            boot.refuse_attributes(&["loadparm"]);
        }
        let alias: Option<Alias> = reader.child("alias").and_then(|alias| alias.value("name"));
        Self {
            // Other aliases are assigned at each start, so one that stands in the file says nothing.
            alias: alias.filter(|alias| reader.of_running() || alias.is_of_user()),
            boot_order: boot.and_then(|boot| boot.number("order")),
            master_start_port: reader.child("master").and_then(|master| master.number("startport")),
            rom: reader.child("rom").map(|rom| Rom::parse(&rom)),
            acpi_index: reader.child("acpi").and_then(|acpi| acpi.number("index")),
            address: reader.child("address").and_then(|address| Address::parse(&address)),
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        if let Some(order) = self.boot_order {
            writer.element("boot").attribute("order", order).empty();
        }
        if let Some(alias) = &self.alias {
            writer.element("alias").attribute("name", alias).empty();
        }
        if let Some(port) = self.master_start_port {
            writer.element("master").attribute("startport", port).empty();
        }
        if let Some(rom) = &self.rom {
            rom.write("rom", writer);
        }
        if let Some(index) = self.acpi_index {
            writer.element("acpi").attribute("index", index).empty();
        }
        if let Some(address) = &self.address {
            address.write(writer);
        }
    }

    /// The address on PCI, if there is one and it is assigned.
    #[must_use]
    pub fn pci(&self) -> Option<PciPlace> {
        match &self.address {
            Some(Address::Pci(place)) if !place.address.is_unassigned() => Some(*place),
            _ => None,
        }
    }

    /// The alias's text; empty before aliases are assigned.
    #[must_use]
    pub fn alias(&self) -> &str {
        self.alias.as_ref().map_or("", Alias::as_str)
    }
}
