//! The guest's IOMMU, `<iommu>`.

use domain::devices::{Iommu, IommuDriver, IommuModel};
use domain::{Domain, Faults, IoApicDriver, Place};

use crate::board::Board;
use crate::command::Command;
use crate::devices::placed;
use crate::json::Object;

/// The most CPUs that interrupts reach without help.
const MOST_CPUS: u32 = 255;

/// Adds the IOMMU without which interrupts do not reach all of many CPUs.
pub(crate) fn add_implicit(domain: &mut Domain) {
    let many = domain.vcpus.maximum > MOST_CPUS;
    if !many || Board::of_domain(domain) != Board::Q35 || !domain.devices.iommus.is_empty() {
        return;
    }
    let driver = IommuDriver {
        interrupt_remapping: Some(true),
        extended_interrupts: Some(true),
        ..IommuDriver::default()
    };
    domain.features.ioapic.get_or_insert(IoApicDriver::Qemu);
    let (place, info) = (Place::default(), domain::devices::DeviceInfo::default());
    domain.devices.iommus.push(Iommu { place, model: IommuModel::Intel, driver, info });
}

/// Refuses IOMMUs that cannot be.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let board = Board::of_domain(domain);
    for (index, iommu) in domain.devices.iommus.iter().enumerate() {
        let driver = &iommu.driver;
        let model = iommu.model;
        let split = domain.features.ioapic == Some(IoApicDriver::Qemu);
        let remaps = driver.interrupt_remapping == Some(true);
        let virtio = model == IommuModel::Virtio;
        let on_pci = iommu.info.address.is_none() || iommu.info.pci().is_some();
        let used = driver != &IommuDriver::default();
        let faults_found = [
            (index > 0, "a guest has one IOMMU; remove this one"),
            (!fits(model, board), "the machine has no such IOMMU; use a q35 machine or remove it"),
            (
                virtio && !domain.features.acpi,
                "the guest finds it by ACPI; add <acpi/> to <features>",
            ),
            (virtio && !on_pci, "it stands on PCI; remove its address"),
            (!virtio && iommu.info.address.is_some(), "it has no address; remove it"),
            (virtio && used, "it has no such options; remove <driver>"),
            (
                remaps && model == IommuModel::Intel && !split,
                "'intremap' needs a split APIC; add <ioapic driver='qemu'/> to <features>",
            ),
            (
                driver.extended_interrupts == Some(true) && !remaps,
                "'eim' needs interrupt remapping; add intremap='on'",
            ),
        ];
        for (wrong, what) in faults_found {
            if wrong {
                faults.push(iommu.place.refused(format!("model '{model}': {what}")));
            }
        }
    }
}

/// Whether a board has room for the model.
fn fits(model: IommuModel, board: Board) -> bool {
    match model {
        IommuModel::Intel | IommuModel::Amd => board == Board::Q35,
        IommuModel::Virtio => matches!(board, Board::Q35 | Board::ArmVirt),
        IommuModel::SmmuV3 => board == Board::ArmVirt,
    }
}

/// The IOMMU that is a part of the machine, for `-machine`.
pub(crate) fn of_machine(domain: &Domain) -> Option<&'static str> {
    let mut models = domain.devices.iommus.iter().map(|iommu| iommu.model);
    models.find(|model| *model == IommuModel::SmmuV3).map(IommuModel::as_str)
}

/// Adds the IOMMU.
pub(crate) fn arguments(command: &mut Command<'_>, iommu: &Iommu) {
    let driver = &iommu.driver;
    let on_off = |on: bool| if on { "on" } else { "off" };
    let device = match iommu.model {
        IommuModel::Intel => Object::new("driver", "intel-iommu")
            .some("intremap", driver.interrupt_remapping.map(on_off))
            .some("caching-mode", driver.caching_mode)
            .some("eim", driver.extended_interrupts.map(on_off))
            .some("device-iotlb", driver.device_tlb)
            .some("aw-bits", driver.address_bits)
            .some("dma-translation", driver.dma_translation),
        IommuModel::Amd => Object::new("driver", "amd-iommu")
            .some("intremap", driver.interrupt_remapping.map(on_off))
            .some("pt", driver.passthrough)
            .some("xtsup", driver.extended_apic)
            .some("device-iotlb", driver.device_tlb),
        IommuModel::Virtio => Object::new("driver", "virtio-iommu"),
        IommuModel::SmmuV3 => return, // It is a part of the machine.
    };
    command.device(&placed(command, &iommu.info, device));
}
