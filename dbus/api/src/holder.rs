//! Who holds a claim: a process and the unit that it lives in, in the words that shim and daemon have in common.

use std::fmt;

use domain::{DomainName, UnitInstance};

/// The process that holds a name or UUID, as a refusal names it: `pid 42 (qemu@web.service)`.
///
/// ```
/// let holder = dbus_api::Holder { pid: 42, unit: Some("qemu@web.service") };
/// assert_eq!(holder.to_string(), "pid 42 (qemu@web.service)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// Its process id.
    pub pid: u32,
    /// The innermost unit that it lives in.
    pub unit: Option<&'a str>,
}

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        match self.unit {
            Some(unit) => write!(f, " ({unit})"),
            None => Ok(()),
        }
    }
}

/// The units that a process lives in, read from the text of `/proc/PID/cgroup` (cgroups(7)); both are the same but for the units of a user's own manager.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// The innermost service or scope: `qemu@web.service`.
    pub unit: Option<String>,
    /// The outermost one, which the system's manager knows: `user@1000.service` for a user's own service.
    pub system_unit: Option<String>,
}

impl Placement {
    /// Reads the text of `/proc/PID/cgroup`.
    ///
    /// The hierarchy `name=systemd` of cgroup v1 counts when it has units, otherwise the unified one (`0::`): in a
    /// container the former may be the host's, whose systemd is another and knows no unit in there.
    /// Names stay escaped, as systemctl prints them.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let in_hierarchy = |hierarchy: &str| {
            text.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                (controllers == hierarchy).then(|| Self::at(path))
            })
        };
        let by_systemd = in_hierarchy("name=systemd").filter(|found| found.unit.is_some());
        by_systemd.or_else(|| in_hierarchy("")).unwrap_or_default()
    }

    /// Whether stopping the unit would end more than what was started in it: pam_systemd(8), user@.service(5), and the
    /// service manager's own scope (systemd.special(7)).
    #[must_use]
    pub fn is_shared(unit: &str) -> bool {
        unit == "init.scope"
            || (unit.starts_with("session-") && unit.ends_with(".scope"))
            || (unit.starts_with("user@") && unit.ends_with(".service"))
    }

    /// What is between `qemu@` and `.service` in the name of a unit; none for another unit.
    #[must_use]
    pub fn instance(unit: &str) -> Option<&str> {
        unit.strip_prefix("qemu@")?.strip_suffix(".service")
    }

    /// The guest whose own unit this is, whatever way its name is written; none for another unit.
    #[must_use]
    pub fn guest_of(unit: &str) -> Option<DomainName> {
        UnitInstance::try_from(Self::instance(unit)?).ok()?.domain_name().ok()
    }

    /// The units in the path of a control group.
    fn at(path: &str) -> Self {
        let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
        Self {
            unit: path.rsplit('/').find(is_unit).map(str::to_owned),
            system_unit: path.split('/').find(is_unit).map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_last_service_or_scope() {
        for (text, unit, system_unit) in [
            ("0::/system.slice/qemu@web.service\n", "qemu@web.service", "qemu@web.service"),
            (
                "0::/system.slice/system-qemu.slice/qemu@a\\x20b.service/sub\n",
                "qemu@a\\x20b.service",
                "qemu@a\\x20b.service",
            ),
            (
                "12:cpu:/x.service\n1:name=systemd:/user.slice/user-0.slice/session-3.scope\n0::/y.service\n",
                "session-3.scope",
                "session-3.scope",
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/qemu@web.service\n",
                "qemu@web.service",
                "user@1000.service",
            ),
            ("0::/init.scope\n", "init.scope", "init.scope"),
            ("1:name=systemd:/\n0::/qemu@web.service\n", "qemu@web.service", "qemu@web.service"),
        ] {
            let expected = Placement {
                unit: Some(unit.to_owned()),
                system_unit: Some(system_unit.to_owned()),
            };
            assert_eq!(Placement::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_guest_s_unit_has_the_guest_s_name() {
        let guest = |unit| Placement::guest_of(unit).map(|name| name.to_string());
        for unit in ["qemu@web-1.service", "qemu@web\\x2d1.service"] {
            assert_eq!(guest(unit).as_deref(), Some("web-1"), "{unit}");
        }
        assert_eq!(guest("qemu@worker@3.service").as_deref(), Some("worker@3"));
        for other in ["qemu@.service", "qemu@web.scope", "swtpm@web:tpm0.service", "run-r1.scope"] {
            assert_eq!(guest(other), None, "{other}");
        }
    }

    #[test]
    fn a_process_may_live_in_no_unit() {
        for text in ["", "0::/\n", "0::/kubepods/pod1\n", "1:cpu:/x.service\n", "nonsense\n"] {
            assert_eq!(Placement::parse(text), Placement::default(), "{text}");
        }
    }
}
