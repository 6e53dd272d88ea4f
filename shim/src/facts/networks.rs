//! The networks that a domain's interfaces name, as far as a guest needs them: their bridges.
//!
//! Whether a bridge is there yet does not matter here: the guest's unit requires the one that makes it.

use std::collections::BTreeMap;

use domain::devices::InterfaceSource;
use domain::{Domain, Fault, Faults, Network, NetworkName, SearchPath, Severity, definition_text};
use qemu::VirtualNetwork;

use crate::definition;

/// Each network that the domain names, or why it cannot be used; one that is not defined is left out.
pub(super) fn named(domain: &Domain) -> BTreeMap<String, Result<VirtualNetwork, String>> {
    let sources = domain.devices.interfaces.iter().map(|interface| &interface.source);
    let names = sources.filter_map(|source| match source {
        InterfaceSource::Network { network, .. } => Some(network),
        InterfaceSource::User { .. }
        | InterfaceSource::Ethernet(_)
        | InterfaceSource::VhostUser { .. }
        | InterfaceSource::Server(_)
        | InterfaceSource::Client(_)
        | InterfaceSource::Mcast(_)
        | InterfaceSource::Udp(..)
        | InterfaceSource::Bridge(_)
        | InterfaceSource::Internal(_)
        | InterfaceSource::Direct { .. }
        | InterfaceSource::Hostdev { .. }
        | InterfaceSource::Vdpa(_)
        | InterfaceSource::Vds
        | InterfaceSource::Null => None,
    });
    let search = SearchPath::networks();
    names.filter_map(|name| Some((name.clone(), network(name, &search).transpose()?))).collect()
}

fn network(name: &str, search: &SearchPath) -> Result<Option<VirtualNetwork>, String> {
    let name = NetworkName::try_from(name).map_err(|error| error.to_string())?;
    let found = definition::found(&format!("{name}.xml"), search.directories());
    let found = found.map_err(|error| error.to_string())?;
    let Some((path, bytes)) = found else { return Ok(None) };
    let file = path.display().to_string();
    if bytes.is_empty() {
        return Err(format!("{file}: it is masked; remove the file to unmask it"));
    }
    read(&bytes, &name).map(Some).map_err(|fault| fault.in_file(&file))
}

/// What a definition comes to, or the first thing wrong with it. All others are the network's own unit's to tell.
fn read(bytes: &[u8], name: &NetworkName) -> Result<VirtualNetwork, Fault> {
    let faults = Faults::new();
    let network = Network::parse(definition_text(bytes)?, name, &faults);
    let mut refused =
        faults.into_sorted().into_iter().filter(|fault| fault.severity == Severity::Refused);
    match (refused.next(), network) {
        (None, Some(network)) => {
            Ok(VirtualNetwork { bridge: network.bridge_name().to_string(), mtu: network.mtu })
        }
        (fault, _) => Err(fault.expect("what is no network has a fault")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_named(text: &str) -> Result<VirtualNetwork, String> {
        let name = NetworkName::try_from("lan").unwrap();
        read(text.as_bytes(), &name).map_err(|fault| fault.in_file("lan.xml"))
    }

    #[test]
    fn a_network_is_its_bridge() {
        let named = "<network><name>lan</name><bridge name='virbr7'/><mtu size='9000'/></network>";
        let network = VirtualNetwork { bridge: "virbr7".to_owned(), mtu: Some(9000) };
        assert_eq!(read_named(named), Ok(network));
        let unnamed = read_named("<network><name>lan</name><surprise/></network>").unwrap();
        assert_eq!(unnamed, VirtualNetwork { bridge: "virbr-lan".to_owned(), mtu: None });
    }

    #[test]
    fn the_first_refusal_is_told() {
        let message = "lan.xml:1:10: /network/name: the name is 'a' but the file is 'lan.xml'; rename the file or \
                       change the name";
        let text = "<network><name>a</name><vlan/></network>";
        assert_eq!(read_named(text), Err(message.to_owned()));
        assert!(read_named("<network").is_err());
        assert!(read_named("<network/>").is_err());
    }
}
