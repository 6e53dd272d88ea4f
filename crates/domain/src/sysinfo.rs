//! What the firmware tells the guest of the machine, `<sysinfo>`.

crate::placeholder::unsupported_element! {
    /// SMBIOS tables or fw_cfg entries.
    Sysinfo
}
