use super::*;

fn read(text: &str) -> (Option<Network>, Vec<String>) {
    let faults = Faults::new();
    let file = ["lan", "a"].into_iter().find(|name| text.contains(&format!("<name>{name}</name>")));
    let file = NetworkName::try_from(file.unwrap_or("x")).unwrap();
    let network = Network::parse(text, &file, &faults);
    (network, faults.into_sorted().iter().map(ToString::to_string).collect())
}

#[test]
fn a_network_is_read_whole() {
    let (network, faults) = read(
        "<network connections='2' ipv6='yes'>
  <name>lan</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid><title>Offices</title>
  <description>any</description><metadata><a xmlns='urn:a'/></metadata>
  <forward mode='nat'><nat ipv6='yes'/></forward>
  <bridge name='virbr1' stp='off' delay='3' macTableManager='kernel'/>
  <mac address='52:54:00:11:22:33'/><mtu size='9000'/><domain name='lan.example'/>
  <dns><forwarder addr='192.0.2.53'/></dns>
  <ip address='10.1.2.1' netmask='255.255.254.0'><dhcp>
    <range start='10.1.2.2' end='10.1.3.254'><lease expiry='2' unit='hours'/></range>
    <host mac='52:54:00:aa:bb:cc' ip='10.1.2.9'/><bootp file='pxelinux.0' server='10.1.2.3'/>
  </dhcp></ip>
  <ip family='ipv6' address='fd00::1' prefix='64'/>
  <route address='10.9.0.0' prefix='16' gateway='10.1.2.4' metric='2'/>
</network>",
    );
    assert_eq!(faults, [""; 0]);
    let network = network.unwrap();
    assert_eq!((network.name.as_str(), network.bridge_name().as_str()), ("lan", "virbr1"));
    assert_eq!(network.forward, Forward::Nat { ipv6: true });
    assert_eq!(
        (network.bridge.stp, network.bridge.delay, network.mtu),
        (Some(false), Some(3), Some(9000))
    );
    let [v4, v6] = &network.addresses[..] else { panic!("{:?}", network.addresses) };
    assert_eq!(
        (v4.subnet.to_string(), v6.subnet.to_string()),
        ("10.1.2.1/23".into(), "fd00::1/64".into())
    );
    let dhcp = v4.dhcp.as_ref().unwrap();
    assert_eq!(dhcp.pool, DhcpPool { offset: 2, size: 509 });
    assert_eq!(dhcp.lease, Some(LeaseTime::Seconds(7200)));
    assert_eq!(dhcp.hosts.len(), 1);
    assert_eq!(dhcp.boot.as_ref().unwrap().0.to_string(), "pxelinux.0");
    assert_eq!(network.routes[0].destination.to_string(), "10.9.0.0/16");
    assert_eq!(network.dns.servers.len(), 1);
}

#[test]
fn what_is_left_out_is_small() {
    let (network, faults) = read("<network><name>a</name></network>");
    let network = network.unwrap();
    assert_eq!((network.forward, faults.len()), (Forward::Isolated, 0));
    assert!(network.has_own_bridge());
    let (network, _) = read("<network><name>a</name><forward/><ip address='10.0.0.1'/></network>");
    let network = network.unwrap();
    assert_eq!(network.forward, Forward::Nat { ipv6: false });
    assert_eq!(network.addresses[0].subnet.prefix, 8, "the address's class");
    let hosts = "<host mac='52:54:00:aa:bb:cc' ip='10.0.0.9'/><host mac='52:54:00:aa:bb:cd' ip='10.0.0.7'/>";
    let text = format!(
        "<network><name>a</name><ip address='10.0.0.1'><dhcp>{hosts}</dhcp></ip></network>"
    );
    let dhcp = read(&text).0.unwrap().addresses.remove(0).dhcp.unwrap();
    assert_eq!(
        dhcp.pool,
        DhcpPool { offset: 9, size: 1 },
        "the guest's own address, which no other gets"
    );
    let text = "<network><name>a</name><ip address='10.0.0.1'><dhcp/></ip></network>";
    assert_eq!(read(text).0.unwrap().addresses.remove(0).dhcp, None);
}

