//! What a guest's shim is told by a signal to its unit's main process (glassbox-qemu(1)).

/// What the shim is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestSignal {
    /// Have QEMU write its disks' caches and end; the shim kills it after ten seconds.
    Quit,
    /// Press the power button, and start the guest anew when it has shut down.
    Reboot,
}

impl GuestSignal {
    /// The broker's word for it.
    ///
    /// ```
    /// use dbus_api::GuestSignal;
    /// assert_eq!(GuestSignal::from_word(GuestSignal::Quit.word()), Some(GuestSignal::Quit));
    /// assert_eq!(GuestSignal::from_word("SIGKILL"), None);
    /// ```
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::Reboot => "reboot",
        }
    }

    /// What the broker has this word for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Quit, Self::Reboot].into_iter().find(|signal| signal.word() == word)
    }

    /// Its number: `SIGQUIT`, and `SIGRTMIN+5`, by which systemd(1) is told to reboot.
    ///
    /// ```
    /// assert_eq!(dbus_api::GuestSignal::Quit.number(), 3);
    /// ```
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Quit => libc::SIGQUIT,
            Self::Reboot => libc::SIGRTMIN() + 5,
        }
    }
}
