//! Memory that can be plugged, `<memory>` below `<devices>`.

crate::placeholder::unsupported_device! {
    /// Memory as a device.
    MemoryDevice
}
