//! A guest embedded in a program of root's, as libguestfs embeds its appliance, and libguestfs itself.

use std::time::Duration;

use anyhow::Result;
use tests::Root;

use crate::embedding;
use crate::sector::{self, Sector};

tests::on_root!(
    trixie,
    Trixie,
    a_private_image_of_roots_is_used_as_it_is,
    libguestfs_starts_its_appliance_by_the_wrapper,
);

/// Starts the guest in a mount namespace in which neither a daemon nor a bus nor a service manager has a socket, and
/// prints what the kernel tells of QEMU and of the image.
const EMBEDDED: &str = "cd /root
looks() { stat --format '%u:%g %a %Z' private.img; getfattr --dump --match=- private.img; }
looks >before
unshare --mount sh -euc '
    for hidden in /run/dbus /run/systemd /run/glassbox; do mount -t tmpfs none $hidden; done
    readlink /proc/self/ns/mnt >namespace
    exec glassbox-qemu --standalone --die-with-parent --pidfile pid private.xml' 2>said &
n=0; until [ -s private.out ] || [ $n -gt 400 ]; do sleep 0.05; n=$((n + 1)); done
shim=$(cat pid); qemu=$(pgrep -P $shim)
echo \"user $(stat --format %u /proc/$qemu)\"
[ $(readlink /proc/$qemu/ns/mnt) = $(cat namespace) ] && echo the namespace of the caller
ls -l /proc/$qemu/fd | grep -q /root/private.img && echo the image is open
looks | cmp before - && echo as it was
machinectl list --no-legend
kill -QUIT $shim; wait $!; echo \"status $?\"
looks | cmp before - && echo as it was
cat said
ls -d /run/glassbox-* /tmp/glassbox-* 2>/dev/null || :";

fn a_private_image_of_roots_is_used_as_it_is(root: Root) -> Result<()> {
    let host = embedding::setup(root)?.boot()?;
    sector::install(&host, "private", Sector::Idles)?;
    host.sh(&format!(
        "cd /root; mv {0}/private.* .; sed -i s:{0}:/root: private.xml
        chmod 0600 private.img; setfattr --name user.kept --value this private.img",
        sector::FOLDER
    ))?;
    let told = host.sh(EMBEDDED)?.stdout;
    let (facts, said) = told.split_once("status 0\n").unwrap_or((&told, ""));
    assert_eq!(
        facts, "user 0\nthe namespace of the caller\nthe image is open\nas it was\n",
        "{told}"
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert_eq!(lines[0], "as it was", "{told}");
    assert!(
        lines[1].starts_with("glassbox-qemu: the guest is running, QEMU is process "),
        "{told}"
    );
    assert_eq!(lines[2], "glassbox-qemu: the guest is shut down", "{told}");
    Ok(())
}

/// What glassbox-qemu(1) tells to do, while somebody looks whose child QEMU is. The container has a /dev/kvm that does
/// not work, hence the setting; the folder of libguestfs's own files has what XML escapes.
const GUESTFISH: &str = "mkdir '/tmp/a & <b>'; cd /root
export TMPDIR='/tmp/a & <b>' LIBGUESTFS_BACKEND_SETTINGS=force_tcg
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_HV=/usr/lib/glassbox/libguestfs-hv
truncate -s 64M disk.img; mkfs.ext4 -q disk.img; chmod 0600 disk.img
(until pgrep --list-name --parent \"$(pgrep --exact glassbox-qemu)\" 2>/dev/null; do sleep 0.1; done) >seen &
guestfish --ro -a disk.img run : list-filesystems
cut -d ' ' -f 2 seen
ls -d /run/glassbox-* \"$TMPDIR\"/glassbox-* 2>/dev/null || :
pgrep -l 'qemu' || :";

fn libguestfs_starts_its_appliance_by_the_wrapper(root: Root) -> Result<()> {
    let host = embedding::setup(root)?.boot()?;
    let done = host.command(["sh", "-euc", GUESTFISH]).limit(Duration::from_secs(600)).output()?;
    assert_eq!(done.success()?.stdout, "/dev/sda: ext4\nqemu-system-x86\n");
    Ok(())
}