/// The messages about the inside of a network called `a`, each after its path's beginning.
fn messages(inside: &str) -> Vec<String> {
    let (_, faults) = read(&format!("<network>\n<name>a</name>\n{inside}\n</network>"));
    faults
}

/// The inside of a network, and what is said of it.
const TOLD: [(&str, &str); 28] = [
    (
        "<virtualport type='openvswitch'/>",
        "3:1: /network/virtualport: a bridge of the kernel has no virtual ports; remove it",
    ),
    (
        "<portgroup name='x'/>",
        "3:1: /network/portgroup: there are no groups of ports; write what it says in the guests' <interface>",
    ),
    (
        "<vlan><tag id='1'/></vlan>",
        "3:1: /network/vlan: packets are not tagged; use a bridge that tags them with <forward mode='bridge'/>",
    ),
    (
        "<port isolated='yes'/>",
        "3:1: /network/port: ports are not isolated; remove it, or use a bridge of your own",
    ),
    (
        "<bandwidth><inbound average='1'/></bandwidth>",
        "3:1: /network/bandwidth: limits are not set by glassbox; use tc or systemd.network(5)",
    ),
    (
        "<forward mode='vepa'/>",
        "3:10: /network/forward: attribute 'mode': there are no pools of macvtap devices; use <interface type='direct'>",
    ),
    (
        "<forward mode='hostdev'/>",
        "3:10: /network/forward: attribute 'mode': there are no pools of PCI devices; use <interface type='hostdev'>",
    ),
    (
        "<forward mode='x'/>",
        "3:10: /network/forward: attribute 'mode': 'x' is not known; use one of none, nat, route, open, bridge, private, vepa, passthrough, hostdev",
    ),
    (
        "<forward mode='none' dev='eth0'/>",
        "3:22: /network/forward: attribute 'dev': packets are forwarded by the host's routes, not held to a device; remove it",
    ),
    (
        "<forward mode='none'><nat><port start='1' end='2'/></nat></forward>",
        "3:27: /network/forward/nat/port: guests have the address and ports that the kernel chooses; remove it",
    ),
    (
        "<forward mode='bridge'/>",
        "1:1: /network: the bridge is not named; add one such as <bridge name='br0'/>",
    ),
    (
        "<forward mode='route'/>",
        "1:1: /network: packets are forwarded for guests that have no address of the host; add one such as <ip address='192.168.122.1' prefix='24'/>",
    ),
    (
        "<bridge name='a/b'/>",
        "3:9: /network/bridge: attribute 'name': 'a/b' is no name of a bridge; use at most 15 letters, digits, '-', '_' and '.', a letter first",
    ),
    (
        "<bridge delay='31'/>",
        "3:9: /network/bridge: attribute 'delay': a port waits at most 30 seconds; give fewer",
    ),
    (
        "<mtu size='60'/>",
        "3:6: /network/mtu: attribute 'size': packets have 68 to 65535 bytes; give such a number",
    ),
    (
        "<bridge zone='x'/>",
        "3:1: /network/bridge: attribute 'zone': zones of a firewall are not set by glassbox; use firewall-cmd",
    ),
    (
        "<dns><srv service='a' protocol='b'/></dns>",
        "3:6: /network/dns/srv: no DNS server has it: guests ask the servers of the host; remove it",
    ),
    (
        "<dns><forwarder domain='x' addr='192.0.2.1'/></dns>",
        "3:17: /network/dns/forwarder: attribute 'domain': guests ask a server all names, on port 53; remove it",
    ),
    (
        "<domain name='a b'/>",
        "3:9: /network/domain: attribute 'name': 'a b' is no DNS domain; give one such as lan.example",
    ),
    (
        "<ip address='10.0.0.1'><tftp root='/a'/></ip>",
        "3:24: /network/ip/tftp: there is no TFTP server; remove it, and name another by <bootp server='...'>",
    ),
    (
        "<ip address='10.0.0.1' netmask='255.0.255.0'/>",
        "3:24: /network/ip: attribute 'netmask': '255.0.255.0' is no mask of the address; use 'prefix'",
    ),
    (
        "<ip address='10.0.0.1' prefix='33'/>",
        "3:24: /network/ip: attribute 'prefix': an address has 32 bits; give fewer",
    ),
    (
        "<ip address='fd00::1' prefix='64'><dhcp/></ip>",
        "3:35: /network/ip/dhcp: there is no DHCP server for IPv6: guests make their addresses of the network's; remove it",
    ),
    (
        "<ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.0' end='10.0.0.9'/></dhcp></ip>",
        "3:49: /network/ip/dhcp/range: attribute 'start': 10.0.0.0 is no address of a guest in 10.0.0.0/24; give one",
    ),
    (
        "<ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.9' end='10.0.0.8'/></dhcp></ip>",
        "3:66: /network/ip/dhcp/range: attribute 'end': is before 'start'; change one of both",
    ),
    (
        "<ip address='10.0.0.1' prefix='24'><dhcp><host mac='52:54:00:12:34:56' ip='10.0.0.1'/></dhcp></ip>",
        "3:72: /network/ip/dhcp/host: attribute 'ip': 10.0.0.1 is no address of a guest in 10.0.0.0/24; give one",
    ),
    (
        "<q:options xmlns:q='http://libvirt.org/schemas/network/dnsmasq/1.0'/>",
        "3:1: /network/q:options: no dnsmasq is started; remove it",
    ),
    (
        "<surprise/>",
        "3:1: /network/surprise: the element is not known here and is ignored; remove it",
    ),
];

