//! Limits of the guest's memory on the host, `<memtune>`.

crate::placeholder::unsupported_element! {
    /// Limits of memory.
    MemoryTuning
}
