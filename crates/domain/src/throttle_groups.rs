//! Limits that several disks share, `<throttlegroups>`.

crate::placeholder::unsupported_element! {
    /// Groups of limits for disks.
    ThrottleGroups
}
