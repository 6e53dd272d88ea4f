//! Which SCSI commands a guest may send to a device of the host, attribute `sgio` of `<disk>` and `<hostdev>`.

crate::keywords! {
    /// Which SCSI commands pass.
    pub enum Sgio {
        /// Those that the kernel lets every account send.
        Filtered = "filtered",
        /// All, with a kernel that had a switch for it; Linux never had one.
        Unfiltered = "unfiltered",
    }
}
