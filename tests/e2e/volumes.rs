//! Volumes of systemd's storage providers, and other open files, that a running guest gets as disks.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::libc;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tests::{Definition, Host, PATIENCE, Root, Unit};

use crate::compromise::loop_device;
use crate::manage::{DOMAIN, MANAGER, ROOT, call, text};
use crate::reload::wait_for;

tests::on_root!(forky, Forky, machinectl_binds_the_volumes_of_a_provider);
tests::on_root!(trixie, Trixie, open_files_become_disks);

/// A guest that says which disks it has, with a SCSI controller from its start on.
fn start(host: &Host) -> Result<(Definition, Unit<'_>)> {
    let controllers = "<controller type=\"scsi\" model=\"virtio-scsi\"/><controller type=\"usb\"";
    let web = Definition::new("web")?
        .word("glassbox.inventory")?
        .replace("<controller type=\"usb\"", controllers)?;
    web.install(host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    wait_for(host, &["vda:"], &[])?;
    Ok((web, unit))
}

fn machinectl(host: &Host, words: [&str; 3]) -> Result<()> {
    host.run(["machinectl"].iter().chain(&words))?.success().map(drop)
}

/// The error that machinectl tells.
fn refused(host: &Host, words: [&str; 3], error: &str) -> Result<()> {
    let told = machinectl(host, words).err().with_context(|| format!("{words:?}"))?.to_string();
    ensure!(told.contains(&format!("io.systemd.{error}")), "{words:?}: {told}");
    Ok(())
}

fn live(host: &Host) -> Result<String> {
    host.read("/run/glassbox/live/web.xml")
}

fn machinectl_binds_the_volumes_of_a_provider(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    host.systemctl(["start", "systemd-storage-fs.socket"])?.success()?;
    host.sh("mkdir -m 0700 -p /var/lib/storage; cd /var/lib/storage
         for word in one two; do printf \"$word-\" >$word.volume; truncate -s 8M $word.volume; done
         chmod 0600 *")?;
    let (web, unit) = start(&host)?;
    let without = live(&host)?;

    machinectl(&host, ["bind-volume", "web", "fs:one"])?;
    wait_for(&host, &["vdb:one-"], &[])?;
    machinectl(&host, ["bind-volume", "web", "fs:two:virtio-scsi"])?;
    wait_for(&host, &["vdb:one-", "sda:two-"], &[])?;
    refused(&host, ["bind-volume", "web", "fs:one"], "MachineInstance.StorageExists")?;
    refused(&host, ["bind-volume", "web", "fs:one:floppy"], "MachineInstance.BadConfig")?;
    refused(&host, ["bind-volume", "web", "fs:one:nvme"], "MachineInstance.ConfigNotSupported")?;
    refused(&host, ["unbind-volume", "web", "fs:none"], "MachineInstance.NoSuchStorage")?;

    // They are the running guest's, and not the definition's, which a reload leaves so.
    let path = text(&call(&host, ROOT, MANAGER, "GetDomain", &["s", "web"])?)?;
    let shown = text(&call(&host, &path, DOMAIN, "GetXML", &["b", "true"])?)?;
    ensure!(shown.matches("/dev/fdset/").count() == 2, "{shown}");
    assert_eq!(host.read("/etc/glassbox/qemu/web.xml")?, web.xml());
    let with = live(&host)?;
    host.systemctl(["reload", "qemu@web"])?.success()?;
    assert_eq!(live(&host)?, with);
    wait_for(&host, &["vdb:one-", "sda:two-"], &[])?;

    // A daemon that was killed finds them again.
    host.systemctl(["kill", "--signal=KILL", "glassboxd"])?.success()?;
    host.wait_for("the next daemon to know the volumes", PATIENCE, || {
        refused(&host, ["bind-volume", "web", "fs:one"], "MachineInstance.StorageExists").is_ok()
    })?;
    machinectl(&host, ["unbind-volume", "web", "fs:one"])?;
    wait_for(&host, &["vda:", "sda:two-"], &["vdb:one-"])?;
    machinectl(&host, ["unbind-volume", "web", "fs:two"])?;
    wait_for(&host, &["vda:"], &["sda:two-"])?;
    assert_eq!(live(&host)?, without);
    ensure!(!host.qmp("web", "query-fdsets")?.contains("volume "), "QEMU has closed the files");

    machinectl(&host, ["bind-volume", "web", "fs:one:virtio-blk:read-only=yes"])?;
    wait_for(&host, &["vdb:one-"], &[])?;
    ensure!(live(&host)?.contains("<readonly/>"), "{}", live(&host)?);
    machinectl(&host, ["unbind-volume", "web", "fs:one"])?;
    wait_for(&host, &["vda:"], &["vdb:one-"])?;
    let new = "fs:new:virtio-blk:create=new,size=8M,template=sparse-file";
    machinectl(&host, ["bind-volume", "web", new])?;
    wait_for(&host, &["vdb:"], &[])?;
    machinectl(&host, ["unbind-volume", "web", "fs:new"])?;
    the_guest_s_own_account_may_and_others_may_not(&host, &unit)
}

/// The account may not open the file that it was given.
fn the_guest_s_own_account_may_and_others_may_not(host: &Host, unit: &Unit<'_>) -> Result<()> {
    let (_, qemu) = unit.processes()?;
    let account = host.process(qemu)?["Uid"].split('\t').next().unwrap_or_default().to_owned();
    let add = |account: &str| {
        let call = "varlinkctl call --push-fd=3 /run/glassbox/machine/web io.systemd.MachineInstance.AddStorage";
        host.run(["/bin/sh", "-euc", &format!(
            "exec 3<>/var/lib/storage/two.volume
             setpriv --reuid={account} --regid={account} --clear-groups {call} '{{\"fileDescriptorIndex\":0,\"name\":\"two\"}}'"
        )])
    };
    let told = add("65534")?;
    ensure!(told.stderr.contains("failed: Permission denied"), "{told:?}");
    assert_ne!(account, "0");
    add(&account)?.success()?;
    wait_for(host, &["vdb:two-"], &[])
}

const SOCKET: &str = "/run/glassbox/machine/web";

/// Calls a method with file descriptors, which `varlinkctl` passes only since systemd 258, and returns the answer.
fn pass(host: &Host, method: &str, parameters: &Value, fds: &[BorrowedFd<'_>]) -> Result<Value> {
    let mut socket = UnixStream::connect(host.path(SOCKET)).context(SOCKET)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let method = format!("io.systemd.MachineInstance.{method}");
    let mut message =
        json!({ "method": method, "parameters": parameters }).to_string().into_bytes();
    message.push(0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)), "too many");
    sendmsg(&socket, &[IoSlice::new(&message)], &mut control, SendFlags::empty())?;
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        if socket.read(&mut byte)? == 0 || byte == [0] {
            break;
        }
        answer.extend(byte);
    }
    ensure!(!answer.is_empty(), "it hung up");
    Ok(serde_json::from_slice(&answer)?)
}

