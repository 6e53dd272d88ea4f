//! The guest's NUMA nodes, `<cpu><numa>`.

crate::placeholder::unsupported_element! {
    /// The NUMA nodes of the guest.
    Numa
}
