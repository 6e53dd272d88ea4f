//! What all virtio devices share.

crate::attributes! {
    /// Attributes of `<driver>` that all virtio devices have.
    pub struct VirtioOptions {
        /// Whether the device's accesses go through the guest's IOMMU.
        pub iommu: bool = on_off "iommu",
        /// Whether the device caches the IOMMU's translations.
        pub ats: bool = on_off "ats",
        /// Whether queues have the packed form.
        pub packed: bool = on_off "packed",
        /// Whether each queue has its own page of notifications.
        pub page_per_vq: bool = on_off "page_per_vq",
    }
}
