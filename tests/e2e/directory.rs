//! Guests whose root is a directory of the host, by virtio-fs.

use anyhow::Result;
use tests::{Host, guest};

/// The definition of a guest of this name: `source` is an attribute of the directory's `<source>`, `words` are more of
/// the kernel's command line, `elements` and `devices` what else it has.
pub(crate) fn definition(
    name: &str,
    source: &str,
    words: &str,
    elements: &str,
    devices: &str,
) -> String {
    let images = guest::IMAGES;
    // A template's guests have their names from their units.
    let name = if name.is_empty() { String::new() } else { format!("<name>{name}</name>") };
    format!(
        "<domain type='qemu'>
  {name}{elements}
  <memory unit='MiB'>256</memory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{images}/vmlinuz</kernel>
    <initrd>{images}/initrd</initrd>
    <cmdline>console=ttyS0 quiet no_timer_check {words} glassbox.virtiofs=root</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
    <filesystem type='mount'>
      <driver type='virtiofs'/>
      <source {source}/>
      <target dir='root'/>
    </filesystem>
    {devices}
    <memballoon model='none'/>
  </devices>
</domain>
"
    )
}

/// Makes the directory, with busybox, this program as `/init`, and a greeting. Every account may write to it: a guest's
/// lasts only as long as the guest and owns nothing.
pub(crate) fn make(host: &Host, path: &str, init: &str, greeting: &str) -> Result<()> {
    let folders = ["bin", "proc", "sys", "dev"].map(|folder| format!("{path}/{folder}")).join(" ");
    host.sh(&format!("mkdir -p {folders}; cp /bin/busybox {path}/bin; chmod a+rwx {path}"))?;
    host.write(&format!("{path}/init"), init, "0755", "root")?;
    host.write_file(&format!("{path}/greeting"), greeting)
}
