//! Features of KVM that the guest sees, `<features><kvm>`.

crate::placeholder::unsupported_element! {
    /// KVM features.
    Kvm
}
