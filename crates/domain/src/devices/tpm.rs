//! Trusted platform modules, `<tpm>`.

crate::placeholder::unsupported_device! {
    /// A trusted platform module.
    Tpm
}
