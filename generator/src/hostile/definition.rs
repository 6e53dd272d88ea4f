//! A definition that is hostile wherever it can be. The program's own tests have it, and those that call the program.

use proptest::prelude::*;

/// A definition with `@` wherever text of its author reaches the unit.
const DEFINITION: &str = "<domain type='kvm'><name>web</name><title>@</title><memory>@</memory>
<memtune><hard_limit>@</hard_limit><soft_limit unit='@'>1</soft_limit></memtune>
<memoryBacking><hugepages/><locked/></memoryBacking>
<blkiotune><weight>@</weight><device><path>@</path><weight>300</weight></device>
  <device><path>/dev/@</path><read_bytes_sec>7</read_bytes_sec></device></blkiotune>
<vcpu cpuset='@'>2</vcpu><cputune><shares>@</shares><quota>@</quota><emulatorpin cpuset='@'/>
  <emulatorsched scheduler='fifo' priority='@'/></cputune>
<numatune><memory mode='@' nodeset='@'/></numatune>
<resource><partition>/@</partition></resource>
<os><kernel>@</kernel><initrd>/@</initrd><loader>/@</loader><acpi><table>@</table></acpi><nvram template='@'>/a/@</nvram></os>
<devices><disk type='file'><source file='@'/><backingStore><source file='/@'/></backingStore></disk>
  <disk type='block'><source dev='@'/></disk><disk type='block'><source dev='/dev/@'/></disk>
  <disk type='network'><source protocol='@'><host name='@' transport='@'/></source></disk>
  <disk type='network'><source protocol='ssh' name='@'><host name='@'/><auth><secret usage='@'/></auth>
    <identity keyfile='@'/><reservations managed='yes'/></source><target dev='vda'/></disk>
  <filesystem><driver type='virtiofs'/><source dir='@'/><binary path='@'/></filesystem>
  <filesystem><source dir='@'/></filesystem><tpm><backend type='emulator'><source path='@'/></backend></tpm>
  <interface type='user'><backend type='passt' logFile='@'/></interface><emulator>/@</emulator>
  <serial type='@'><source path='@'/></serial><serial type='dev'><source path='/dev/@'/></serial>
  <console type='pipe'><source path='/@'/></console><channel type='unix'><source path='/@:@'/></channel>
  <input><source evdev='/dev/@'/></input><rng><backend model='random'>/dev/@</backend></rng>
  <interface type='bridge'><source bridge='@'/></interface>
  <interface type='direct'><source dev='@'/></interface>
  <hostdev type='pci'><source><address bus='@'/></source></hostdev></devices></domain>";

/// The definition with each `@` replaced by the next of `values`, in turns.
pub(crate) fn filled(values: &[String]) -> String {
    let mut values = values.iter().cycle();
    let mut text = String::new();
    for (index, part) in DEFINITION.split('@').enumerate() {
        if index > 0 {
            text.push_str(&referenced(values.next().expect("a cycle has no end")));
        }
        text.push_str(part);
    }
    text
}

/// Text as references, so that line ends and quotes come through as they are.
pub(crate) fn referenced(text: &str) -> String {
    let mut references = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            references.push(c);
        } else {
            references.push_str(&format!("&#{};", u32::from(c)));
        }
    }
    references
}

/// Texts that mean something to systemd, to a shell or to a path, and long ones.
pub(crate) fn values() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(value(), 1..8)
}

/// One of them.
pub(crate) fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[\t\n\r -~\u{80}-\u{2ff}]{0,24}",
        "(\\\\|\n|\r|\\[Service\\]|ExecStart=/|%n|%|\\$HOME|\"|'|\\.\\./|/| |;|#|[0-9]){0,12}",
        "[0-9]{1,20}",
        Just("a".repeat(65_536)),
    ]
}
