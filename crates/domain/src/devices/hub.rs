//! USB hubs, `<hub>`.

crate::placeholder::unsupported_device! {
    /// A USB hub.
    Hub
}
