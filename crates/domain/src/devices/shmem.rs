//! Memory shared between guests, `<shmem>`.

crate::placeholder::unsupported_device! {
    /// Memory shared between guests.
    Shmem
}
