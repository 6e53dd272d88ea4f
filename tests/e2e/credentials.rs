//! Credentials of a guest's unit: in the guest's firmware, and nowhere that others can see.

use anyhow::Result;
use tests::{Definition, Host, Root};

tests::on_root!(trixie, Trixie, credentials_of_the_unit_reach_the_guest_and_nobody_else);

/// What the guest does as PID 1: shows the strings that its firmware has for its operating system, and ends.
const SHOW: &str = "rdinit=/bin/busybox -- sh -c \"/bin/busybox mkdir -p /sys /sbin /usr/sbin /usr/bin; \
    /bin/busybox --install -s; mount -t sysfs s /sys; tr '\\0' '\\n' &lt;/sys/firmware/dmi/tables/DMI | \
    grep -aoE '(io.systemd|com.example)[ -~]*'; echo SHOWN; poweroff -f\"";

/// One of them is not for the guest.
const UNIT: &str = "[Service]
SetCredential=color:blue-and-green
LoadCredential=empty:/etc/empty
SetCredential=glassbox.display:not-for-guests
LoadCredential=ssh.authorized_keys.root:/etc/keys
LoadCredential=bytes:/etc/bytes
LoadCredential=large:/etc/large
";

fn credentials_of_the_unit_reach_the_guest_and_nobody_else(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let strings = "<sysinfo type='smbios'><oemStrings><entry>com.example:first</entry></oemStrings></sysinfo><os>";
    Definition::new("web")?
        .word(SHOW)?
        .replace("<os>", strings)?
        .replace("</os>", "<smbios mode='sysinfo'/></os>")?
        .install(&host)?;
    host.write("/etc/keys", "ssh-ed25519 AAAAC3 me\n", "0600", "root:root")?;
    host.write("/etc/bytes", vec![0, 255, 10, 0], "0600", "root:root")?;
    host.write_file("/etc/empty", "")?;
    // Too large for the tables, so that QEMU has it as a file of its firmware configuration.
    host.write("/etc/large", vec![b'x'; 100_000], "0600", "root:root")?;
    host.write_file("/etc/systemd/system/qemu@web.service.d/credentials.conf", UNIT)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    let (shim, qemu) = unit.processes()?;
    let words = host.command_line(qemu)?;
    let files = words.iter().filter(|word| word.starts_with("name=opt/io.systemd.credentials/"));
    assert_eq!(files.count(), 1, "{words:?}");
    // The words of the plan, the secrets in them and what they are in base64.
    let secrets = ["blue-and-green", "Ymx1ZS1hbmQtZ3JlZW4=", "AAAAC3", "not-for-guests"];
    for pid in [shim, qemu] {
        for file in ["cmdline", "environ"] {
            let text = host.read(&format!("/proc/{pid}/{file}"))?;
            assert!(secrets.iter().all(|secret| !text.contains(secret)), "{pid} {file}: {text}");
        }
    }
    let found = host.sh("grep -rlaE 'blue-and-green|Ymx1ZS1hbmQtZ3JlZW4|AAAAC3' /run/glassbox /var/lib/glassbox/guest /var/log || true")?;
    assert_eq!(found.stdout, "", "no file has one");

    host.wait_for_console("web", "SHOWN", 1)?;
    let console = host.console("web");
    let shown: Vec<&str> = console
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("io.systemd") || line.starts_with("com.example"))
        .collect();
    let binary = |rest: &str| format!("io.systemd.credential.binary:{rest}");
    let expected = [
        "com.example:first".to_owned(),
        binary("bytes=AP8KAA=="),
        binary("color=Ymx1ZS1hbmQtZ3JlZW4="),
        binary("empty="),
        binary("ssh.authorized_keys.root=c3NoLWVkMjU1MTkgQUFBQUMzIG1lCg=="),
    ];
    assert_eq!(shown, expected, "{console}");
    Ok(())
}
