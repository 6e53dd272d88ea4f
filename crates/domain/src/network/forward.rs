//! What guests of a network reach beyond it, `<forward>`.

use crate::reader::Reader;

crate::keywords! {
    /// The words of libvirt for what is reached.
    enum ForwardMode {
        /// Nothing.
        None = "none",
        /// What the host reaches, in its name.
        Nat = "nat",
        /// What the host reaches.
        Route = "route",
        /// What the host reaches, without libvirt's filter.
        Open = "open",
        /// What a bridge of the host reaches.
        Bridge = "bridge",
        /// A pool of host devices for macvtap.
        Private = "private",
        /// A pool of host devices for macvtap.
        Vepa = "vepa",
        /// A pool of host devices for macvtap.
        Passthrough = "passthrough",
        /// A pool of PCI functions.
        Hostdev = "hostdev",
    }
}

/// What guests of a network reach beyond one another and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Nothing.
    Isolated,
    /// What the host reaches, by the host's own address.
    Nat {
        /// Also for IPv6, whose addresses are routed otherwise.
        ipv6: bool,
    },
    /// What the host reaches, by their own addresses.
    Route,
    /// The same; libvirt's two words differ by its firewall, and there is none here.
    Open,
    /// What the ports of a bridge reach that is there already.
    Bridge,
}

impl Forward {
    pub(super) fn parse(network: &Reader<'_>) -> Self {
        let Some(reader) = network.child("forward") else { return Self::Isolated };
        let ipv6 = reader.child("nat").and_then(|nat| source_address(&nat));
        let mode = match reader.attribute("mode") {
            None => ForwardMode::Nat,
            Some(_) => reader.keyword("mode").unwrap_or(ForwardMode::None),
        };
        refuse_pools(&reader, mode);
        match mode {
            ForwardMode::Nat => Self::Nat { ipv6: ipv6 == Some(true) },
            ForwardMode::Route => Self::Route,
            ForwardMode::Open => Self::Open,
            ForwardMode::Bridge => Self::Bridge,
            ForwardMode::None
            | ForwardMode::Private
            | ForwardMode::Vepa
            | ForwardMode::Passthrough
            | ForwardMode::Hostdev => Self::Isolated,
        }
    }

    /// Whether the host passes packets on for the guests.
    #[must_use]
    pub fn is_routed(self) -> bool {
        match self {
            Self::Nat { .. } | Self::Route | Self::Open => true,
            Self::Isolated | Self::Bridge => false,
        }
    }
}

/// Whether IPv6 has the host's address too; which of the host's addresses and ports is not for networkd to say.
fn source_address(nat: &Reader<'_>) -> Option<bool> {
    for name in ["address", "port"] {
        for child in nat.children(name) {
            let _ = child.raw(); // It is refused whole.
            child.refuse("guests have the address and ports that the kernel chooses; remove it");
        }
    }
    nat.yes_no("ipv6")
}

/// Devices of which guests get one each, or to which a forward is held.
fn refuse_pools(reader: &Reader<'_>, mode: ForwardMode) {
    match mode {
        ForwardMode::Private | ForwardMode::Vepa | ForwardMode::Passthrough => reader
            .refuse_attribute(
                "mode",
                "there are no pools of macvtap devices; use <interface type='direct'>",
            ),
        ForwardMode::Hostdev => reader.refuse_attribute(
            "mode",
            "there are no pools of PCI devices; use <interface type='hostdev'>",
        ),
        ForwardMode::None
        | ForwardMode::Nat
        | ForwardMode::Route
        | ForwardMode::Open
        | ForwardMode::Bridge => {}
    }
    let what = match mode {
        ForwardMode::Bridge => "the bridge is named by <bridge name='...'/>; remove it",
        ForwardMode::None
        | ForwardMode::Nat
        | ForwardMode::Route
        | ForwardMode::Open
        | ForwardMode::Private
        | ForwardMode::Vepa
        | ForwardMode::Passthrough
        | ForwardMode::Hostdev => {
            "packets are forwarded by the host's routes, not held to a device; remove it"
        }
    };
    if reader.attribute("dev").is_some() {
        reader.refuse_attribute("dev", what);
    }
    let _ = reader.yes_no("managed"); // Of PCI devices, which are refused.
    for name in ["interface", "address", "pf", "driver"] {
        for child in reader.children(name) {
            let _ = child.raw(); // It is refused whole.
            child.refuse(what);
        }
    }
}
