//! The guest's IOMMU, `<iommu>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::DeviceInfo;

crate::keywords! {
    /// Models of IOMMUs.
    pub enum IommuModel {
        /// Intel's, VT-d.
        Intel = "intel",
        /// AMD's, AMD-Vi.
        Amd = "amd",
        /// ARM's.
        SmmuV3 = "smmuv3",
        /// virtio's.
        Virtio = "virtio",
    }
}

crate::attributes! {
    /// How an IOMMU works.
    pub struct IommuDriver {
        /// Whether interrupts are translated.
        pub interrupt_remapping: bool = on_off "intremap",
        /// Whether the guest tells of every change, which devices of the host need.
        pub caching_mode: bool = on_off "caching_mode",
        /// Whether interrupts reach more than 255 CPUs.
        pub extended_interrupts: bool = on_off "eim",
        /// Whether devices cache translations.
        pub device_tlb: bool = on_off "iotlb",
        /// How many bits addresses have.
        pub address_bits: u32 = number "aw_bits",
        /// Whether accesses to memory are translated.
        pub dma_translation: bool = on_off "dma_translation",
        /// Whether devices may be left out of translation.
        pub passthrough: bool = on_off "passthrough",
        /// Whether interrupts reach more than 255 CPUs, with AMD's.
        pub extended_apic: bool = on_off "xtsup",
    }
}

/// The unit that translates addresses of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iommu {
    /// Where the element stands.
    pub place: Place,
    /// Its model.
    pub model: IommuModel,
    /// How it works.
    pub driver: IommuDriver,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Iommu {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let driver = reader.child("driver");
        if let Some(driver) = &driver {
            driver.refuse_attributes(&["pciBus", "accel", "cmdqv", "ats", "ril", "pasid", "oas"]);
        }
        let info = DeviceInfo::parse(reader);
        let _ = reader.required("model", "intel")?; // The keyword itself is read next.
        Some(Self {
            place: reader.place(),
            model: reader.keyword("model")?,
            driver: driver.map(|driver| IommuDriver::parse(&driver)).unwrap_or_default(),
            info,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("iommu").attribute("model", self.model).children(|w| {
            self.driver.write("driver", w);
            self.info.write(w);
        });
    }
}
