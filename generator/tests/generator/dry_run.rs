//! `--dry-run`: the units and all complaints on the screen, and nothing written.

use std::path::Path;

use crate::call::Call;

fn case(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name)
}

#[test]
fn units_are_shown_as_systemctl_cat_does() {
    let outcome = Call::new(&case("04-autostart/root")).run_with(&["--dry-run"]);
    let generated = case("04-autostart/expected/normal/qemu@web.service.d/50-glassbox.conf");
    let text = std::fs::read_to_string(generated).unwrap();
    let unit = "/run/systemd/generator/qemu@web.service.d/50-glassbox.conf";
    assert!(outcome.stdout.contains(&format!("# {unit}\n{text}\n")), "{}", outcome.stdout);
    let link = "/run/systemd/generator/multi-user.target.wants/qemu@web.service";
    let link = format!("# {link} -> /usr/lib/systemd/system/qemu@.service\n");
    assert!(outcome.stdout.contains(&link), "{}", outcome.stdout);
}

#[test]
fn complaints_have_no_priority_and_fail_the_call() {
    let outcome = Call::new(&case("10-misfiled/root")).run_with(&["--dry-run"]);
    assert_eq!(outcome.status, 1);
    let logged = std::fs::read_to_string(case("10-misfiled/expected/stderr.txt")).unwrap();
    assert!(logged.starts_with("<3>/etc/glassbox/qemu/"), "{logged}");
    assert_eq!(outcome.stderr, logged.replace("<3>", "").replace("<4>", ""));
    let sound = Call::new(&case("01-plain/root")).run_with(&["--dry-run"]);
    assert_eq!((sound.status, sound.stderr.as_str()), (0, ""));
}

#[test]
fn a_users_units_are_shown_when_asked_for() {
    let outcome = Call::new(&case("13-user/root"))
        .env("HOME", "/home/u")
        .env("XDG_RUNTIME_DIR", "/run/user/1000")
        .run_with(&["--dry-run", "--user"]);
    let unit = "# /run/user/1000/systemd/generator/qemu@";
    assert!(outcome.stdout.contains(unit), "{}{}", outcome.stdout, outcome.stderr);
    let wrong = Call::new(&case("13-user/root")).run_with(&["--user"]);
    assert_eq!(wrong.status, 2, "{}", wrong.stderr);
}
