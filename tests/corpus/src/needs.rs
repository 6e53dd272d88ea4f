//! What a plan needs that no test host has: devices of the host, servers, programs that answer.

/// What it is that is missing, told by what stands in an argument.
const NEEDS: [(&str, &[&str]); 9] = [
    (
        "a device of the host",
        &[
            "\"vfio-pci\"",
            "\"usb-host\"",
            "vhost-scsi",
            "vhost-vdpa",
            "\"evdev\":",
            "/dev/sg",
            "input-linux",
            "\"driver\":\"nvme\"",
            "parallel,id=",
            "tpm-passthrough",
            "passthrough,id=",
            "vhost-vsock",
        ],
    ),
    ("a GPU", &["egl-headless", "gl=on", "rendernode", "virtio-gpu-gl", "virtio-vga-gl"]),
    (
        "a sound server",
        &[
            "\"driver\":\"oss\"",
            "\"driver\":\"pa\"",
            "\"driver\":\"pipewire\"",
            "\"driver\":\"jack\"",
            "\"driver\":\"coreaudio\"",
            "\"driver\":\"alsa\"",
        ],
    ),
    (
        "a server of storage",
        &[
            "\"driver\":\"iscsi\"",
            "\"driver\":\"rbd\"",
            "\"driver\":\"http\"",
            "\"driver\":\"https\"",
            "\"driver\":\"ftp\"",
            "\"driver\":\"ftps\"",
            "\"driver\":\"tftp\"",
            "\"driver\":\"ssh\"",
            "\"driver\":\"gluster\"",
            "\"driver\":\"nfs\"",
            "\"driver\":\"vxhs\"",
        ],
    ),
    (NO_PC, &["if=sd,"]),
    ("KVM", &["hv-vpindex", "hv-synic", "kernel_irqchip=split", "sev-guest", "sev-snp-guest"]),
    ("vhost-net", &["\"vhost\":true"]),
    ("cards in the host's database of certificates", &["ccid-card-emulated"]),
    ("a program that answers", &ANSWERS),
];

/// Buses and controllers of other boards.
const NO_PC: &str = "a machine that is no PC";

/// Devices for which QEMU waits until another program has answered.
const ANSWERS: [&str; 5] =
    ["vhost-user-blk", "vhost-user-gpu", "\"vhost-user\"", "vhost-user-scsi", "ivshmem-doorbell"];

/// What the arguments need that is missing.
#[must_use]
pub fn missing(arguments: &[String]) -> Option<&'static str> {
    NEEDS.iter().find(|(_, words)| has(arguments, words)).map(|(need, _)| *need)
}

/// Whether QEMU would wait for another program's answer.
#[must_use]
pub fn waits(arguments: &[String]) -> bool {
    has(arguments, &ANSWERS)
}

/// What is missing of a definition that is not even planned, told by the words of the refusal.
#[must_use]
pub fn missing_by_words(words: &str) -> Option<&'static str> {
    const REFUSALS: [(&str, &str); 5] = [
        ("has no AMD SEV", "AMD SEV"),
        ("is inherited", "descriptors that its caller opens"),
        ("need nbdkit", "a server of storage"),
        ("vhost-vsock", "a device of the host"),
        ("no supported guest has this SCSI controller", NO_PC),
    ];
    REFUSALS.iter().find(|(told, _)| words.contains(told)).map(|(_, need)| *need)
}

fn has(arguments: &[String], words: &[&str]) -> bool {
    words.iter().any(|word| arguments.iter().any(|argument| argument.contains(word)))
}