/// Adds a file, of which the daemon has a descriptor of its own then.
fn add(host: &Host, name: &str, config: &str, file: impl AsFd) -> Result<Value> {
    let parameters = json!({ "fileDescriptorIndex": 0, "name": name, "config": config });
    pass(host, "AddStorage", &parameters, &[file.as_fd()])
}

fn open_files_become_disks(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    let web = Definition::new("web")?.word("glassbox.inventory")?;
    web.install(&host)?;
    host.reload()?;
    let unit = host.start_guest("web")?;
    wait_for(&host, &["vda:"], &[])?;
    let without = live(&host)?;
    host.sh("mkdir -m 0700 /srv/private; cd /srv/private; printf file- >file; printf block- >image; printf disc- >disc; truncate -s 8M *")?;
    let file = host.path("/srv/private/file");
    let both = || File::options().read(true).write(true).open(&file);

    wrong_files_are_refused(&host, &file)?;
    let none = pass(&host, "RemoveStorage", &json!({ "name": "file" }), &[])?;
    assert_eq!(none["error"], "io.systemd.MachineInstance.NoSuchStorage");
    assert_eq!(live(&host)?, without, "nothing has come");

    // A file, and a block device.
    let done = json!({ "parameters": {} });
    assert_eq!(add(&host, "a \"file\"", "", both()?)?, done);
    wait_for(&host, &["vdb:file-"], &[])?;
    let block = loop_device(&host, "/srv/private/image")?;
    let device = File::open(host.path(&block));
    host.run(["losetup", "--detach", &block])?.success()?;
    assert_eq!(add(&host, "block", "virtio-blk", device?)?, done);
    wait_for(&host, &["vdb:file-", "vdc:block-"], &[])?;
    let nodes = host.qmp("web", "query-named-block-nodes")?;
    ensure!(nodes.contains("\"drv\": \"host_device\""), "{nodes}");

    // A CD-ROM comes with a controller, which goes when nothing stands on it.
    assert_eq!(add(&host, "disc", "scsi-cd", File::open(host.path("/srv/private/disc"))?)?, done);
    ensure!(live(&host)?.contains("virtio-scsi"), "{}", live(&host)?);
    host.systemctl(["reload", "qemu@web"])?.success()?;
    ensure!(live(&host)?.contains("virtio-scsi"), "{}", live(&host)?);
    for name in ["disc", "a \"file\"", "block"] {
        assert_eq!(pass(&host, "RemoveStorage", &json!({ "name": name }), &[])?, done, "{name}");
    }
    wait_for(&host, &["vda:"], &["vdb:file-", "vdc:block-"])?;
    host.systemctl(["reload", "qemu@web"])?.success()?;
    assert_eq!(live(&host)?, without);
    ensure!(!host.qmp("web", "query-fdsets")?.contains("volume "), "QEMU has closed the files");
    unit.quit()
}

