//! The text of drop-ins, of a guest's and of a network's.

use std::path::Path;

use domain::{BridgeName, DomainName, NetworkName, UnitInstance};

use crate::directive::{self, Directive};
use crate::environment::Scope;
use crate::facts::Facts;
use crate::value::UnitValue;
use crate::{resources, sandbox};

/// Which units there are for a drop-in to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Devices have units, for udev runs.
    pub(crate) devices: bool,
    /// Whose manager reads the drop-in.
    pub(crate) scope: Scope,
}

/// The drop-in of the guest `name`, defined in the file `source`.
///
/// It has no `ExecStart=`: the template's program looks for the definition itself, so that a start always
/// uses the file as it is then. `SourcePath=` lets systemctl(1) say that the file changed since.
pub(crate) fn text(
    name: &DomainName,
    source: &Path,
    facts: &Facts,
    surroundings: Surroundings,
) -> String {
    let mut unit: Vec<Directive> = Vec::new();
    unit.extend(UnitValue::path(source).map(|source| Directive::new("SourcePath", source)));
    let title = facts.title.as_deref();
    unit.push(Directive::new("Description", description("machine", name.as_str(), title)));
    // One line a file: the directive adds up, and a line that systemd should refuse takes no other with it.
    let files = facts.files.iter().filter_map(|file| UnitValue::path_word(Path::new(file)));
    unit.extend(files.map(|file| Directive::new("RequiresMountsFor", file)));
    unit.extend(remote_storage(facts, surroundings.scope));
    unit.extend(devices(facts, surroundings));
    unit.extend(networks(facts));
    unit.extend(network(facts, surroundings.scope));
    let instance = UnitInstance::from(name);
    let mut service = directories(&instance, surroundings.scope);
    if surroundings.scope == Scope::System {
        service.push(sandbox::account(&instance));
        service.extend(facts.sandbox.settings());
    }
    service.extend(resources::settings(&facts.resources, facts.mapping_devices));

    directive::file([("Unit", &unit[..]), ("Service", &service[..])])
}

/// The drop-in of the network `name`, defined in the file `source`; `bridge` is one that others make.
pub(crate) fn of_network(
    name: &NetworkName,
    source: &Path,
    title: Option<&str>,
    bridge: Option<&BridgeName>,
    surroundings: Surroundings,
) -> String {
    let mut unit: Vec<Directive> = Vec::new();
    unit.extend(UnitValue::path(source).map(|source| Directive::new("SourcePath", source)));
    unit.push(Directive::new("Description", description("network", name.as_str(), title)));
    if surroundings.devices {
        let device = bridge.and_then(|bridge| UnitValue::network_device(bridge.as_str()));
        unit.extend(device.into_iter().flat_map(bound));
    }
    directive::file([("Unit", &unit[..])])
}

/// What is mounted before the file systems of servers, so that no file below is on one.
const OF_THE_HOST: [&str; 3] = ["/dev", "/run", "/usr"];

/// A guest with disks that may be a server's is stopped before the host lets go of its servers. Where a path leads
/// cannot be seen now, for at boot the generator runs before anything is mounted: `RequiresMountsFor=` goes by the
/// names in a path and not by symbolic links, and a block device may be one of iSCSI, whose units log in before this
/// target and out after it. On a host without such storage nothing waits.
fn remote_storage(facts: &Facts, scope: Scope) -> Option<Directive> {
    let of_host = |file: &Path| OF_THE_HOST.iter().any(|folder| file.starts_with(folder));
    let mut files = facts.files.iter().map(Path::new);
    let anywhere = files.any(|file| file.is_absolute() && !of_host(file));
    match scope {
        Scope::System if anywhere || !facts.block_devices.is_empty() => {
            Some(Directive::new("After", UnitValue::word("remote-fs.target")))
        }
        // A user's manager has no such target.
        Scope::System | Scope::User => None,
    }
}

/// The guest starts after the devices that it stands on and is stopped when they go away.
///
/// A unit that is bound to a device waits for it, for a minute and a half unless told otherwise, so without udev,
/// as in a container, nothing is bound: there the shim says at once what is missing.
fn devices(facts: &Facts, surroundings: Surroundings) -> Vec<Directive> {
    if !surroundings.devices {
        return Vec::new();
    }
    let block = facts.block_devices.iter().filter_map(|path| UnitValue::device(Path::new(path)));
    let network = facts.network_devices.iter().filter_map(|name| UnitValue::network_device(name));
    block.chain(network).flat_map(bound).collect()
}

fn bound(unit: UnitValue) -> [Directive; 2] {
    [Directive::new("BindsTo", unit.clone()), Directive::new("After", unit)]
}

