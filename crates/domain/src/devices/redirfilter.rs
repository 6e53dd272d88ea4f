//! Which USB devices a client may redirect, `<redirfilter>`.

crate::placeholder::unsupported_device! {
    /// Rules for redirected devices.
    Redirfilter
}
