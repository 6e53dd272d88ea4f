//! Virtual networks: a unit for each, files for systemd-networkd, and what guests need to know of them.

use std::collections::BTreeMap;
use std::path::Path;

use domain::{BridgeName, Fault, Faults, Network, NetworkName, Severity, definition_text};

use crate::facts::Facts;
use crate::output::Unit;
use crate::scan::{self, Defined, Listing, State};
use crate::{Generator, autostart, drop_in, networkd, read};

/// How the files of a network are called, below a directory of its own. Its unit's program knows the names.
const BRIDGE: &str = "bridge";
const NETDEV: &str = "bridge.netdev";
const NETWORK: &str = "bridge.network";
const SYSCTL: &str = "sysctl.conf";
const REFUSED: &str = "refused";

/// What a guest of a network needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Need {
    /// The unit that makes the bridge.
    Unit(Unit),
    /// A bridge that others make.
    Bridge(BridgeName),
}

/// The sound networks. One that is broken or masked has no entry: then the shim says what is wrong, with its place
/// in the guest's definition, where a unit that is required would only have the guest's start canceled.
#[derive(Debug, Default)]
pub(crate) struct Networks(BTreeMap<NetworkName, Need>);

impl Networks {
    /// Puts the networks that a guest names into what its unit waits for.
    pub(crate) fn place(&self, facts: &mut Facts) {
        for name in std::mem::take(&mut facts.networks) {
            let need = NetworkName::try_from(name.as_str()).ok().and_then(|name| self.0.get(&name));
            match need {
                Some(Need::Unit(unit)) => drop(facts.network_units.insert(unit.clone())),
                Some(Need::Bridge(bridge)) => {
                    facts.network_devices.insert(bridge.as_str().to_owned());
                }
                None => {}
            }
        }
    }
}

/// What a file turned out to be.
enum Found {
    /// Empty, which is a mask.
    Nothing,
    /// A network that can be made.
    Sound(Box<Network>),
    /// Another; these are the messages, one a line.
    Refused(String),
}

impl Generator<'_> {
    /// Writes all networks.
    pub(crate) fn networks(&mut self) -> Networks {
        let environment = self.environment;
        let mut listing: Listing<NetworkName> =
            scan::definitions(environment, &environment.networks, &mut self.log);
        let mut networks = Networks::default();
        let mut bridges = BTreeMap::new();
        for (name, state) in &mut listing {
            let State::DefinedIn(directory) = *state else {
                *state = self.masked(name);
                continue;
            };
            let directory = &environment.networks.directories()[directory];
            let file = directory.join(format!("{name}.xml"));
            match self.read_network(name, &file) {
                Found::Nothing => *state = self.masked(name),
                Found::Sound(network) => {
                    let need = match twin(&network, &mut bridges) {
                        None => self.sound(&network, &file),
                        // Only the unit knows: without it a guest would stand on the other one's bridge.
                        Some(fault) => {
                            let message = self.log.fault(&file, &fault);
                            self.refused(name, &file, &format!("{message}\n"));
                            Need::Unit(name.unit())
                        }
                    };
                    networks.0.insert(name.clone(), need);
                }
                Found::Refused(messages) => self.refused(name, &file, &messages),
            }
        }
        let autostart = autostart::entries(environment, &environment.networks, &mut self.log);
        self.start_at_boot(&listing, autostart);
        networks
    }

    fn read_network(&mut self, name: &NetworkName, file: &Path) -> Found {
        let bytes = match read::definition(self.environment, file, &mut self.buffer) {
            Ok([]) => return Found::Nothing,
            Ok(bytes) => bytes,
            Err(error) => {
                let what =
                    format!("{error}; the network does not start until the file can be read");
                return Found::Refused(format!("{}\n", self.log.error(file, &what)));
            }
        };
        let faults = Faults::new();
        let network = match definition_text(bytes) {
            Ok(text) => Network::parse(text, name, &faults),
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        let mut refused = String::new();
        for fault in faults.into_sorted() {
            match fault.severity {
                Severity::Refused => {
                    refused.push_str(&format!("{}\n", self.log.fault(file, &fault)));
                }
                Severity::Ignored | Severity::Unit => self.log.left_out(file, &fault),
            }
        }
        match network {
            Some(network) if refused.is_empty() => Found::Sound(Box::new(network)),
            Some(_) | None => Found::Refused(refused),
        }
    }

    /// Writes the unit of a network, which fails with these messages.
    fn refused(&mut self, name: &NetworkName, file: &Path, messages: &str) {
        let text = drop_in::of_network(name, file, None, None, self.environment.surroundings());
        self.output.drop_in(&name.unit(), &text, &mut self.log);
        self.output.network_file(name, REFUSED, messages, &mut self.log);
    }

    /// Writes the unit of a network and its files.
    fn sound(&mut self, network: &Network, file: &Path) -> Need {
        let (name, bridge) = (&network.name, network.bridge_name());
        let others = (!network.has_own_bridge()).then_some(&bridge);
        let surroundings = self.environment.surroundings();
        let text = drop_in::of_network(name, file, network.title.as_deref(), others, surroundings);
        self.output.drop_in(&name.unit(), &text, &mut self.log);
        let mut write = |file, text: &str| {
            self.output.network_file(name, file, text, &mut self.log);
        };
        write(BRIDGE, &format!("{bridge}\n"));
        if !network.has_own_bridge() {
            return Need::Bridge(bridge);
        }
        write(NETDEV, &networkd::netdev(network, &bridge));
        write(NETWORK, &networkd::network(network, &bridge));
        if let Some(settings) = networkd::sysctl(network) {
            write(SYSCTL, &settings);
        }
        Need::Unit(name.unit())
    }
}

/// The bridges that networks make, and whose they are.
type Bridges = BTreeMap<BridgeName, NetworkName>;

/// The fault of a network whose bridge is another one's.
fn twin(network: &Network, bridges: &mut Bridges) -> Option<Fault> {
    if !network.has_own_bridge() {
        return None;
    }
    let bridge = network.bridge_name();
    if let Some(first) = bridges.get(&bridge) {
        let what =
            format!("the bridge '{bridge}' is that of the network '{first}', too; name another");
        return Some(network.place.refused(what));
    }
    bridges.insert(bridge, network.name.clone());
    None
}