#[test]
fn what_networkd_has_no_word_for_is_told_with_its_place() {
    for (inside, expected) in TOLD {
        assert_eq!(messages(inside), [expected], "{inside}");
    }
}

#[test]
fn a_bridge_of_the_host_is_used_as_it_is() {
    assert_eq!(messages("<forward mode='bridge'/><bridge name='br0'/>"), [""; 0]);
    for more in
        ["<ip address='10.0.0.1'/>", "<mtu size='1400'/>", "<mac address='52:54:00:11:22:33'/>"]
    {
        let messages = messages(&format!("<forward mode='bridge'/><bridge name='br0'/>{more}"));
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].contains("is used as it is"), "{messages:?}");
    }
}

#[test]
fn what_is_no_network_of_this_name_has_one_message() {
    for (text, expected) in [
        ("<domain/>", "1:1: /domain: the root element is <domain>; give a <network>"),
        (
            "<network><ip/></network>",
            "1:1: /network: <name> is missing; add one such as <name>lan</name>",
        ),
        (
            "<network><name>a/b</name><ip/></network>",
            "1:10: /network/name: the name contains '/'; use letters, digits, '-', '_', '.' or spaces",
        ),
    ] {
        assert_eq!(read(text), (None, vec![expected.to_owned()]), "{text}");
    }
}

#[test]
fn networks_have_their_guests() {
    let subnet = |text: &str, prefix| Subnet { address: text.parse().unwrap(), prefix };
    let offset = |prefix, guest: &str| subnet("10.1.2.3", prefix).offset(guest.parse().unwrap());
    assert_eq!(offset(24, "10.1.2.200"), Some(200));
    assert_eq!(
        (offset(24, "10.1.2.0"), offset(24, "10.1.2.255"), offset(24, "10.1.3.1")),
        (None, None, None)
    );
    assert_eq!(
        (offset(0, "1.0.0.0"), offset(32, "10.1.2.3"), offset(31, "10.1.2.3")),
        (Some(1 << 24), None, None)
    );
    assert_eq!(subnet("fd00:1::2", 64).network().to_string(), "fd00:1::/64");
    assert_eq!(subnet("fd00:1::2", 0).network().to_string(), "::/0");
    assert_eq!(subnet("fd00:1::2", 128).network().to_string(), "fd00:1::2/128");
}
