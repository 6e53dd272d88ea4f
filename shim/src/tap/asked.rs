//! What an interface asks of its host's side beyond a device: what the shim does not do, and what a guest can do
//! without.

use domain::Fault;
use domain::devices::{Bandwidth, DirectMode, Interface, InterfaceSource};

/// What an interface asks of its host's side that is not done; without it the guest does not start.
pub(crate) fn not_done(interface: &Interface) -> Vec<Fault> {
    let host_ip = |source: &InterfaceSource| {
        let InterfaceSource::Ethernet(ip) = source else { return false };
        !ip.addresses.is_empty() || !ip.routes.is_empty()
    };
    let passthrough = |source: &InterfaceSource| {
        let InterfaceSource::Direct { mode, .. } = source else { return false };
        *mode == Some(DirectMode::Passthrough)
    };
    let grouped = |source: &InterfaceSource| {
        matches!(source, InterfaceSource::Network { portgroup: Some(_), .. })
    };
    let reasons = [
        (grouped(&interface.source), "'portgroup' is"),
        (!interface.vlan.tags.is_empty(), "<vlan> is"),
        (interface.virtual_port.is_some(), "<virtualport> is"),
        (interface.filter.is_some(), "<filterref> is"),
        (interface.isolated == Some(true), "<port isolated='yes'/> is"),
        (interface.script.is_some() || interface.downscript.is_some(), "a script is"),
        (host_ip(&interface.source), "an <ip> of the host's side is"),
        (passthrough(&interface.source), "mode='passthrough' is"),
    ];
    let wanted = reasons.iter().filter(|(wanted, _)| *wanted);
    let refused = |what: &str| {
        interface.place.refused(format!("{what} not supported yet by glassbox; {ADVICE}"))
    };
    wanted.map(|(_, what)| refused(what)).collect()
}

const ADVICE: &str = "remove it, or pass a tap device that has it as a file descriptor";

/// What an interface asks of its host's side that the guest does without.
pub(crate) fn left_out(interface: &Interface) -> Vec<Fault> {
    let limited = interface.bandwidth != Bandwidth::default();
    let reasons = [
        (limited, "bandwidth", "limits are not set by glassbox; use tc or systemd.network(5)"),
        (
            interface.coalesced_frames.is_some(),
            "coalesce",
            "coalescing is not set by glassbox; use ethtool",
        ),
        (
            interface.trust_guest_rx_filters == Some(true),
            "",
            "the guest's filters are not followed; remove 'trustGuestRxFilters'",
        ),
    ];
    let wanted = reasons.iter().filter(|(wanted, ..)| *wanted);
    let ignored = |child: &str, what: &str| {
        let place = &interface.place;
        let path = format!("{}/{child}", place.path);
        Fault::ignored(place.position, path.trim_end_matches('/'), what)
    };
    wanted.map(|(_, child, what)| ignored(child, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bridged, interface};
    use super::*;

    #[test]
    fn what_is_not_done_is_told() {
        let lines = |faults: Vec<Fault>| -> Vec<String> {
            faults.iter().map(|fault| fault.in_file("a.xml")).collect()
        };
        let refused = [
            ("<vlan><tag id='4'/></vlan>", "<vlan> is"),
            ("<virtualport type='openvswitch'/>", "<virtualport> is"),
            ("<filterref filter='clean-traffic'/>", "<filterref> is"),
            ("<port isolated='yes'/>", "<port isolated='yes'/> is"),
        ];
        for (inner, what) in refused {
            let line = format!(
                "a.xml:2:23: /domain/devices/interface: {what} not supported yet by glassbox; remove it, or pass a \
                 tap device that has it as a file descriptor"
            );
            assert_eq!(lines(not_done(&bridged(inner))), [line]);
        }
        let grouped = "<interface type='network'><source network='a' portgroup='b'/></interface>";
        assert_eq!(not_done(&interface(grouped)).len(), 1);
        let direct = "<interface type='direct'><source dev='eth0' mode='passthrough'/></interface>";
        assert_eq!(not_done(&interface(direct)).len(), 1);
        let scripted = "<interface type='ethernet'><script path='/a'/><source><ip address='10.0.0.1'/></source></interface>";
        assert_eq!(not_done(&interface(scripted)).len(), 2);
        let limited = bridged(
            "<bandwidth><inbound average='1'/></bandwidth><coalesce><rx><frames max='7'/></rx></coalesce>",
        );
        assert_eq!(not_done(&limited), []);
        let expected = [
            "a.xml:2:23: /domain/devices/interface/bandwidth: limits are not set by glassbox; use tc or \
             systemd.network(5)",
            "a.xml:2:23: /domain/devices/interface/coalesce: coalescing is not set by glassbox; use ethtool",
        ];
        assert_eq!(lines(left_out(&limited)), expected);
        assert_eq!(left_out(&bridged("")), []);
    }
}
