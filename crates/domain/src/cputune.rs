//! How the guest's threads share the host's CPUs, `<cputune>`.

crate::placeholder::unsupported_element! {
    /// Pinning, shares and quotas of CPU time.
    CpuTuning
}
