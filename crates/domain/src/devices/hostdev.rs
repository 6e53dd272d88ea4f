//! Devices of the host in the guest, `<hostdev>`.

crate::placeholder::unsupported_device! {
    /// A device of the host that the guest has to itself.
    Hostdev
}
