//! The unit's credentials on their way to the guest, where its systemd finds them (systemd.system-credentials(7)).
//!
//! They go as strings in SMBIOS tables of type 11 (smbios-type-11(7)) or as files of QEMU's firmware configuration
//! below `opt/io.systemd.credentials` (systemd.exec(5)). The plan has names and places only: QEMU reads each from
//! a file descriptor, so that neither its arguments nor its environment have a secret.

use crate::arch::Arch;
use crate::argv::Options;
use crate::command::Command;
use crate::plan::{CredentialForm, FdKind};

/// What a credential is called as a file of the firmware configuration.
const FILE_PREFIX: &str = "opt/io.systemd.credentials/";

/// Longest name of such a file, `FW_CFG_MAX_FILE_PATH` of QEMU's `fw_cfg.h` less its NUL.
const LONGEST_FILE_NAME: usize = 55;

/// How many such files a guest is given: QEMU has room for 32 (`x-file-slots`), most of which its own take.
const MOST_FILES: usize = 8;

/// Strings of a table are counted by one byte (SMBIOS 3.7, section 7.12); this leaves some for `<oemStrings>`.
const MOST_STRINGS: usize = 200;

/// How many bytes the strings may have: half of what all tables may where their entry point is one of 32 bits
/// (`SMBIOS_21_MAX_TABLES_LEN` of QEMU).
const MOST_STRING_BYTES: u64 = 32 << 10;

/// How many bytes systemd imports, `CREDENTIALS_TOTAL_SIZE_MAX` of its `creds-util.h`.
const MOST_BYTES: u64 = 1 << 20;

/// A credential of the guest's unit, whose content is read when QEMU is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name: printable ASCII without `/` and `:` (systemd.exec(5)).
    pub name: String,
    /// The file that has it.
    pub file: String,
    /// How many bytes it has.
    pub size: u64,
}

impl Credential {
    fn string_prefix(&self) -> String {
        format!("io.systemd.credential.binary:{}=", self.name)
    }

    /// The bytes of it as a string in a table: base64 has four for three, and a NUL ends it.
    fn string_bytes(&self) -> u64 {
        self.string_prefix().len() as u64 + self.size.div_ceil(3) * 4 + 1
    }
}

/// What is left of both ways.
struct Room {
    strings: usize,
    string_bytes: u64,
    files: usize,
}

/// Adds what the guest is given.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let facts = command.facts;
    let place = &command.domain.place;
    let total: u64 = facts.credentials.iter().map(|credential| credential.size).sum();
    if total > MOST_BYTES {
        let what = format!(
            "the unit's credentials for the guest have {total} bytes; a guest takes {MOST_BYTES} of them, pass \
             larger things on a disk"
        );
        command.refuse(place, what);
        return;
    }
    let x86 = Arch::of_domain(command.domain).is_x86();
    // Elsewhere the tables are there only if the firmware puts them there, and a kernel may boot without one.
    let strings = if x86 { MOST_STRINGS } else { 0 };
    let mut room = Room { strings, string_bytes: MOST_STRING_BYTES, files: MOST_FILES };
    for credential in &facts.credentials {
        add(command, credential, &mut room);
    }
}

fn add(command: &mut Command<'_>, credential: &Credential, room: &mut Room) {
    let (name, file) = (&credential.name, credential.file.clone());
    // What stands before the first '=' is the name there.
    let as_string =
        room.strings > 0 && credential.string_bytes() <= room.string_bytes && !name.contains('=');
    if as_string {
        room.strings -= 1;
        room.string_bytes -= credential.string_bytes();
        let form = CredentialForm::OemString { prefix: credential.string_prefix() };
        let path = passed(command, file, form);
        command.argv.options("-smbios", Options::pair("type", 11).set("path", path));
        return;
    }
    let file_name = format!("{FILE_PREFIX}{name}");
    if file_name.len() > LONGEST_FILE_NAME || room.files == 0 {
        let what = format!(
            "the unit's credential '{name}' cannot be given to the guest: it is too large for the firmware's \
             tables or they are full, and there are files for {MOST_FILES} with names of up to {} bytes; shorten \
             it or its name, or begin its name with 'glassbox.' to keep it from the guest",
            LONGEST_FILE_NAME - FILE_PREFIX.len()
        );
        command.refuse(&command.domain.place, what);
        return;
    }
    room.files -= 1;
    let path = passed(command, file, CredentialForm::Plain);
    command.argv.options("-fw_cfg", Options::pair("name", file_name).set("file", path));
}

/// Adds a credential of the plan's own that is no secret.
pub(crate) fn add_text(command: &mut Command<'_>, name: &str, text: &str) {
    if Arch::of_domain(command.domain).is_x86() {
        let value = format!("io.systemd.credential:{name}={text}");
        command.argv.options("-smbios", Options::pair("type", 11).set("value", value));
    } else {
        let options = Options::pair("name", format!("{FILE_PREFIX}{name}")).set("string", text);
        command.argv.options("-fw_cfg", options);
    }
}

/// The path by which QEMU opens a file descriptor while it reads its arguments, before it has sets of them.
fn passed(command: &mut Command<'_>, file: String, form: CredentialForm) -> String {
    let fd = command.pass_fd(FdKind::Credential { file, form });
    format!("/proc/self/fd/{fd}")
}
