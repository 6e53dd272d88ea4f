//! Weights and limits of the guest's block I/O, `<blkiotune>`.

crate::placeholder::unsupported_element! {
    /// Weights and limits of block I/O.
    BlockIoTuning
}