/// Whoever passes what is no volume learns why, and the daemon answers on.
fn wrong_files_are_refused(host: &Host, file: &Path) -> Result<()> {
    let opened = |flags: i32| File::options().read(true).custom_flags(flags).open(file);
    let appended = File::options().read(true).append(true).open(file)?;
    let (socket, _other) = UnixStream::pair()?;
    for (what, fd, error) in [
        ("directory", OwnedFd::from(File::open(host.path("/srv"))?), "EISDIR"),
        ("socket", socket.into(), "ENOTBLK"),
        ("character device", File::open("/dev/null")?.into(), "ENOTBLK"),
        ("path", opened(libc::O_PATH)?.into(), "EBADF"),
        ("log", appended.into(), "EBADF"),
        ("file for writing", File::options().write(true).open(file)?.into(), "EBADF"),
    ] {
        let told = add(host, "file", "", fd)?;
        assert_eq!(told["error"], "io.systemd.System", "{what}: {told}");
        assert_eq!(told["parameters"]["errnoName"], error, "{what}: {told}");
    }
    let file = File::options().read(true).write(true).open(file)?;
    let told = add(host, "file", "scsi-cd", &file)?;
    assert_eq!(told["parameters"]["errnoName"], "EROFS", "{told}");
    let fds = [file.as_fd()];
    let parameters = |index: i64, name: &str| json!({ "fileDescriptorIndex": index, "name": name });
    let told = pass(host, "AddStorage", &parameters(1, "file"), &fds)?;
    assert_eq!(told["parameters"]["errnoName"], "ENXIO", "{told}");
    for (parameters, wrong) in [
        (parameters(-1, "file"), "fileDescriptorIndex"),
        (parameters(0, ""), "name"),
        (parameters(0, &"x".repeat(512)), "name"),
        (parameters(0, "a\nb"), "name"),
        (json!({ "fileDescriptorIndex": 0, "name": "file", "format": "qcow2" }), "format"),
    ] {
        let told = pass(host, "AddStorage", &parameters, &fds)?;
        assert_eq!(told["error"], "org.varlink.service.InvalidParameter");
        assert_eq!(told["parameters"]["parameter"], wrong);
    }
    let many = [file.as_fd(); 17];
    pass(host, "AddStorage", &parameters(0, "file"), &many).err().context("17 are too many")?;
    Ok(())
}
