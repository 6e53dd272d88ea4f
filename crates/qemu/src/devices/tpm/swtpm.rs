//! swtpm, the program that a guest's emulated module is (see `swtpm(8)`).

use domain::devices::{PcrBank, Tpm, TpmEmulator, TpmStorageType, TpmVersion};

use crate::command::Command;
use crate::plan::{Helper, Invocation, LISTENER, Service};
use crate::storage;

/// The program that makes a new module, of swtpm's tools.
const SETUP: &str = "swtpm_setup";

/// Plans swtpm for a module; the result is the path of its socket, and nothing when the module is refused.
pub(super) fn start(
    command: &mut Command<'_>,
    tpm: &Tpm,
    emulator: &TpmEmulator,
) -> Option<String> {
    let backend = tpm.place.child("backend");
    let socket = command.facts.helpers.swtpm.clone();
    let secrets = &command.facts.storage.secrets;
    if storage::state_key(tpm).is_some_and(|secret| !secrets.contains_key(&secret)) {
        let what = "the secret is not known, for glassbox keeps none; remove <encryption>";
        command.refuse(&backend.child("encryption"), what);
        return None;
    }
    let state = State::of(command, emulator);
    if state.path.contains(',') {
        command.refuse(&backend.child("source"), "swtpm takes no path with a comma; use another");
        return None;
    }
    command.needs_helper(Helper {
        service: Service::Swtpm,
        device: "tpm0".to_owned(),
        before: setup(emulator, &state),
        program: Invocation { program: "swtpm".to_owned(), arguments: arguments(emulator, &state) },
        inputs: Vec::new(),
        socket: socket.clone(),
        files: Vec::new(),
        place: tpm.place.clone(),
    });
    Some(socket)
}

/// Where a module's state is.
struct State {
    path: String,
    is_file: bool,
}

impl State {
    /// The definition's, or a folder for the guest's UUID. Each version has its own: swtpm_setup removes what is the
    /// other's.
    fn of(command: &Command<'_>, emulator: &TpmEmulator) -> Self {
        let storage = emulator.storage.as_ref();
        let is_file = storage.is_some_and(|storage| storage.kind == Some(TpmStorageType::File));
        if let Some(path) = storage.and_then(|storage| storage.path.clone()) {
            return Self { path, is_file };
        }
        let uuid = command.domain.uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
        let version = if is_2(emulator) { "tpm2" } else { "tpm1.2" };
        let path = format!("{}/{uuid}/{version}", command.facts.directories.swtpm);
        Self { path, is_file: false }
    }

    /// What swtpm takes after `--tpmstate`.
    fn option(&self) -> String {
        let kind = if self.is_file { "backend-uri=file://" } else { "dir=" };
        format!("{kind}{},mode=0600", self.path)
    }

    /// What swtpm_setup takes after `--tpmstate`.
    fn setup_option(&self) -> String {
        let kind = if self.is_file { "file://" } else { "" };
        format!("{kind}{}", self.path)
    }
}

/// It ends when QEMU closes the connection, and the module is switched off.
fn arguments(emulator: &TpmEmulator, state: &State) -> Vec<String> {
    let listener = format!("type=unixio,fd={LISTENER}");
    let mut arguments = ["socket", "--terminate", "--ctrl", &listener].map(str::to_owned).to_vec();
    arguments.extend(["--tpmstate".to_owned(), state.option()]);
    arguments.extend(is_2(emulator).then(|| "--tpm2".to_owned()));
    if let Some(level) = emulator.debug {
        arguments.extend(["--log".to_owned(), format!("fd=2,level={level}")]);
    }
    arguments
}

/// A module is made at its first start, with an endorsement key and without certificates: those are signed by an
/// authority of the host's, whose key the guest's account is not to have.
fn setup(emulator: &TpmEmulator, state: &State) -> Vec<Invocation> {
    let base = |words: &[&str]| {
        let mut arguments = vec!["--tpmstate".to_owned(), state.setup_option()];
        arguments.extend(is_2(emulator).then(|| "--tpm2".to_owned()));
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
        arguments
    };
    let mut make = base(&["--createek", "--lock-nvram", "--not-overwrite"]);
    if let Some(name) = emulator.profile.as_ref().and_then(|profile| profile.source.as_ref()) {
        make.extend(["--profile-name".to_owned(), name.clone()]);
    }
    if let Some(removal) = emulator.profile.as_ref().and_then(|profile| profile.remove_disabled) {
        make.extend(["--profile-remove-disabled".to_owned(), removal.to_string()]);
    }
    let mut all = vec![make];
    // The banks are the definition's at each start, and not only of a new module.
    if let Some(banks) = emulator.banks.as_ref().filter(|banks| !banks.is_empty()) {
        let banks: Vec<&str> = banks.iter().map(|bank: &PcrBank| bank.as_str()).collect();
        all.push(base(&["--reconfigure", "--pcr-banks", &banks.join(",")]));
    }
    let run = |arguments| Invocation { program: SETUP.to_owned(), arguments };
    all.into_iter().map(run).collect()
}

fn is_2(emulator: &TpmEmulator) -> bool {
    emulator.version == Some(TpmVersion::V2_0)
}
