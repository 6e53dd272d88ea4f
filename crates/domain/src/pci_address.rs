//! Addresses of PCI devices, in the guest and on the host.

use std::fmt;

use crate::reader::Reader;
use crate::writer::OpenElement;

/// Domain, bus, slot and function of a PCI device.
///
/// The address 0000:00:00.0 stands for "not assigned": it is the host bridge's, which no device can have.
///
/// ```
/// use domain::PciAddress;
/// let address = PciAddress::new(0, 1, 0x1f, 2).unwrap();
/// assert_eq!(address.to_string(), "0000:01:1f.2");
/// assert!(PciAddress::new(0, 0, 32, 0).is_none());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    slot: u8,
    function: u8,
}

impl PciAddress {
    /// The address, if its slot is below 32 and its function below 8.
    #[must_use]
    pub fn new(domain: u32, bus: u8, slot: u8, function: u8) -> Option<Self> {
        (slot < 32 && function < 8).then_some(Self { domain, bus, slot, function })
    }

    /// The segment.
    #[must_use]
    pub fn domain(self) -> u32 {
        self.domain
    }

    /// The bus; in a guest the index of the PCI controller.
    #[must_use]
    pub fn bus(self) -> u8 {
        self.bus
    }

    /// The slot, 0 to 31.
    #[must_use]
    pub fn slot(self) -> u8 {
        self.slot
    }

    /// The function, 0 to 7.
    #[must_use]
    pub fn function(self) -> u8 {
        self.function
    }

    /// Whether this is the address that stands for none.
    #[must_use]
    pub fn is_unassigned(self) -> bool {
        self == Self::default()
    }

    /// Reads `domain`, `bus`, `slot` and `function`; what is missing is 0.
    #[must_use]
    pub fn parse(reader: &Reader<'_>) -> Option<Self> {
        let faults = (reader.attribute("slot"), reader.attribute("function"));
        let domain = reader.number("domain").unwrap_or_default();
        let bus = reader.number("bus").unwrap_or_default();
        let slot = reader.number("slot").unwrap_or_default();
        let function = reader.number("function").unwrap_or_default();
        let address = Self::new(domain, bus, slot, function);
        if address.is_none() {
            let (slot, function) = faults;
            reader.refuse(format!(
                "slot {} function {} is no PCI address; slots are 0x00 to 0x1f, functions 0x0 to 0x7",
                slot.unwrap_or("0"),
                function.unwrap_or("0"),
            ));
        }
        address
    }

    /// Adds the four attributes.
    pub fn write_attributes(self, element: OpenElement<'_>) -> OpenElement<'_> {
        element
            .attribute("domain", format!("0x{:04x}", self.domain))
            .attribute("bus", format!("0x{:02x}", self.bus))
            .attribute("slot", format!("0x{:02x}", self.slot))
            .attribute("function", format!("0x{:x}", self.function))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.slot, self.function)
    }
}
