//! Guests that are a boot sector: they live in no time, and do one thing.

use anyhow::Result;
use tests::{Host, definition};

/// Where their files are in the container.
pub(crate) const FOLDER: &str = "/tmp/guests";

/// What a guest does. All say `R` on their serial port when the firmware has handed over to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sector {
    /// Nothing, and it hears of no button.
    Idles,
    /// Shuts down at once.
    ShutsDown,
    /// Shuts down when its power button is pressed.
    ObeysButton,
    /// Shuts down three to four seconds after its power button is pressed.
    ObeysLate,
    /// Uses all the time of its processor.
    Spins,
    /// Reads from its disk for ever, 32 KiB at a time.
    Reads,
    /// Writes to its disk for ever, 32 KiB at a time.
    Writes,
    /// Tells its `<panic>` device that it crashed.
    Panics,
    /// Resets the machine.
    Resets,
}

/// Port 0x3f8, the first serial port.
const SAY_READY: &[u8] = &[0xba, 0xf8, 0x03, 0xb0, b'R', 0xee]; // mov dx, 3f8; mov al, 'R'; out dx, al
const HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd]; // cli; hlt; jmp -3
/// ACPI's PM1 registers of both machine types are at 0x600: the status, 2 on what is enabled, 4 on the control.
const POWER_BUTTON: &[u8] = &[
    0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // mov dx, 602; mov ax, 100; out dx, ax
    0xba, 0xf8, 0x03, 0xb0, b'B', 0xee, // say that the button is seen from now on
    0xba, 0x00, 0x06, 0xed, // mov dx, 600; in ax, dx
    0xf6, 0xc4, 0x01, 0x74, 0xfa, // test ah, 1; jz to the in
];
const SOFT_OFF: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef]; // mov dx, 604; mov ax, 2000; out dx, ax
/// The seconds of the real-time clock change four times. Ports 0x70 and 0x71 choose and read its registers.
const FOUR_SECONDS: &[u8] = &[
    0xb9, 0x04, 0x00, // mov cx, 4
    0xb0, 0x00, 0xe6, 0x70, 0xe4, 0x71, // mov al, 0; out 70, al; in al, 71
    0x88, 0xc3, // mov bl, al
    0xb0, 0x00, 0xe6, 0x70, 0xe4, 0x71, // mov al, 0; out 70, al; in al, 71
    0x38, 0xd8, 0x74, 0xf6, // cmp al, bl; je to the last mov
    0xe2, 0xec, // loop to the first mov al
];
const SPIN: &[u8] = &[0xeb, 0xfe]; // jmp -2
/// The firmware's extended read of the boot disk over and over, by the packet at 7c00 plus 20.
const READ: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x20, 0x7c, // xor ax, ax; mov ds, ax; mov si, 7c20
    0xb4, 0x42, 0xb2, 0x80, 0xcd, 0x13, 0xeb,
    0xf8, // mov ah, 42; mov dl, 80; int 13; jmp to the mov ah
];
/// The same with the extended write.
const WRITE: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x20, 0x7c, // xor ax, ax; mov ds, ax; mov si, 7c20
    0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13, 0xeb,
    0xf7, // mov ax, 4300; mov dl, 80; int 13; jmp to the mov ax
];
/// Where [`READ`] and [`WRITE`] have their packet: 64 sectors from sector 64 on, and the memory at 1000:0.
const PACKET_AT: usize = 0x20;
const PACKET: [u8; 16] = [16, 0, 64, 0, 0, 0, 0x00, 0x10, 64, 0, 0, 0, 0, 0, 0, 0];
const PANIC: &[u8] = &[0xba, 0x05, 0x05, 0xb0, 0x01, 0xee]; // mov dx, 505; mov al, 1; out dx, al
const RESET: &[u8] = &[0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee]; // mov dx, cf9; mov al, 6; out dx, al

impl Sector {
    fn code(self) -> Vec<u8> {
        // Nobody serves interrupts.
        let head: &[u8] = &[0xfa];
        let parts: &[&[u8]] = match self {
            Self::Idles => &[head, SAY_READY, HALT],
            Self::ShutsDown => &[head, SAY_READY, SOFT_OFF, HALT],
            Self::ObeysButton => &[head, SAY_READY, POWER_BUTTON, SOFT_OFF, HALT],
            Self::ObeysLate => &[head, SAY_READY, POWER_BUTTON, FOUR_SECONDS, SOFT_OFF, HALT],
            Self::Spins => &[head, SAY_READY, SPIN],
            Self::Reads => &[head, SAY_READY, READ],
            Self::Writes => &[head, SAY_READY, WRITE],
            Self::Panics => &[head, SAY_READY, PANIC, HALT],
            Self::Resets => &[head, SAY_READY, RESET, HALT],
        };
        parts.concat()
    }

    /// A disk that begins with it.
    fn disk(self) -> Vec<u8> {
        let mut disk = self.code();
        disk.resize(1 << 20, 0);
        if matches!(self, Self::Reads | Self::Writes) {
            disk[PACKET_AT..][..PACKET.len()].copy_from_slice(&PACKET);
        }
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk
    }
}

/// Puts `NAME.xml` of such a guest and its disk into the container; its serial port is `NAME.out`.
pub(crate) fn install(host: &Host, name: &str, sector: Sector) -> Result<()> {
    host.write(&format!("{FOLDER}/{name}.img"), sector.disk(), "0644", "root:root")?;
    host.write_file(&format!("{FOLDER}/{name}.xml"), xml(name))
}

/// The definition of the guest.
pub(crate) fn xml(name: &str) -> String {
    xml_with(name, &format!("{FOLDER}/{name}.img"), &format!("{FOLDER}/{name}.out"))
}

/// Defines the guest for its unit, with its disk in this directory; its serial port is its [`Host::console`].
pub(crate) fn define(host: &Host, name: &str, sector: Sector, directory: &str) -> Result<()> {
    let disk = format!("{directory}/{name}.img");
    host.write(&disk, sector.disk(), "0644", "glassbox-qemu:glassbox-qemu")?;
    let xml = xml_with(name, &disk, &definition::log(name));
    host.write_file(&format!("{}/{name}.xml", definition::DEFINITIONS), xml)
}

fn xml_with(name: &str, disk: &str, serial: &str) -> String {
    format!(
        "<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file'>
      <driver name='qemu' type='raw'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <serial type='file'><source path='{serial}'/></serial>
    <panic model='isa'/>
    <memballoon model='none'/>
  </devices>
</domain>
"
    )
}
