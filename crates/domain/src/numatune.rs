//! On which host nodes the guest's memory lies, `<numatune>`.

crate::placeholder::unsupported_element! {
    /// Placement of memory on NUMA nodes of the host.
    NumaTuning
}
