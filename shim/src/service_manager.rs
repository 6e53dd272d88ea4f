//! What the shim tells the service manager (sd_notify(3)), and what it asks of it.

use std::time::Duration;

use sd_notify::NotifyState;
use zbus::connection::Builder;

use crate::host;

/// How long a guest may take to power down where nobody said: `TimeoutStopSec=` of qemu@.service, less what
/// QEMU may need to quit.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(80);

/// How long QEMU may take to start its guest where nobody said. Reserving a large guest's memory takes minutes.
const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(600);

/// The service manager of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceManager {
    /// The one that started it, if one did.
    Own {
        /// What the unit's `TimeoutStopSec=` was at the start, in microseconds, where that is known.
        stop_timeout: Option<u64>,
    },
    /// One that must not hear of it.
    Ignored,
}

impl ServiceManager {
    /// Sends a message; without a service manager nothing happens.
    pub(crate) fn notify(self, states: &[NotifyState<'_>]) {
        match self {
            Self::Own { .. } => notify(states),
            Self::Ignored => {}
        }
    }

    /// How long QEMU may take to start its guest before it is killed; none is for ever.
    ///
    /// A unit has its own time for this, `TimeoutStartSec=`, after which systemd sends SIGTERM.
    pub(crate) fn start_timeout(self) -> Option<Duration> {
        let in_unit = self != Self::Ignored && std::env::var_os("NOTIFY_SOCKET").is_some();
        (!in_unit).then_some(DEFAULT_START_TIMEOUT)
    }

    /// How long the guest may take to power down before QEMU is quit; none is for ever.
    pub(crate) fn stop_timeout(self) -> Option<Duration> {
        match self {
            Self::Own { stop_timeout: at_start } => stop_timeout(at_start),
            Self::Ignored => Some(DEFAULT_STOP_TIMEOUT),
        }
    }

    /// The time within which its watchdog wants to be fed (`WatchdogSec=`), if it has set one for this process.
    pub(crate) fn watchdog(self) -> Option<Duration> {
        match self {
            Self::Own { .. } => sd_notify::watchdog_enabled(),
            Self::Ignored => None,
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        crate::log::warning(format_args!("the service manager cannot be notified: {error}"));
    }
}

/// In a unit this is most of its `TimeoutStopSec=`, an administrator's drop-in included, so that QEMU is quit
/// and its disks are flushed before systemd kills it. The time is asked for when it is needed: it can have
/// been changed since the start. Where a bus takes no accounts that it finds in no list, such as a guest's own, it is
/// what it was at the start.
fn stop_timeout(at_start: Option<u64>) -> Option<Duration> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Some(DEFAULT_STOP_TIMEOUT);
    }
    match unit_stop_timeout().or_else(|error| at_start.ok_or(error)) {
        Ok(u64::MAX) => None,
        Ok(microseconds) => {
            let whole = Duration::from_micros(microseconds);
            Some(whole - (whole / 5).min(Duration::from_secs(10)))
        }
        Err(error) => {
            crate::log::info(format_args!(
                "the unit's TimeoutStopSec= cannot be read ({error}); the guest has {} s to power down",
                DEFAULT_STOP_TIMEOUT.as_secs()
            ));
            Some(DEFAULT_STOP_TIMEOUT)
        }
    }
}

/// `TimeoutStopUSec` of the unit that this process belongs to (org.freedesktop.systemd1(5)).
pub(crate) fn unit_stop_timeout() -> zbus::Result<u64> {
    const MANAGER: &str = "org.freedesktop.systemd1";
    zruntime::block_on(async {
        let builder = if system_instance() { host::system_bus() } else { Builder::session() };
        let connection = builder.method_timeout(Duration::from_secs(1)).build().await?;
        let reply = connection
            .call_method(
                Some(MANAGER),
                "/org/freedesktop/systemd1",
                Some("org.freedesktop.systemd1.Manager"),
                "GetUnitByPID",
                &(std::process::id()),
            )
            .await?;
        let body = reply.body();
        let unit: zbus::ObjectPath<'_> = body.deserialize()?;
        let reply = connection
            .call_method(
                Some(MANAGER),
                unit,
                Some("org.freedesktop.DBus.Properties"),
                "Get",
                &("org.freedesktop.systemd1.Service", "TimeoutStopUSec"),
            )
            .await?;
        let value: zbus::OwnedVariant = reply.body().deserialize()?;
        u64::try_from(value)
    })
}

/// Whether the unit is one of the system's manager: a user's manager gives its services its own runtime
/// directory (`XDG_RUNTIME_DIR`), the system's does not.
fn system_instance() -> bool {
    std::env::var_os("XDG_RUNTIME_DIR").is_none()
}
