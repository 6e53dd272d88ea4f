//! Enlightenments for Windows guests, `<features><hyperv>`.

crate::placeholder::unsupported_element! {
    /// Hyper-V features shown to the guest.
    Hyperv
}
