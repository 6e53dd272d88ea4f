//! User namespaces of containers, `<idmap>`.

crate::placeholder::unsupported_element! {
    /// Maps of user and group ids.
    IdMap
}
