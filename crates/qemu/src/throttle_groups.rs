//! Limits that several disks share: `-object throttle-group`.

use domain::BlockLimit;

use crate::command::Command;
use crate::json::Object;

/// QEMU's names of the limits; see `ThrottleLimits` in its QMP reference.
const LIMITS: [(BlockLimit, &str); 13] = [
    (BlockLimit::TotalBytes, "bps-total"),
    (BlockLimit::ReadBytes, "bps-read"),
    (BlockLimit::WriteBytes, "bps-write"),
    (BlockLimit::TotalIops, "iops-total"),
    (BlockLimit::ReadIops, "iops-read"),
    (BlockLimit::WriteIops, "iops-write"),
    (BlockLimit::TotalBytesMax, "bps-total-max"),
    (BlockLimit::ReadBytesMax, "bps-read-max"),
    (BlockLimit::WriteBytesMax, "bps-write-max"),
    (BlockLimit::TotalIopsMax, "iops-total-max"),
    (BlockLimit::ReadIopsMax, "iops-read-max"),
    (BlockLimit::WriteIopsMax, "iops-write-max"),
    (BlockLimit::IopsSize, "iops-size"),
];

/// The limits that QEMU does not take as 0.
const LENGTHS: [(BlockLimit, &str); 6] = [
    (BlockLimit::TotalBytesMaxLength, "bps-total-max-length"),
    (BlockLimit::ReadBytesMaxLength, "bps-read-max-length"),
    (BlockLimit::WriteBytesMaxLength, "bps-write-max-length"),
    (BlockLimit::TotalIopsMaxLength, "iops-total-max-length"),
    (BlockLimit::ReadIopsMaxLength, "iops-read-max-length"),
    (BlockLimit::WriteIopsMaxLength, "iops-write-max-length"),
];

/// Adds an object for each group.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let groups = command.domain.throttle_groups.iter().flat_map(|groups| &groups.groups);
    for group in groups {
        let name = group.group.as_deref().unwrap_or_default();
        let limits = LIMITS
            .iter()
            .fold(Object::default(), |limits, (limit, key)| limits.set(*key, group.get(*limit)));
        let limits = LENGTHS.iter().fold(limits, |limits, (limit, key)| {
            limits.some(key, Some(group.get(*limit)).filter(|seconds| *seconds > 0))
        });
        let object =
            Object::new("qom-type", "throttle-group").set("id", format!("throttle-{name}"));
        command.object(&object.set("limits", limits));
    }
}
