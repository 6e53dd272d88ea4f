//! The file that takes a panicked guest's memory, `<on_crash>coredump-*`.

use std::path::Path;

use serde_json::{Value, json};

use crate::log;
use crate::provide::make_folder;

/// What `dump-guest-memory` takes (QEMU's qapi/dump.json): a file of its own for each panic, in a folder that only
/// this account reads, for it holds all that the guest knew.
// The time only tells the files apart; nothing waits for it.
#[allow(clippy::disallowed_types)]
pub(crate) fn arguments(path: &Path) -> Value {
    use std::time::{SystemTime, UNIX_EPOCH};
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let file = format!("{}-{time}.core", path.display());
    match make_folder(path, 0o700) {
        Ok(()) => log::warning(format_args!("the guest's memory is written to {file}")),
        // QEMU will not be able to make the file either, and ends the matter.
        Err(error) => log::warning(format_args!("the folder of {file} cannot be made: {error}")),
    }
    json!({ "paging": false, "protocol": format!("file:{file}"), "detach": true })
}
