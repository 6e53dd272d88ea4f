//! Devices by which a guest tells that it crashed, `<panic>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::{Address, DeviceInfo};

crate::keywords! {
    /// Models of panic devices.
    pub enum PanicModel {
        /// What suits the machine.
        Default = "default",
        /// pvpanic on ISA.
        Isa = "isa",
        /// POWER's firmware.
        Pseries = "pseries",
        /// Hyper-V's crash registers, a feature of the CPU.
        Hyperv = "hyperv",
        /// s390's core.
        S390 = "s390",
        /// pvpanic on PCI.
        Pvpanic = "pvpanic",
    }
}

/// A panic device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// Where the element stands.
    pub place: Place,
    /// The model.
    pub model: Option<PanicModel>,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Panic {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let info = DeviceInfo::parse(reader);
        let model: Option<PanicModel> = reader.keyword("model");
        let model = model.filter(|model| *model != PanicModel::Default);
        match model {
            Some(PanicModel::Pseries | PanicModel::S390) => {
                reader.refuse_attribute("model", "no supported guest has it; use isa");
            }
            Some(PanicModel::Hyperv) if info.address.is_some() => {
                reader.refuse("a Hyper-V panic device has no place; remove <address>");
            }
            Some(PanicModel::Isa) | None
                if !matches!(info.address, None | Some(Address::Isa(_))) =>
            {
                reader.refuse("an ISA panic device stands on ISA; give <address type='isa'/>");
            }
            Some(PanicModel::Pvpanic) if !matches!(info.address, None | Some(Address::Pci(_))) => {
                reader.refuse("this panic device stands on PCI; give <address type='pci'/>");
            }
            Some(
                PanicModel::Default | PanicModel::Isa | PanicModel::Hyperv | PanicModel::Pvpanic,
            )
            | None => {}
        }
        Some(Self { place: reader.place(), model, info })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("panic").optional("model", self.model).children(|w| self.info.write(w));
    }
}
