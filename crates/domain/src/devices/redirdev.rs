//! USB devices of a remote client, `<redirdev>`.

crate::placeholder::unsupported_device! {
    /// A USB device of a remote client.
    Redirdev
}
