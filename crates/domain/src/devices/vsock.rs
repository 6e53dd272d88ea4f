//! Sockets between guest and host, `<vsock>`.

crate::placeholder::unsupported_device! {
    /// A device for sockets between guest and host.
    Vsock
}
