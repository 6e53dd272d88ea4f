//! The guest's IOMMU, `<iommu>`.

crate::placeholder::unsupported_device! {
    /// The unit that translates addresses of devices.
    Iommu
}
