//! Where a crashing guest leaves its last words, `<pstore>`.

crate::placeholder::unsupported_device! {
    /// Storage that survives a crash of the guest.
    Pstore
}
