//! Encrypted guests, `<launchSecurity>`.

crate::placeholder::unsupported_element! {
    /// How the memory of the guest is protected from the host.
    LaunchSecurity
}
