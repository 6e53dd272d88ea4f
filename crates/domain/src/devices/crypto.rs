//! Cryptographic accelerators, `<crypto>`.

crate::placeholder::unsupported_device! {
    /// A cryptographic accelerator.
    Crypto
}
