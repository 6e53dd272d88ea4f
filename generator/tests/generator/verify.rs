//! What systemd itself says of the units: `systemd-analyze verify` must have nothing to say.
//!
//! It exits with 0 even for an unknown directive, hence the look at its messages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::golden;
use crate::tree::{Entry, Tree};

/// The messages of `systemd-analyze verify` when it loads `units` from `directories`; `None` if it isn't there.
///
/// The units are named by a target that wants them, for on the command line it takes colons and backslashes
/// for something else.
pub(crate) fn verify(scope: &str, directories: &[&Path], units: &[String]) -> Option<String> {
    let own = if scope == "--user" { "user" } else { "system" };
    let temporary = tempfile::tempdir().unwrap();
    let wants = format!("[Unit]\nDescription=All\nWants={}\n", units.join(" "));
    fs::write(temporary.path().join("all.target"), wants).unwrap();
    let mut path: Vec<String> = [temporary.path()]
        .iter()
        .chain(directories)
        .map(|directory| directory.display().to_string())
        .collect();
    path.extend([format!("/usr/lib/systemd/{own}"), format!("/lib/systemd/{own}")]);
    let output = Command::new("systemd-analyze")
        .args([scope, "verify", "--man=no", "all.target"])
        .env("SYSTEMD_UNIT_PATH", path.join(":"))
        .env("XDG_RUNTIME_DIR", temporary.path())
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .output();
    match output {
        Ok(output) => Some(String::from_utf8(output.stderr).unwrap()),
        Err(error) => {
            eprintln!("SKIP verify: systemd-analyze: {error}");
            None
        }
    }
}

/// The units of the source tree with a program in `ExecStart=` that exists, as the installed one does.
pub(crate) fn installed_units(scope: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../units");
    let source = if scope == "--user" { units.join("user") } else { units };
    for (unit, program) in TEMPLATES {
        // A user has no networks and no companions.
        let Ok(text) = fs::read_to_string(source.join(unit)) else { continue };
        let installed = text.replace(program, "/bin/true");
        assert_ne!(installed, text);
        fs::write(directory.path().join(unit), installed).unwrap();
    }
    directory
}

/// The templates with their programs.
const TEMPLATES: [(&str, &str); 9] = [
    ("qemu@.service", "/usr/bin/glassbox-qemu"),
    ("swtpm@.service", "/usr/bin/glassbox-qemu"),
    ("virtiofsd@.service", "/usr/bin/glassbox-qemu"),
    ("passt@.service", "/usr/bin/glassbox-qemu"),
    ("nbdkit@.service", "/usr/bin/glassbox-qemu"),
    ("qemu-pr-helper@.service", "/usr/bin/glassbox-qemu"),
    ("vhost-device-vsock@.service", "/usr/bin/glassbox-qemu"),
    ("glassbox-instance@.service", "/usr/bin/glassbox-qemu"),
    ("glassbox-network@.service", "/usr/lib/glassbox/network"),
];

/// The instances that a tree of generated files has drop-ins for.
pub(crate) fn units(tree: &Tree) -> Vec<String> {
    tree.keys()
        .filter_map(|name| name.strip_prefix("normal/")?.strip_suffix(".d/50-glassbox.conf"))
        .map(str::to_owned)
        .collect()
}

fn scope(case: &Path) -> &'static str {
    let user = ("SYSTEMD_SCOPE".to_owned(), "user".to_owned());
    if golden::environment(case).contains(&user) { "--user" } else { "--system" }
}

#[test]
fn systemd_has_nothing_to_say_of_the_templates() {
    for scope in ["--system", "--user"] {
        let installed = installed_units(scope);
        let own = [
            "qemu@web.service",
            "glassbox-instance@worker@1.service",
            "glassbox-network@default.service",
        ];
        let units = if scope == "--user" { &own[..2] } else { &own };
        let units: Vec<_> = units.iter().map(|unit| (*unit).to_owned()).collect();
        let Some(messages) = verify(scope, &[installed.path()], &units) else {
            return;
        };
        assert_eq!(messages, "", "{scope}");
    }
}

#[test]
fn systemd_has_nothing_to_say_of_any_golden_case() {
    for case in golden::cases() {
        let units = units(&golden::run(&case));
        if units.is_empty() {
            continue;
        }
        let installed = installed_units(scope(&case));
        let generated: PathBuf = case.join("expected/normal");
        let Some(messages) = verify(scope(&case), &[&generated, installed.path()], &units) else {
            return;
        };
        assert_eq!(messages, "", "{}", case.display());
    }
}

/// Without this the two tests above would pass when drop-ins are not looked at.
#[test]
fn systemd_would_say_something_of_a_wrong_drop_in() {
    let installed = installed_units("--system");
    let generated = tempfile::tempdir().unwrap();
    let units = ["qemu@web.service", r"qemu@my\x20vm:1.service"].map(str::to_owned);
    for unit in &units {
        let drop_in = generated.path().join(format!("{unit}.d"));
        fs::create_dir(&drop_in).unwrap();
        let text = "[Unit]\nRequiresMountsFor=relative\n";
        fs::write(drop_in.join("50-glassbox.conf"), text).unwrap();
    }
    let Some(messages) = verify("--system", &[generated.path(), installed.path()], &units) else {
        return;
    };
    for unit in units {
        let place = format!("{unit}.d/50-glassbox.conf:2: ");
        assert!(messages.contains(&place), "{place} is not in {messages}");
    }
}

#[test]
fn links_point_to_the_unit_and_to_what_people_wrote() {
    for case in golden::cases() {
        for (name, entry) in golden::run(&case) {
            if let Entry::Link(target) = entry {
                let template = ["qemu@", "glassbox-network@"].iter().any(|of| {
                    name.contains(&format!(".wants/{of}"))
                        && target.ends_with(&format!("/{of}.service"))
                });
                // A drop-in for the guests of a template.
                let drop_in = name.ends_with("@.conf") && target.contains("@.service.d/");
                assert!(template || drop_in || target == "/dev/null", "{name} -> {target}");
            }
        }
    }
}
