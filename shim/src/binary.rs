//! What is known of a QEMU binary: asked of it once, and kept under the binary's identity.

mod ask;
mod cache;
mod identity;

use std::path::Path;

use anyhow::Context;
use qemu::QemuBinary;

use crate::log;

use ask::AskError;
use cache::Trust;
use identity::Identity;

/// What is known of this binary without starting it; reading it costs a few system calls.
pub(crate) fn known(program: &str) -> Option<QemuBinary> {
    cache::read(&Identity::of(Path::new(program)).ok()?, Trust::All)
}

/// What this binary says, if it was not asked before. Without an answer a guest is planned for an ordinary QEMU:
/// what that means for it, QEMU tells when it is started.
pub(crate) fn learn(program: &str) -> Option<QemuBinary> {
    // One that is not there is told when the guest is to be started.
    let identity = Identity::of(Path::new(program)).ok()?;
    let kept = || cache::read(&identity, Trust::Own);
    if let Some(binary) = kept() {
        return Some(binary);
    }
    let _turn = cache::turn(&identity);
    if let Some(binary) = kept() {
        return Some(binary);
    }
    match ask::ask(program, identity.kvm) {
        Ok(binary) => {
            cache::write(&identity, &binary);
            Some(binary)
        }
        // The start that follows fails in the same way, and says so.
        Err(AskError::NotRun(_)) => None,
        Err(AskError::NotAnswered(error)) => {
            log::warning(format_args!(
                "{program} does not say what it can do: {error}; the guest is planned for a usual QEMU"
            ));
            None
        }
    }
}

/// `--probe`: what this binary says now, as JSON.
///
/// # Errors
/// When it cannot be started or does not answer.
pub(crate) fn report(program: &str) -> anyhow::Result<String> {
    let identity = Identity::of(Path::new(program)).with_context(|| program.to_owned())?;
    let binary = ask::ask(program, identity.kvm).with_context(|| program.to_owned())?;
    cache::write(&identity, &binary);
    serde_json::to_string_pretty(&binary).context("it cannot be written as JSON")
}
