//! Has systemd read its units anew, once for all who ask within a moment: each reload runs all generators.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::systemd::Systemd;

/// How long to wait for others before a reload begins.
const GATHER: Duration = Duration::from_millis(50);

/// Reloads systemd.
#[derive(Debug)]
pub(crate) struct Reloader {
    systemd: Systemd,
    /// How many have asked.
    asked: AtomicU64,
    /// How many of them a reload has served.
    served: Mutex<u64>,
}

impl Reloader {
    /// Reloads this service manager.
    pub(crate) fn new(systemd: Systemd) -> Self {
        Self { systemd, asked: AtomicU64::new(0), served: Mutex::new(0) }
    }

    /// Returns when systemd has read what was there when this was called.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let mine = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut served = self.served.lock().await;
        if *served >= mine {
            return Ok(());
        }
        tokio::time::sleep(GATHER).await;
        let gathered = self.asked.load(Ordering::Relaxed);
        self.systemd.reload().await?;
        *served = gathered;
        Ok(())
    }
}
