//! Virtual networks: bridges of systemd-networkd that guests name, and a bridge of the host.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Definition, Host, PATIENCE, Root, install};

use crate::lan;

tests::on_root!(
    trixie,
    Trixie,
    guests_of_networks_reach_what_their_networks_say,
    a_guest_of_a_routed_network_is_itself_beyond_the_host,
    a_network_that_cannot_be_made_says_why,
);

// systemd 252 knows every word of the files as well, and has other ways to make a bridge.
tests::on_root!(bookworm, Bookworm, networkd_takes_every_kind_of_network_and_gives_it_back);
tests::on_root!(forky, Forky, networkd_takes_every_kind_of_network_and_gives_it_back);

const NETWORKS: &str = "/etc/glassbox/networks";

/// A network whose guests reach one another and the host.
const LAB: &str = "<network><name>lab</name><ip address='10.9.0.1' prefix='24'><dhcp>\
    <host mac='52:54:00:00:09:07' ip='10.9.0.7'/></dhcp></ip></network>";

/// A network that the host's neighbours know the way to.
const ROUTED: &str = "<network><name>routed</name><forward mode='route'/>
    <ip address='10.20.0.1' prefix='16'><dhcp><range start='10.20.1.0' end='10.20.1.255'/></dhcp></ip>
    <ip family='ipv6' address='2001:db8:1::1' prefix='64'/></network>";

/// A bridge that is there already.
const OFFICES: &str =
    "<network><name>offices</name><forward mode='bridge'/><bridge name='br0'/></network>";

/// A network of all that one may have.
const EVERYTHING: &str = "<network><name>my everything</name><forward mode='route'/>
    <bridge stp='off'/><mac address='52:54:00:11:22:33'/><mtu size='9000'/><domain name='lan.example'/>
    <dns><forwarder addr='192.0.2.53'/><forwarder addr='2001:db8::53'/></dns>
    <ip address='10.20.0.1' prefix='16'><dhcp><range start='10.20.1.0' end='10.20.1.255'>
      <lease expiry='0'/></range><host mac='52:54:00:aa:bb:cc' ip='10.20.0.9'/>
      <bootp file='http://10.20.0.1/ipxe?a=1'/></dhcp></ip>
    <ip family='ipv6' address='2001:db8:1::1' prefix='64'/>
    <route address='10.30.0.0' prefix='16' gateway='10.20.0.7' metric='2'/></network>";

/// What is beyond the host: another network namespace that knows no way to any guest.
const OUTSIDE: &str = "ip netns add outside
    ip link add uplink type veth peer name eth0 netns outside
    ip addr add 192.0.2.1/24 dev uplink; ip link set uplink up
    ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside link set eth0 up";

fn define(host: &Host, name: &str, xml: &str) -> Result<()> {
    host.write_file(&format!("{NETWORKS}/{name}.xml"), xml)
}

fn example() -> Result<String> {
    let file = install::repository().join("examples/networks/default.xml");
    Ok(std::fs::read_to_string(file)?)
}

/// A guest with one interface in the network `default` and one, before it, in another.
fn guest(host: &Host, name: &str, mac: &str, other: &str) -> Result<()> {
    let interface =
        |network: &str| format!("<interface type=\"network\"><source network=\"{network}\"/>");
    let first =
        format!("{}<mac address=\"{mac}\"/><model type=\"virtio\"/></interface>", interface(other));
    let start = format!("{first}{}", interface("default"));
    lan::with_interface(Definition::new(name)?, &start)?.install(host)
}

/// The address that a guest got of a network.
fn lease(host: &Host, name: &str, network: &str) -> Result<String> {
    let start = format!("GLASSBOX-GUEST-IP {network}");
    host.wait_for_console(name, &start, 1)?;
    let console = host.console(name);
    let line = console.lines().find(|line| line.contains(&start)).context("the line vanished")?;
    Ok(line.trim().rsplit(' ').next().unwrap_or_default().to_owned())
}

