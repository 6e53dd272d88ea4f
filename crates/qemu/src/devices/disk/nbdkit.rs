//! nbdkit(1), which reaches an image on a server in QEMU's place and serves it at a Unix socket.

use domain::devices::{NetworkHost, NetworkProtocol, NetworkSource};
use domain::{Place, secret_credential};

use crate::command::Command;
use crate::facts::HostFacts;
use crate::json::Object;
use crate::plan::{Access, FIRST_INPUT, Helper, HelperInput, HostFile, Invocation, Service};
use crate::storage::cookie_text;

use super::block::Layer;
use super::remote;

/// For how many seconds requests wait for an nbdkit that its unit starts again, which takes less than one.
const RECONNECT_DELAY: u32 = 10;

/// Whether the host has nbdkit for images that are reached so.
pub(crate) fn serves(facts: &HostFacts, protocol: NetworkProtocol) -> bool {
    facts.helpers.nbdkit.as_ref().is_some_and(|nbdkit| nbdkit.parts.serves(protocol))
}

/// Plans nbdkit for an image; the result is the driver and options of its storage node, nothing when it is refused.
pub(super) fn serve(
    command: &mut Command<'_>,
    layer: &Layer<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
) -> Option<Object> {
    let facts = command.facts.helpers.nbdkit.as_ref()?;
    let place = &layer.image.source.place;
    let mut called = Called::default();
    called.arguments.extend(layer.readonly().then(|| "--readonly".to_owned()));
    let reads_ahead = facts.parts.readahead && network.readahead.is_some_and(|bytes| bytes > 0);
    called.arguments.extend(reads_ahead.then(|| "--filter=readahead".to_owned()));
    let supervised = facts.supervised;
    let planned = if network.protocol == NetworkProtocol::Ssh {
        ssh(&mut called, layer, network, host, supervised)
    } else {
        curl(&mut called, layer, network, host)
    };
    if let Err(what) = planned {
        command.refuse(place, what);
        return None;
    }
    let device = format!("{}{}", layer.disk.target, layer.suffix);
    let socket = facts.socket.of(&device);
    let Called { arguments, inputs } = called;
    command.needs_helper(Helper {
        service: Service::Nbdkit,
        device,
        before: Vec::new(),
        program: Invocation { program: "nbdkit".to_owned(), arguments },
        inputs,
        socket: socket.clone(),
        files: Vec::new(),
        place: place.clone(),
    });
    let server = Object::new("type", "unix").set("path", socket);
    let node = Object::new("driver", "nbd").set("server", server);
    Some(node.some("reconnect-delay", supervised.then_some(RECONNECT_DELAY)))
}

/// What nbdkit is called with.
#[derive(Default)]
struct Called {
    arguments: Vec<String>,
    inputs: Vec<HelperInput>,
}

impl Called {
    fn set(&mut self, name: &str, value: &str) {
        self.arguments.push(format!("{name}={value}"));
    }

    fn some(&mut self, name: &str, value: Option<&String>) {
        value.into_iter().for_each(|value| self.set(name, value));
    }

    /// The number at which it finds what it reads.
    fn input(&mut self, input: HelperInput) -> String {
        let number =
            i32::try_from(self.inputs.len()).unwrap_or(i32::MAX).saturating_add(FIRST_INPUT);
        self.inputs.push(input);
        number.to_string()
    }

    /// `name=-FD` is nbdkit's word for a text that stands in no argument.
    fn secret(&mut self, name: &str, input: HelperInput) {
        let number = self.input(input);
        self.set(name, &format!("-{number}"));
    }

    /// A file that nbdkit opens by its path.
    fn file(&mut self, name: &str, path: &str, place: Place) {
        let (path, access) = (path.to_owned(), Access::Read);
        let file = HostFile { path, access, descriptor: None, place };
        let number = self.input(HelperInput::File(file));
        self.set(name, &format!("/proc/self/fd/{number}"));
    }

    /// Who logs in, and with which password.
    fn login(&mut self, layer: &Layer<'_>) -> Result<bool, String> {
        let Some(auth) = &layer.image.source.auth else { return Ok(false) };
        let Some(name) = secret_credential(&auth.secret) else {
            return Err("the secret is kept as a credential, whose name has letters, digits and ._- only; give \
                        <secret> another 'usage'"
                .to_owned());
        };
        self.set("user", &auth.username);
        let place = layer.image.source.place.child("auth");
        self.secret("password", HelperInput::Credential { name, place });
        Ok(true)
    }
}

/// See nbdkit-curl-plugin(1).
fn curl(
    called: &mut Called,
    layer: &Layer<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
) -> Result<(), String> {
    called.arguments.push("curl".to_owned());
    // A server may have moved to one that encrypts.
    let http = network.protocol == NetworkProtocol::Http;
    called.set("protocols", if http { "http,https" } else { network.protocol.as_str() });
    called.set("url", &remote::url(network, host));
    called.login(layer)?;
    if !network.cookies.is_empty() {
        called.secret("cookie", HelperInput::Text(cookie_text(&network.cookies)));
    }
    if network.verify == Some(false) {
        called.set("sslverify", "false");
    }
    called.some("timeout", network.timeout.map(|seconds| seconds.to_string()).as_ref());
    Ok(())
}

/// See nbdkit-ssh-plugin(1).
fn ssh(
    called: &mut Called,
    layer: &Layer<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
    supervised: bool,
) -> Result<(), String> {
    let place = &layer.image.source.place;
    called.arguments.push("ssh".to_owned());
    called.some("host", host.name.as_ref());
    called.some("port", host.port.map(|port| port.to_string()).as_ref());
    called.some("path", network.name.as_ref());
    let identity = &network.identity;
    if identity.agent_socket.is_some() {
        return Err("an SSH agent answers its own account, and nbdkit has the guest's; give <identity> a 'keyfile' \
                    instead of 'agentsock'"
            .to_owned());
    }
    if !called.login(layer)? {
        if let Some(path) = &identity.keyfile {
            called.file("identity", path, place.child("identity"));
        }
        if supervised && identity.username.is_none() {
            return Err(
                "the guest's account has no name to log in by; add <identity username=''/>"
                    .to_owned(),
            );
        }
        called.some("user", identity.username.as_ref());
    }
    if let Some(path) = &network.known_hosts {
        called.file("known-hosts", path, place.child("knownHosts"));
    }
    Ok(())
}
