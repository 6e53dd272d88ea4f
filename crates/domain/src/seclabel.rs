//! Labels of mandatory access control, `<seclabel>`.

crate::placeholder::unsupported_element! {
    /// A security label.
    SecurityLabel
}