/// The guest starts its networks, and is stopped before they are.
fn networks(facts: &Facts) -> impl Iterator<Item = Directive> {
    facts.network_units.iter().flat_map(|unit| {
        let unit = UnitValue::unit(unit);
        [Directive::new("Requires", unit.clone()), Directive::new("After", unit)]
    })
}

/// Disks on servers need the network up, and not only the network's programs. A user's manager has no such target.
fn network(facts: &Facts, scope: Scope) -> Vec<Directive> {
    let target = UnitValue::word("network-online.target");
    match scope {
        Scope::System if facts.network => {
            vec![Directive::new("Wants", target.clone()), Directive::new("After", target)]
        }
        Scope::System | Scope::User => Vec::new(),
    }
}

/// The guest's directories, when their name is not what the template's `%i` gives. The template of a user's manager
/// names only one of them so.
fn directories(instance: &UnitInstance, scope: Scope) -> Vec<Directive> {
    let directory = instance.directory();
    if directory == instance.as_str() {
        return Vec::new();
    }
    let all = [
        ("RuntimeDirectory", "RuntimeDirectoryMode"),
        ("StateDirectory", "StateDirectoryMode"),
        ("CacheDirectory", "CacheDirectoryMode"),
    ];
    let own = match scope {
        Scope::System => &all[..],
        Scope::User => &all[..1],
    };
    // The empty assignment takes back the template's, and its mode too in some versions.
    let settings = |(key, mode)| {
        [
            Directive::new(key, UnitValue::word("")),
            Directive::new(key, UnitValue::guest_directory(instance)),
            Directive::new(mode, UnitValue::word("0700")),
        ]
    };
    own.iter().copied().flat_map(settings).collect()
}

