//! Devices by which a guest tells that it crashed, `<panic>`.

crate::placeholder::unsupported_device! {
    /// A device by which a guest tells that it crashed.
    Panic
}
