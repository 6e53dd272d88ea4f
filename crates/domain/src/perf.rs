//! Performance events to count, `<perf>`.

crate::placeholder::unsupported_element! {
    /// Performance events.
    Perf
}