fn description(what: &str, name: &str, title: Option<&str>) -> UnitValue {
    match title.map(str::trim) {
        None | Some("") => UnitValue::text(&format!("Virtual {what} {name}")),
        Some(title) => UnitValue::text(&format!("Virtual {what} {name} ({title})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Unit;
    use domain::Resources;
    use proptest::prelude::*;

    const SYSTEM: Surroundings = Surroundings { devices: true, scope: Scope::System };

    #[test]
    fn a_drop_in_is_three_kinds_of_lines() {
        let facts = Facts {
            title: Some("The shop".to_owned()),
            files: ["", "/images/web.qcow2", "relative"].map(str::to_owned).into(),
            ..Facts::default()
        };
        let name = DomainName::try_from("web").unwrap();
        assert_eq!(
            text(&name, Path::new("/etc/glassbox/qemu/web.xml"), &facts, SYSTEM),
            "# Automatically generated by glassbox-generator\n\n[Unit]\n\
             SourcePath=/etc/glassbox/qemu/web.xml\n\
             Description=Virtual machine web (The shop)\n\
             RequiresMountsFor=/images/web.qcow2\n\
             After=remote-fs.target\n\n[Service]\nUser=glassbox-web\n"
        );
    }

    /// The lines of `[Unit]` after the description.
    fn ordering(facts: &Facts, surroundings: Surroundings) -> Vec<String> {
        let name = DomainName::try_from("web").unwrap();
        let text = text(&name, Path::new("/web.xml"), facts, surroundings);
        let unit = text.split("\n\n[Service]").next().unwrap();
        unit.lines().skip(5).map(str::to_owned).collect()
    }

    #[test]
    fn a_guest_needs_its_networks() {
        let lan = Unit::of_network(&"my lan".parse().unwrap());
        let facts = Facts { network_units: [lan].into(), ..Facts::default() };
        let unit = "glassbox-network@my\\x20lan.service";
        assert_eq!(ordering(&facts, SYSTEM), [format!("Requires={unit}"), format!("After={unit}")]);
    }

    #[test]
    fn a_guest_is_bound_to_its_devices_where_devices_have_units() {
        let facts = Facts {
            block_devices: ["/dev/vg/a-b", "relative"].map(str::to_owned).into(),
            network_devices: ["br0".to_owned()].into(),
            network: true,
            ..Facts::default()
        };
        let network = ["Wants=network-online.target", "After=network-online.target"];
        let devices = [
            "BindsTo=dev-vg-a\\x2db.device",
            "After=dev-vg-a\\x2db.device",
            "BindsTo=sys-subsystem-net-devices-br0.device",
            "After=sys-subsystem-net-devices-br0.device",
        ];
        let remote = ["After=remote-fs.target"];
        assert_eq!(ordering(&facts, SYSTEM), [&remote[..], &devices, &network].concat());
        let container = Surroundings { devices: false, ..SYSTEM };
        assert_eq!(ordering(&facts, container), [&remote[..], &network].concat());
        let user = Surroundings { scope: Scope::User, ..container };
        assert_eq!(ordering(&facts, user), [""; 0]);
    }

    #[test]
    fn a_guest_stops_before_the_file_systems_of_servers() {
        let after = ["After=remote-fs.target"];
        let user = Surroundings { devices: false, scope: Scope::User };
        for (file, surroundings, expected) in [
            ("/srv/web.qcow2", SYSTEM, &after[..]),
            ("/usrlocal/web.qcow2", SYSTEM, &after),
            ("/srv/web.qcow2", user, &[]),
            ("/usr/share/OVMF/OVMF_CODE.fd", SYSTEM, &[]),
            ("/dev/hugepages", SYSTEM, &[]),
            ("relative", SYSTEM, &[]),
        ] {
            let facts = Facts { files: [file.to_owned()].into(), ..Facts::default() };
            let lines = ordering(&facts, surroundings);
            let orders: Vec<&String> =
                lines.iter().filter(|line| !line.starts_with("RequiresMountsFor=")).collect();
            assert_eq!(orders, expected, "{file}");
        }
    }

    #[test]
    fn a_guest_with_an_escaped_name_has_a_directory_without_backslash() {
        let name = DomainName::try_from("my vm:1").unwrap();
        let source = Path::new("/etc/glassbox/qemu/my vm:1.xml");
        let text = text(&name, source, &Facts::default(), SYSTEM);
        let service = text.split_once("\n\n[Service]\n").unwrap().1;
        assert_eq!(
            service,
            "RuntimeDirectory=\nRuntimeDirectory=glassbox/guest/my=20vm=3a1\nRuntimeDirectoryMode=0700\n\
             StateDirectory=\nStateDirectory=glassbox/guest/my=20vm=3a1\nStateDirectoryMode=0700\n\
             CacheDirectory=\nCacheDirectory=glassbox/guest/my=20vm=3a1\nCacheDirectoryMode=0700\n\
             User=glassbox-ea4624bd173cd8e9\n"
        );
    }

    /// The lines of a unit file as systemd joins them: one that ends in an odd backslash takes the next with it.
    fn joined_lines(text: &str) -> Vec<String> {
        let mut lines = vec![];
        let mut open = String::new();
        for line in text.split('\n') {
            open.push_str(line);
            let mut escaped = false;
            for character in line.chars() {
                escaped = !escaped && character == '\\';
            }
            if !escaped {
                lines.push(std::mem::take(&mut open));
            }
        }
        assert_eq!(open, "");
        lines
    }

    proptest! {
        #[test]
        fn nothing_in_a_definition_adds_a_directive(
            name in "[^/\\p{Cc}]{1,20}",
            title in prop_oneof![any::<String>(), "(\\\\|\n|\\[Service\\]|ExecStart=/|%n| ){0,12}"],
            files in prop::collection::btree_set(
                prop_oneof![any::<String>(), "/[ -~\n]{0,20}", "/(\\\\|\n|\"|'|%|ExecStart=/| ){0,8}"], 0..4),
            directory in prop_oneof![any::<String>(), "/[ -~\n]{0,20}"],
        ) {
            let Ok(name) = DomainName::try_from(name.as_str()) else { return Ok(()) };
            let source = format!("{directory}/{name}.xml");
            let facts = Facts {
                title: Some(title),
                resources: Resources { partition: files.first().cloned(), ..Resources::default() },
                block_devices: files.clone(),
                network_devices: files.clone(),
                files,
                ..Facts::default()
            };
            let text = text(&name, Path::new(&source), &facts, SYSTEM);
            let lines = joined_lines(&text);
            prop_assert_eq!(&lines[..3], ["# Automatically generated by glassbox-generator", "", "[Unit]"]);
            let known = ["", "[Service]", "SourcePath", "Description", "RequiresMountsFor", "BindsTo", "After",
                "RuntimeDirectory", "RuntimeDirectoryMode", "StateDirectory", "StateDirectoryMode",
                "CacheDirectory", "CacheDirectoryMode", "User", "Slice"];
            let key = |line: &str| line.split_once('=').map_or(line, |(key, _)| key).to_owned();
            let keys: Vec<String> = lines[3..].iter().map(|line| key(line)).collect();
            for key in &keys {
                prop_assert!(known.contains(&key.as_str()), "{}", key);
            }
            for (once, most) in [("[Service]", 1), ("Description", 1), ("SourcePath", 1), ("Slice", 1), ("User", 1)] {
                prop_assert!(keys.iter().filter(|key| *key == once).count() <= most, "{}", once);
            }
            prop_assert!(!text.contains(|c: char| c != '\n' && c.is_control()));
        }
    }
}
