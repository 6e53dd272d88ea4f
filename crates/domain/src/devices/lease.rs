//! Locks of a lock manager, `<lease>`.

crate::placeholder::unsupported_device! {
    /// A lock that the guest holds while it runs.
    Lease
}