/// Asks a guest's agent.
fn agent(host: &Host, name: &str, request: &Value) -> Result<Value> {
    let socket = format!("/run/glassbox/guest/{name}");
    let script = format!(
        "(cat; sleep 0.3) | socat -t 0.3 - UNIX-CONNECT:$(find {socket} -type s -name '*agent*')"
    );
    let mut answer = Value::Null;
    host.wait_for(&format!("the agent of {name}"), PATIENCE, || {
        let command = host.command(["/bin/sh", "-c", &script]).input(format!("{request}\n"));
        let Ok(output) = command.output() else { return false };
        let line: Option<Value> =
            output.stdout.lines().next().and_then(|line| serde_json::from_str(line).ok());
        answer = line.and_then(|line| line.get("return").cloned()).unwrap_or_default();
        !answer.is_null()
    })?;
    Ok(answer)
}

/// The exit status of a command in a guest.
fn inside(host: &Host, name: &str, script: &str) -> Result<i64> {
    let arguments = serde_json::json!({"path": "/bin/sh", "arg": ["-c", script]});
    let request = serde_json::json!({"execute": "guest-exec", "arguments": arguments});
    let process = agent(host, name, &request)?;
    let arguments = serde_json::json!({"pid": process["pid"]});
    let request = serde_json::json!({"execute": "guest-exec-status", "arguments": arguments});
    for _ in 0..20 {
        let status = agent(host, name, &request)?;
        if status["exited"] == true {
            return status["exitcode"].as_i64().context(status.to_string());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    anyhow::bail!("{script} does not end in {name}")
}

fn reaches(host: &Host, name: &str, script: &str) -> Result<()> {
    let status = inside(host, name, script)?;
    ensure!(status == 0, "{script} in {name}: exit status {status}");
    Ok(())
}

fn guests_of_networks_reach_what_their_networks_say(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    lan::start(&host, &[], &[])?;
    host.sh(OUTSIDE)?.success()?;
    define(&host, "default", &example()?)?;
    define(&host, "lab", LAB)?;
    define(&host, "offices", OFFICES)?;
    guest(&host, "web", "52:54:00:00:09:07", "lab")?;
    guest(&host, "db", "52:54:00:00:09:08", "offices")?;
    host.reload()?;
    let network = host.unit("glassbox-network@default.service");
    assert_eq!(network.state()?, "inactive", "no guest needs it yet");
    let (web, db) = (host.start_guest("web")?, host.start_guest("db")?);
    assert_eq!(network.state()?, "active", "the guests' units started it");
    let address = lease(&host, "web", "192.168.122.")?;
    let other = lease(&host, "db", "192.168.122.")?;
    assert_ne!(address, other);
    assert_eq!(lease(&host, "web", "10.9.0.")?, "10.9.0.7", "the one of its <host>");
    lease(&host, "db", "10.77.0.")?;

    // The two reach one another, a port of the host, and what is beyond it in the host's name.
    let serve = "systemd-run --unit=port socat TCP-LISTEN:8000,fork,reuseaddr SYSTEM:'echo hello'";
    host.sh(serve)?.success()?;
    let hello = |host_side: &str| format!("nc -w 5 {host_side} 8000 </dev/null | grep -qx hello");
    let host_is_reached = hello("192.168.122.1");
    reaches(&host, "db", &format!("ping -c 1 -W 5 {address} && {host_is_reached}"))?;
    let route = "ip route add default via 192.168.122.1 && ping -c 1 -W 5 192.0.2.2";
    let all = [&format!("ping -c 1 -W 5 {other}"), &*host_is_reached, &hello("10.9.0.1"), route];
    reaches(&host, "web", &all.join(" && "))?;

    // The isolated network leads nowhere, though the host forwards packets for the other one and both ends know the way.
    host.sh("ip -n outside route add 10.9.0.0/24 via 192.0.2.1")?.success()?;
    let isolated = "ip route replace default via 10.9.0.1; ping -c 1 -W 2 192.0.2.2";
    assert_ne!(inside(&host, "web", isolated)?, 0, "an isolated guest got out");
    reaches(&host, "web", "nc -ll -p 9000 -e echo hello >/dev/null 2>&1 &")?;
    let call = "socat -T 3 -u TCP:10.9.0.7:9000,connect-timeout=3 -";
    assert_eq!(host.sh(call)?.stdout, "hello\n", "the host reaches its guest");
    let words = ["ip", "netns", "exec", "outside"].into_iter().chain(call.split(' '));
    let called = host.run(words)?;
    assert_eq!((called.stdout.as_str(), called.status), ("", 1), "an isolated guest was reached");

    // Who stops a network stops its guests first.
    host.systemctl(["stop", network.name()])?.success()?;
    for unit in [web, db] {
        assert_eq!(unit.outcome()?, ("success".to_owned(), 0));
        assert_eq!(unit.state()?, "inactive");
    }
    assert_eq!(lan::link(&host, "virbr0")?, "");
    assert!(!lan::link(&host, "br0")?.is_empty(), "the host's own bridge stays");
    Ok(())
}

/// With IPv4 and IPv6, in both directions, under its own addresses.
fn a_guest_of_a_routed_network_is_itself_beyond_the_host(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    host.systemctl(["start", "systemd-networkd"])?.success()?;
    host.sh(OUTSIDE)?.success()?;
    host.sh("ip addr add 2001:db8:2::1/64 dev uplink nodad
         ip -n outside addr add 2001:db8:2::2/64 dev eth0 nodad
         ip -n outside route add 10.20.0.0/16 via 192.0.2.1
         ip -n outside route add 2001:db8:1::/64 via 2001:db8:2::1")?
        .success()?;
    define(&host, "routed", ROUTED)?;
    let interface = "<interface type=\"network\"><source network=\"routed\"/>";
    let web = lan::with_interface(Definition::new("web")?, interface)?;
    web.install(&host)?;
    host.reload()?;
    // Who is called there notes whom it sees.
    for (version, option) in [("4", ""), ("6", ",ipv6only=1")] {
        let listen = format!("TCP{version}-LISTEN:800{version},fork,reuseaddr{option}");
        let note = "SYSTEM:echo $SOCAT_PEERADDR >>/tmp/called; echo hello";
        let words = ["systemd-run", "ip", "netns", "exec", "outside", "socat", &listen, note];
        host.run(words)?.success()?;
    }
    host.start_guest("web")?;
    let v4 = lease(&host, "web", "10.20.")?;
    let v6 = advertised(&lan::address(&web)?)?;
    let wait = "for second in $(seq 30); do
        ip -6 addr show scope global | grep 2001:db8:1: | grep -qv tentative && break; sleep 1; done";
    reaches(&host, "web", &format!("{wait}; ip route replace default via 10.20.0.1"))?;
    let call = |host: &str, port| format!("nc -w 5 {host} {port} </dev/null | grep -qx hello");
    reaches(&host, "web", &call("192.0.2.2", 8004))?;
    reaches(&host, "web", &call("2001:db8:2::2", 8006))?;
    let called = host.read("/tmp/called")?;
    let callers = called.lines().map(|line| Ok(line.trim_matches(['[', ']']).parse()?));
    assert_eq!(callers.collect::<Result<Vec<IpAddr>>>()?, [v4.parse::<IpAddr>()?, v6.into()]);

    // And the guest is called from there.
    reaches(&host, "web", "nc -ll -p 9000 -e echo hello >/dev/null 2>&1 &")?;
    for address in [format!("TCP4:{v4}"), format!("TCP6:[{v6}]")] {
        let call = format!("{address}:9000,connect-timeout=5");
        let words = ["ip", "netns", "exec", "outside", "socat", "-T", "5", "-u", &call, "-"];
        assert_eq!(host.run(words)?.success()?.stdout, "hello\n", "{address}");
    }
    Ok(())
}

/// The address that a guest makes itself of the network's prefix and of its hardware address, RFC 4291, appendix A.
fn advertised(mac: &str) -> Result<Ipv6Addr> {
    let bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes = bytes.collect::<Result<Vec<u8>, _>>()?;
    let [a, b, c, d, e, f] = bytes[..] else { anyhow::bail!("{mac}") };
    let half = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let prefix = "2001:db8:1::".parse::<Ipv6Addr>()?;
    Ok((u128::from(prefix) | u128::from(u64::from_be_bytes(half))).into())
}

fn a_network_that_cannot_be_made_says_why(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    define(&host, "default", &example()?)?;
    define(&host, "broken", "<network>\n <name>broken</name>\n <forward mode='vepa'/></network>")?;
    define(&host, "offices", OFFICES)?;
    let web = Definition::new("web")?;
    let web = lan::with_interface(web, "<interface type=\"network\"><source network=\"broken\"/>")?;
    web.install(&host)?;
    host.reload()?;
    let broken = format!(
        "{NETWORKS}/broken.xml:3:11: /network/forward: attribute 'mode': there are no pools of macvtap devices; use \
         <interface type='direct'>"
    );
    for (name, reason) in [
        ("default", "systemd-networkd does not run, and the bridge 'virbr0' is its to make; "),
        ("offices", "there is no bridge 'br0' on this host; "),
        ("broken", &*broken),
        ("absent", "no network of this name is defined; "),
    ] {
        let unit = host.unit(&format!("glassbox-network@{name}.service"));
        assert_eq!(host.systemctl(["start", unit.name()])?.status, 1, "{name}");
        let journal = unit.journal()?;
        assert!(journal.lines().any(|line| line.starts_with(reason)), "{name}: {journal}");
    }
    // The guest says it with both places.
    let unit = host.unit("qemu@web.service");
    assert_eq!(host.systemctl(["start", unit.name()])?.status, 1);
    let place = web.place("<interface")?;
    let told = unit.status_line()?;
    let expected = format!(
        "/etc/glassbox/qemu/web.xml:{place}: /domain/devices/interface: the network 'broken' cannot be used: {broken}"
    );
    assert_eq!(told, expected);

    // A device of the name that is there already is somebody else's.
    host.systemctl(["start", "systemd-networkd"])?.success()?;
    host.sh("ip link add virbr0 type bridge; ip link add br0 type bridge")?.success()?;
    let unit = host.unit("glassbox-network@default.service");
    assert_eq!(host.systemctl(["start", unit.name()])?.status, 1);
    let journal = unit.journal()?;
    assert!(journal.contains("there is a network device 'virbr0' already"), "{journal}");
    assert!(!lan::link(&host, "virbr0")?.is_empty(), "and stays");
    host.systemctl(["start", "glassbox-network@offices"])?.success()?;
    Ok(())
}

fn networkd_takes_every_kind_of_network_and_gives_it_back(root: Root) -> Result<()> {
    let host = Host::boot(root)?;
    host.systemctl(["start", "systemd-networkd"])?.success()?;
    let before = host.sh("ip rule; ip -6 rule; ls /sys/class/net")?.success()?.stdout;
    define(&host, "default", &example()?)?;
    define(&host, "lab", LAB)?;
    define(&host, "my everything", EVERYTHING)?;
    host.reload()?;
    let units =
        ["default", "lab", r"my\x20everything"].map(|name| format!("glassbox-network@{name}"));
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    host.systemctl(["start"].into_iter().chain(units.iter().copied()))?.success()?;
    let links =
        host.sh("ip -details -brief addr; ip route; cat /proc/sys/net/ipv6/conf/all/forwarding")?;
    let links = links.success()?.stdout;
    for part in
        ["192.168.122.1/24", "10.9.0.1/24", "2001:db8:1::1/64", "10.30.0.0/16 via 10.20.0.7"]
    {
        assert!(links.contains(part), "{part} is not in {links}");
    }
    assert!(links.ends_with("\n1\n"), "IPv6 is forwarded: {links}");
    define(&host, "lab", &LAB.replace("10.9.0.", "10.8.0."))?;
    host.reload()?;
    host.systemctl(["reload"].into_iter().chain(units.iter().copied()))?.success()?;
    host.wait_for("the changed address", PATIENCE, || {
        let addresses = host.run(["ip", "-brief", "addr", "show", "dev", "virbr-lab"]);
        addresses.is_ok_and(|it| it.stdout.contains("10.8.0.1/24") && !it.stdout.contains("10.9."))
    })?;
    let networkd = host.unit("systemd-networkd.service").journal()?;
    for complaint in ["Unknown", "nvalid", "gnoring", "ailed"] {
        // A container may not load programs into the kernel.
        let mut lines = networkd.lines().filter(|line| !line.contains("BPF program"));
        assert!(!lines.any(|line| line.contains(complaint)), "{networkd}");
    }
    host.systemctl(["stop"].into_iter().chain(units.iter().copied()))?.success()?;
    let after = host.sh("ip rule; ip -6 rule; ls /sys/class/net")?.success()?.stdout;
    assert_eq!(after, before);
    assert_eq!(host.run(["ls", "/run/systemd/network"])?.stdout, "");
    Ok(())
}
