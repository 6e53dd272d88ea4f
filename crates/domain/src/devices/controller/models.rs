//! The models of controllers.

crate::keywords! {
    /// Models of IDE controllers.
    pub enum IdeModel {
        /// Intel PIIX3.
        Piix3 = "piix3",
        /// Intel PIIX4.
        Piix4 = "piix4",
        /// Intel ICH6.
        Ich6 = "ich6",
    }
}

crate::keywords! {
    /// Models of SCSI controllers.
    pub enum ScsiModel {
        /// What suits the machine.
        Auto = "auto",
        /// BusLogic.
        Buslogic = "buslogic",
        /// LSI 53C895A.
        Lsilogic = "lsilogic",
        /// LSI SAS 1068.
        Lsisas1068 = "lsisas1068",
        /// LSI SAS 1078.
        Lsisas1078 = "lsisas1078",
        /// virtio.
        VirtioScsi = "virtio-scsi",
        /// VMware's.
        Vmpvscsi = "vmpvscsi",
        /// IBM's, of POWER.
        Ibmvscsi = "ibmvscsi",
        /// virtio without its old interface.
        VirtioNonTransitional = "virtio-non-transitional",
        /// virtio with its old interface.
        VirtioTransitional = "virtio-transitional",
        /// NCR 53C90.
        Ncr53c90 = "ncr53c90",
        /// AMD 53C974.
        Dc390 = "dc390",
        /// AMD 53C974 with its ROM.
        Am53c974 = "am53c974",
    }
}

crate::keywords! {
    /// Interfaces of a virtio device.
    pub enum VirtioModel {
        /// What suits the bus.
        Virtio = "virtio",
        /// With the old interface.
        Transitional = "virtio-transitional",
        /// Without it.
        NonTransitional = "virtio-non-transitional",
    }
}

crate::keywords! {
    /// Models of USB controllers.
    pub enum UsbModel {
        /// Intel PIIX3, USB 1.
        Piix3Uhci = "piix3-uhci",
        /// Intel PIIX4, USB 1.
        Piix4Uhci = "piix4-uhci",
        /// USB 2.
        Ehci = "ehci",
        /// Intel ICH9, USB 2.
        Ich9Ehci1 = "ich9-ehci1",
        /// Its first companion for USB 1.
        Ich9Uhci1 = "ich9-uhci1",
        /// Its second companion.
        Ich9Uhci2 = "ich9-uhci2",
        /// Its third companion.
        Ich9Uhci3 = "ich9-uhci3",
        /// VIA, USB 1.
        Vt82c686bUhci = "vt82c686b-uhci",
        /// USB 1 of non-Intel machines.
        PciOhci = "pci-ohci",
        /// NEC, USB 3.
        NecXhci = "nec-xhci",
        /// Xen's, USB 1.
        Qusb1 = "qusb1",
        /// Xen's, USB 2.
        Qusb2 = "qusb2",
        /// QEMU's own, USB 3.
        QemuXhci = "qemu-xhci",
        /// No USB.
        None = "none",
    }
}

crate::keywords! {
    /// Models of PCI controllers.
    pub enum PciModel {
        /// The conventional bus of a machine.
        PciRoot = "pci-root",
        /// The Express bus of a machine.
        PcieRoot = "pcie-root",
        /// A bridge to a conventional bus.
        PciBridge = "pci-bridge",
        /// A bridge from Express to a conventional bus, Intel's.
        DmiToPciBridge = "dmi-to-pci-bridge",
        /// A bridge from Express to a conventional bus.
        PcieToPciBridge = "pcie-to-pci-bridge",
        /// A port of the Express bus.
        PcieRootPort = "pcie-root-port",
        /// The near side of a switch.
        PcieSwitchUpstreamPort = "pcie-switch-upstream-port",
        /// A far side of a switch.
        PcieSwitchDownstreamPort = "pcie-switch-downstream-port",
        /// Another conventional root.
        PciExpanderBus = "pci-expander-bus",
        /// Another Express root.
        PcieExpanderBus = "pcie-expander-bus",
    }
}

crate::keywords! {
    /// Devices that play a PCI controller's model.
    pub enum PciModelName {
        /// A bridge.
        PciBridge = "pci-bridge",
        /// Intel's bridge.
        I82801b11Bridge = "i82801b11-bridge",
        /// Intel's root port.
        Ioh3420 = "ioh3420",
        /// The near side of a switch.
        X3130Upstream = "x3130-upstream",
        /// A far side of a switch.
        Xio3130Downstream = "xio3130-downstream",
        /// A conventional root.
        Pxb = "pxb",
        /// An Express root.
        PxbPcie = "pxb-pcie",
        /// QEMU's own root port.
        PcieRootPort = "pcie-root-port",
        /// QEMU's own bridge from Express.
        PciePciBridge = "pcie-pci-bridge",
    }
}
