//! The resource partition of the guest, `<resource>`.

crate::placeholder::unsupported_element! {
    /// Where the guest stands among control groups.
    Resource
}
