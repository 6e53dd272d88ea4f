//! What a QEMU says of itself is asked once for each binary, and a start works without the answer being kept.

use anyhow::Result;
use tests::{Definition, Host, Root};

tests::on_root!(bookworm, Bookworm, a_binary_is_asked_once);
tests::on_root!(trixie, Trixie, a_binary_is_asked_once);

const CACHE: &str = "/var/cache/glassbox/guest/web/";
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

fn a_binary_is_asked_once(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let web = Definition::new("web")?;
    web.install(&host)?;
    host.reload()?;
    let run = || -> Result<()> {
        host.systemctl(["start", "qemu@web"])?.success()?;
        host.systemctl(["kill", "--signal=SIGQUIT", "qemu@web"])?.success()?;
        let unit = host.unit("qemu@web.service");
        host.wait_for("the end", tests::PATIENCE, || {
            unit.state().is_ok_and(|state| state == "inactive")
        })
    };
    run()?;
    let kept = answers(&host)?;
    let [line] = kept.as_slice() else { panic!("one answer is kept: {kept:?}") };
    assert!(line.contains("qemu-system-x86_64.") && line.ends_with(" 600"), "{line}");

    run()?;
    assert_eq!(answers(&host)?, kept, "a second start asks nothing");
    let version = match root {
        Root::Bookworm => "7.2",
        Root::Trixie | Root::Forky => "10.0",
    };
    let file = "/etc/glassbox/qemu/web.xml";
    let printed = host.run(["glassbox-qemu", "--print-xml", file])?.success()?.stdout;
    assert!(web.xml().contains("\"q35\""), "the definition says q35: {}", web.xml());
    assert!(printed.contains(&format!("machine='pc-q35-{version}'")), "{printed}");
    let asked = host.run(["glassbox-qemu", "--probe"])?.success()?.stdout;
    assert!(asked.contains(&format!("\"q35\": \"pc-q35-{version}\"")), "{asked}");

    host.run(["touch", QEMU])?.success()?;
    run()?;
    assert_ne!(answers(&host)?, kept, "a changed binary is asked anew");

    host.sh(&format!("rm -r {CACHE}*; mkdir -p /etc/systemd/system/qemu@.service.d"))?.success()?;
    let drop_in = "[Service]\nCacheDirectory=\nEnvironment=HOME=/proc CACHE_DIRECTORY=/proc/none\n";
    host.write_file("/etc/systemd/system/qemu@.service.d/cache.conf", drop_in)?;
    host.reload()?;
    run()
}

/// The files of the cache: inode, name, time, owner and mode.
fn answers(host: &Host) -> Result<Vec<String>> {
    let words = ["find", CACHE, "-name", "*.json", "-printf", "%i %f %T@ %u %m\n"];
    Ok(host.run(words)?.success()?.stdout.lines().map(str::to_owned).collect())
}
