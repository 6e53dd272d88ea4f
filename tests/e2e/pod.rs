//! A guest as the first process of a container without rights, as KubeVirt runs one in a pod.

use anyhow::Result;
use tests::{Host, PATIENCE, Root};

use crate::embedding;
use crate::sector::{self, FOLDER, Sector};

tests::on_root!(trixie, Trixie, a_guest_lives_in_a_pod_and_is_known_to_the_host);

/// Resident memory that the shim may have beside QEMU, in KiB.
const MOST_MEMORY: u64 = 4096;

/// The pod, as glassbox-qemu(1) has it: all namespaces of its own, a root that nobody writes to, another user id than
/// on the host, no capability, and of the host the volume with the image and the directory of the registry's socket.
const POD: &str = "#!/bin/sh
exec setpriv --reuid=glassbox-qemu --regid=glassbox-qemu --clear-groups --bounding-set=-all \
    bwrap --unshare-all --uid 107 --gid 107 --cap-drop ALL --as-pid-1 --die-with-parent \
    --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
    --proc /proc --dev /dev --tmpfs /tmp --tmpfs /run \
    --bind /srv/volume /volume --ro-bind /run/glassbox /registry --remount-ro / \
    glassbox-qemu --registry /registry/registry /volume/button.xml
";

fn a_guest_lives_in_a_pod_and_is_known_to_the_host(root: Root) -> Result<()> {
    let host = embedding::setup(root)?.boot()?;
    sector::install(&host, "button", Sector::ObeysButton)?;
    host.sh(&format!(
        "mv {FOLDER} /srv/volume; sed -i s:{FOLDER}:/volume: /srv/volume/button.xml
        chown -R glassbox-qemu: /srv/volume; chmod 0700 /srv/volume"
    ))?;
    host.write("/srv/pod", POD, "0755", "root")?;
    host.systemctl(["start", "glassboxd.socket"])?.success()?;
    let call = "systemd-run --unit=pod --service-type=exec --property=StandardError=file:/srv/said";
    host.sh(&format!("{call} --property=StandardOutput=file:/srv/output /srv/pod"))?;
    host.wait_for("the guest to run", PATIENCE, || {
        host.read("/srv/volume/button.out").is_ok_and(|out| out.contains('B'))
    })?;
    let shim = host.sh("pgrep --exact glassbox-qemu")?.stdout.trim().parse()?;
    it_has_no_rights(&host, shim)?;
    it_is_known(&host)?;
    it_takes_little(&host, shim)?;

    host.sh(&format!("kill {shim}"))?;
    host.unit("pod.service").wait("inactive")?;
    let said = host.read("/srv/said")?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[0].starts_with("glassbox-qemu: the guest is running, QEMU is process "),
        "{said}"
    );
    assert_eq!(lines[1], "glassbox-qemu: the guest is shut down", "{said}");
    assert_eq!(host.read("/srv/output")?, "");
    host.wait_for_no_machine()
}

/// The shim is the first process, QEMU its child, and neither may do anything.
fn it_has_no_rights(host: &Host, shim: u32) -> Result<()> {
    let qemu = host.sh(&format!("pgrep --parent {shim}"))?.stdout.trim().parse()?;
    let first = &host.process(shim)?["NSpid"];
    assert!(first.ends_with("\t1"), "{first}");
    for pid in [shim, qemu] {
        let status = host.process(pid)?;
        assert_eq!(status["NSpid"].split('\t').count(), first.split('\t').count());
        assert_eq!(status["NoNewPrivs"], "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set}");
        }
        let differing = "for kind in user mnt pid net ipc uts; do
            [ $(readlink /proc/$1/ns/$kind) != $(readlink /proc/1/ns/$kind) ]; done";
        host.run(["sh", "-euc", differing, "sh", &pid.to_string()])?.success()?;
    }
    let map = host.read(&format!("/proc/{shim}/uid_map"))?;
    assert_eq!(map.split_whitespace().next(), Some("107"), "{map}");
    let mounts = host.read(&format!("/proc/{shim}/mounts"))?;
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/"));
    assert!(root.is_some_and(|root| root.contains(" ro,")), "{mounts}");
    let run = host.run(["ls", &format!("/proc/{shim}/root/run")])?.success()?;
    assert_eq!(run.stdout, "glassbox\n", "there is neither a bus nor systemd");
    Ok(())
}

fn it_is_known(host: &Host) -> Result<()> {
    let machines = host.machines()?;
    assert!(
        machines.contains(&["button", "vm", "glassbox"].map(str::to_owned)),
        "{machines:?}: {}",
        host.read("/srv/said")?
    );
    let list = "busctl call org.glassbox.Glassbox1 /org/glassbox/Glassbox1 \
        org.glassbox.Glassbox1.Manager ListDomains";
    let listed = host.sh(list)?.stdout;
    assert!(listed.contains("\"button\""), "{listed}");
    Ok(())
}

fn it_takes_little(host: &Host, shim: u32) -> Result<()> {
    let status = host.process(shim)?;
    let resident = status["VmRSS"].trim_end_matches(" kB").parse::<u64>()?;
    eprintln!("the shim has {resident} KiB beside QEMU");
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        eprintln!("SKIP pod: {MOST_MEMORY} KiB are promised of a release build, which this is not");
        return Ok(());
    }
    assert!(resident <= MOST_MEMORY, "the shim has {resident} KiB beside QEMU");
    Ok(())
}
