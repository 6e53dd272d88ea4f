//! Directories of the host in the guest, `<filesystem>`.

crate::placeholder::unsupported_device! {
    /// A directory of the host in the guest.
    Filesystem
}
