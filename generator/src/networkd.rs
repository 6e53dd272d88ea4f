//! A network as files of systemd-networkd, systemd.netdev(5) and systemd.network(5), and of sysctl.d(5).
//!
//! All values are of types that cannot hold a line end or a sign of these formats. Every key is known to systemd 252
//! and to no later version a reason to complain.

use std::net::{IpAddr, Ipv4Addr};

use domain::{BridgeName, Dhcp, Forward, LeaseTime, Network, NetworkIp, NetworkRoute, Subnet};

use crate::directive::{self, Directive};
use crate::value::UnitValue;

/// Least seconds that a port waits on a bridge that looks for loops, `BR_MIN_FORWARD_DELAY` of the kernel. What is
/// less it takes for this; networkd takes 0 for the kernel's own 15.
const LEAST_DELAY: u64 = 2;

/// The priorities of routing rules around an isolated network: after the table of the host's own addresses, which has
/// 0, and before the table `main`, which has 32766. An exception for the host itself comes first.
const HOST_MAY: u64 = 5200;
const NOBODY_MAY: u64 = 5201;

/// The option of DHCP that tells the domain, RFC 2132, section 3.17.
const DOMAIN_NAME: u8 = 15;

/// A section with its lines.
type Section = (&'static str, Vec<Directive>);

/// The bridge: a file `.netdev`.
pub(crate) fn netdev(network: &Network, bridge: &BridgeName) -> String {
    let mut device = vec![
        Directive::new("Name", UnitValue::bridge(bridge)),
        Directive::new("Kind", UnitValue::word("bridge")),
    ];
    device.extend(network.mac.map(|mac| Directive::new("MACAddress", UnitValue::mac(mac))));
    device.extend(network.mtu.map(|mtu| Directive::number("MTUBytes", mtu.into())));
    file(&[("NetDev", device), ("Bridge", spanning_tree(network))])
}

fn spanning_tree(network: &Network) -> Vec<Directive> {
    let on = network.bridge.stp.unwrap_or(true);
    let mut lines = vec![yes_no("STP", on)];
    // Without it a port forwards at once, whatever the delay.
    if on {
        let delay = u64::from(network.bridge.delay.unwrap_or_default());
        lines.push(Directive::number("ForwardDelaySec", delay.max(LEAST_DELAY)));
    }
    lines
}

/// What is on the bridge: a file `.network`.
pub(crate) fn network(network: &Network, bridge: &BridgeName) -> String {
    let mut sections = vec![
        ("Match", vec![Directive::new("Name", UnitValue::bridge(bridge))]),
        // A bridge without guests is not online, and no boot shall wait for one.
        ("Link", vec![yes_no("RequiredForOnline", false)]),
        ("Network", of_link(network)),
    ];
    sections.extend(network.addresses.iter().map(address));
    for ip in &network.addresses {
        if let (Some(dhcp), IpAddr::V4(own)) = (&ip.dhcp, ip.subnet.address) {
            sections.extend(dhcp_server(network, &ip.subnet, own, dhcp));
        }
    }
    sections.extend(advertisement(network));
    sections.extend(network.routes.iter().map(route));
    if network.forward == Forward::Isolated {
        sections.extend(isolation(network, bridge));
    }
    file(&sections)
}

/// What the kernel is told beside: networkd of 252 has another word for forwarding than later ones, and a masquerade
/// implies it for IPv4 only.
pub(crate) fn sysctl(network: &Network) -> Option<String> {
    if !network.forward.is_routed() {
        return None;
    }
    let v4 = has_version(network, IpAddr::is_ipv4).then_some("net.ipv4.ip_forward = 1\n");
    let v6 = has_version(network, IpAddr::is_ipv6).then_some("net.ipv6.conf.all.forwarding = 1\n");
    Some(format!("{}{}", v4.unwrap_or_default(), v6.unwrap_or_default()))
}

fn file(sections: &[Section]) -> String {
    directive::file(sections.iter().map(|(name, lines)| (*name, &lines[..])))
}

fn yes_no(key: &'static str, yes: bool) -> Directive {
    Directive::new(key, UnitValue::word(if yes { "yes" } else { "no" }))
}

fn has_version(network: &Network, is: impl Fn(&IpAddr) -> bool) -> bool {
    network.addresses.iter().any(|ip| is(&ip.subnet.address))
}

fn of_link(network: &Network) -> Vec<Directive> {
    let v6 = has_version(network, IpAddr::is_ipv6);
    let masquerade = match network.forward {
        Forward::Nat { ipv6: true } => Some("both"),
        Forward::Nat { ipv6: false } => Some("ipv4"),
        Forward::Isolated | Forward::Route | Forward::Open | Forward::Bridge => None,
    };
    let mut lines = vec![
        // Its addresses are there before the first guest.
        yes_no("ConfigureWithoutCarrier", true),
        Directive::new("LinkLocalAddressing", UnitValue::word(if v6 { "ipv6" } else { "no" })),
        // Guests are no routers of the host.
        yes_no("IPv6AcceptRA", false),
    ];
    lines.extend(masquerade.map(|word| Directive::new("IPMasquerade", UnitValue::word(word))));
    if network.addresses.iter().any(|ip| ip.dhcp.is_some()) {
        lines.push(yes_no("DHCPServer", true));
    }
    if v6 {
        lines.push(yes_no("IPv6SendRA", true));
    }
    lines
}

fn address(ip: &NetworkIp) -> Section {
    let mut lines = vec![Directive::new("Address", UnitValue::subnet(&ip.subnet))];
    if ip.subnet.address.is_ipv6() {
        // Without a guest nobody could answer, and the address would wait for that.
        lines.push(Directive::new("DuplicateAddressDetection", UnitValue::word("none")));
    }
    ("Address", lines)
}

fn dhcp_server(network: &Network, subnet: &Subnet, own: Ipv4Addr, dhcp: &Dhcp) -> Vec<Section> {
    let mut lines = vec![
        Directive::new("ServerAddress", UnitValue::subnet(subnet)),
        Directive::number("PoolOffset", dhcp.pool.offset.into()),
        Directive::number("PoolSize", dhcp.pool.size.into()),
        yes_no("EmitRouter", network.forward.is_routed()),
    ];
    lines.extend(dns_servers(network, IpAddr::is_ipv4));
    if let Some(domain) = &network.domain {
        lines.push(Directive::new("SendOption", UnitValue::dhcp_option(DOMAIN_NAME, domain)));
    }
    if let Some(lease) = dhcp.lease {
        let time = match lease {
            LeaseTime::Seconds(seconds) => UnitValue::number(seconds.into()),
            LeaseTime::Infinite => UnitValue::word("infinity"),
        };
        lines.push(Directive::new("DefaultLeaseTimeSec", time.clone()));
        lines.push(Directive::new("MaxLeaseTimeSec", time));
    }
    if let Some((file, server)) = &dhcp.boot {
        let server = IpAddr::V4(server.unwrap_or(own));
        lines.push(Directive::new("BootServerAddress", UnitValue::ip(server)));
        lines.push(Directive::new("BootFilename", UnitValue::boot_file(file)));
    }
    let leases = dhcp.hosts.iter().map(|host| {
        let mac = Directive::new("MACAddress", UnitValue::mac(host.mac));
        let address = Directive::new("Address", UnitValue::ip(IpAddr::V4(host.ip)));
        ("DHCPServerStaticLease", vec![mac, address])
    });
    [("DHCPServer", lines)].into_iter().chain(leases).collect()
}

/// The servers of one version of IP that guests are told; networkd tells those of the host when there is none.
fn dns_servers(network: &Network, is: impl Fn(&IpAddr) -> bool) -> Vec<Directive> {
    let dns = &network.dns;
    // Guests of an isolated network do not reach those of the host.
    let told =
        dns.enable != Some(false) && (network.forward.is_routed() || !dns.servers.is_empty());
    let servers = dns.servers.iter().filter(|server| told && is(server));
    let servers = servers.map(|server| Directive::new("DNS", UnitValue::ip(*server)));
    [yes_no("EmitDNS", told)].into_iter().chain(servers).collect()
}

/// What guests are told to make IPv6 addresses of.
fn advertisement(network: &Network) -> Vec<Section> {
    let subnets = network.addresses.iter().map(|ip| ip.subnet);
    let prefixes: Vec<Section> = subnets
        .filter(|subnet| subnet.address.is_ipv6())
        .map(|subnet| {
            let prefix = UnitValue::subnet(&subnet.network());
            ("IPv6Prefix", vec![Directive::new("Prefix", prefix)])
        })
        .collect();
    if prefixes.is_empty() {
        return prefixes;
    }
    let mut lines = dns_servers(network, IpAddr::is_ipv6);
    if !network.forward.is_routed() {
        lines.push(Directive::number("RouterLifetimeSec", 0));
    }
    if let Some(domain) = &network.domain {
        lines.push(Directive::new("Domains", UnitValue::dns_domain(domain)));
    }
    [("IPv6SendRA", lines)].into_iter().chain(prefixes).collect()
}

fn route(route: &NetworkRoute) -> Section {
    let mut lines = vec![
        Directive::new("Destination", UnitValue::subnet(&route.destination.network())),
        Directive::new("Gateway", UnitValue::ip(route.gateway)),
    ];
    lines.extend(route.metric.map(|metric| Directive::number("Metric", metric.into())));
    ("Route", lines)
}

/// Nothing is routed between an isolated network and others but the host itself, also where another network has the
/// host forward packets: what a guest sends is for the host's own addresses, whose table comes before all rules, or
/// refused, and so is what others send to its guests.
fn isolation(network: &Network, bridge: &BridgeName) -> Vec<Section> {
    let from_guests = vec![
        Directive::new("Family", UnitValue::word("both")),
        Directive::new("IncomingInterface", UnitValue::bridge(bridge)),
        Directive::new("Type", UnitValue::word("prohibit")),
        Directive::number("Priority", NOBODY_MAY),
    ];
    let own = network.addresses.iter().map(|ip| ip.subnet);
    let behind = network.routes.iter().map(|route| route.destination);
    let to_guests = own.chain(behind).flat_map(|subnet| {
        let to = Directive::new("To", UnitValue::subnet(&subnet.network()));
        let from_host = vec![
            Directive::new("IncomingInterface", UnitValue::word("lo")),
            to.clone(),
            Directive::new("Table", UnitValue::word("main")),
            Directive::number("Priority", HOST_MAY),
        ];
        let from_others = vec![
            to,
            Directive::new("Type", UnitValue::word("prohibit")),
            Directive::number("Priority", NOBODY_MAY),
        ];
        [from_host, from_others]
    });
    let rules = [from_guests].into_iter().chain(to_guests);
    rules.map(|lines| ("RoutingPolicyRule", lines)).collect()
}
