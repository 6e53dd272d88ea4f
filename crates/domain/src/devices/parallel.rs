//! Parallel ports, `<parallel>`.

crate::placeholder::unsupported_device! {
    /// A parallel port.
    Parallel
}
