//! Smart cards, `<smartcard>`.

crate::placeholder::unsupported_device! {
    /// A smart card.
    Smartcard
}
