//! passt, which translates a guest's network in a process of its own (see `passt(1)`).

use domain::devices::{ForwardProtocol, Interface, InterfaceSource, PortForward, PortRange};

use crate::command::Command;
use crate::plan::{Helper, Invocation, Service};

/// Plans passt for an interface; the result is the path of its socket.
pub(super) fn start(command: &mut Command<'_>, interface: &Interface, vhost_user: bool) -> String {
    let all = &command.domain.devices.interfaces;
    let index = all.iter().position(|it| it.place.path == interface.place.path).unwrap_or_default();
    let device = format!("net{index}");
    let socket = command.facts.helpers.passt.of(&device);
    let mut arguments = vec!["--one-off".to_owned()];
    if vhost_user {
        arguments.push("--vhost-user".to_owned());
    }
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("--socket", socket.clone());
    let backend = &interface.backend;
    for (option, value) in [
        ("--hostname", &backend.hostname),
        ("--fqdn", &backend.fqdn),
        ("--log-file", &backend.log_file),
    ] {
        if let Some(value) = value {
            add(option, value.clone());
        }
    }
    if let InterfaceSource::User { dev } | InterfaceSource::VhostUser { dev, .. } =
        &interface.source
        && let Some(dev) = dev
    {
        add("--interface", dev.clone());
    }
    for ip in &interface.guest_ip.addresses {
        add("--address", ip.address.to_string());
        if let Some(prefix) = ip.prefix.filter(|_| ip.address.is_ipv4()) {
            add("--netmask", prefix.to_string());
        }
    }
    for forward in &interface.port_forwards {
        let option = match forward.protocol {
            ForwardProtocol::Tcp => "--tcp-ports",
            ForwardProtocol::Udp => "--udp-ports",
        };
        add(option, ports(forward));
    }
    command.needs_helper(Helper {
        service: Service::Passt,
        device,
        before: Vec::new(),
        program: Invocation { program: "passt".to_owned(), arguments },
        inputs: Vec::new(),
        socket: socket.clone(),
        files: Vec::new(),
        place: interface.place.clone(),
    });
    socket
}

/// Ports in passt's words: `ADDRESS%INTERFACE/FIRST-LAST:FIRST-LAST`, those left out with `~`.
fn ports(forward: &PortForward) -> String {
    let address = forward.address.map(|address| address.to_string());
    let dev = forward.dev.as_ref().map(|dev| format!("%{dev}"));
    let (address, dev) = (address.unwrap_or_default(), dev.unwrap_or_default());
    let ranges: Vec<String> = forward.ranges.iter().map(range).collect();
    let where_to = if address.is_empty() && dev.is_empty() {
        String::new()
    } else {
        format!("{address}{dev}/")
    };
    if ranges.is_empty() { format!("{where_to}all") } else { where_to + &ranges.join(",") }
}

fn range(range: &PortRange) -> String {
    let start = range.start.unwrap_or_default();
    let span = |first: u16| match range.end {
        Some(end) => format!("{first}-{}", u32::from(first) + u32::from(end.saturating_sub(start))),
        None => first.to_string(),
    };
    if range.exclude == Some(true) {
        return format!("~{}", span(start));
    }
    match range.to {
        Some(to) => format!("{}:{}", span(start), span(to)),
        None => span(start),
    }
}
