//! The non-volatile memory of POWER machines, `<nvram>`.

crate::placeholder::unsupported_device! {
    /// Non-volatile memory with an address of its own.
    NvramDevice
}
