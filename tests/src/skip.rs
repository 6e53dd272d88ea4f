//! Whether the test host can work here at all, and how a test says that it cannot.

use std::fs;
use std::process::{Command, Stdio};

/// Whether a test that needs a [`crate::Host`] can run. When it can't, says `SKIP test: reason` on standard error.
///
/// ```no_run
/// # fn a_guest_starts() {
/// if !tests::ready("a_guest_starts") {
///     return;
/// }
/// # }
/// ```
///
/// # Panics
///
/// When it can't and the environment has `CI=true`: a skip there would hide that nothing was tested.
#[must_use]
pub fn ready(test: &str) -> bool {
    let Err(reason) = possible() else { return true };
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{test}: cannot run although CI=true: {reason}");
    eprintln!("SKIP {test}: {reason}");
    false
}

/// Why containers cannot run here, when they cannot.
fn possible() -> Result<(), String> {
    if !is_root() {
        return Err("containers need root; run as root".to_owned());
    }
    let unshare = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"])
        .stdin(Stdio::null())
        .output();
    match unshare {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!(
            "root cannot mount here ({}); allow CAP_SYS_ADMIN",
            String::from_utf8_lossy(&done.stderr).trim()
        )),
        Err(error) => Err(format!("unshare cannot be started ({error}); install util-linux")),
    }
}

/// Whether the effective user is root, by `/proc/self/status` (proc_pid_status(5)).
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}
