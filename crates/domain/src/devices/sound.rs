//! Sound cards, `<sound>`.

crate::placeholder::unsupported_device! {
    /// A sound card.
    Sound
}
