//! Images on servers: the drivers of QEMU's clients.

use domain::devices::{DiskSource, NetworkHost, NetworkProtocol, NetworkSource, NetworkTransport};

use crate::command::Command;
use crate::json::{Json, Object};
use crate::secrets;
use crate::storage::{SecretNeed, cookie_text, is_known};

use super::block::{Image, Layer, keys};
use super::nbdkit;

/// The driver and options of an image's storage node; nothing when it is refused. One that is a disk's, a `layer`, may be
/// served by nbdkit.
pub(super) fn properties(
    command: &mut Command<'_>,
    image: &Image<'_>,
    network: &NetworkSource,
    layer: Option<&Layer<'_>>,
) -> Option<Object> {
    let refuse = |what: String| {
        command.refuse(&image.source.place, what);
        None
    };
    if !is_known(network.protocol) {
        return refuse(format!(
            "no QEMU knows '{}' any more; use another protocol",
            network.protocol
        ));
    }
    if network.tls == Some(true) && network.protocol != NetworkProtocol::Nbd {
        return refuse(format!("'{}' has no attribute 'tls'; remove it", network.protocol));
    }
    let only_host = || network.hosts.first().filter(|_| network.hosts.len() == 1);
    match network.protocol {
        NetworkProtocol::Rbd => Some(rbd(command, image, network)),
        NetworkProtocol::Gluster => gluster(command, image, network),
        NetworkProtocol::Sheepdog | NetworkProtocol::Vxhs | NetworkProtocol::Tftp => None,
        NetworkProtocol::Nbd
        | NetworkProtocol::Iscsi
        | NetworkProtocol::Http
        | NetworkProtocol::Https
        | NetworkProtocol::Ftp
        | NetworkProtocol::Ftps
        | NetworkProtocol::Ssh
        | NetworkProtocol::Nfs => {
            let Some(host) = only_host() else {
                return refuse(format!("'{}' needs exactly one <host>", network.protocol));
            };
            if !is_reached_by_tcp(command, image, network, host) {
                return None;
            }
            if let Some(layer) = layer
                && nbdkit::serves(command.facts, network.protocol)
            {
                return nbdkit::serve(command, layer, network, host);
            }
            of_one_host(command, image, network, host)
        }
    }
}

/// Whether a server is reached as all are but those of NBD.
fn is_reached_by_tcp(
    command: &Command<'_>,
    image: &Image<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
) -> bool {
    let transport = host.transport.unwrap_or(NetworkTransport::Tcp);
    if transport != NetworkTransport::Tcp && network.protocol != NetworkProtocol::Nbd {
        let what = format!("'{}' is reached by TCP only; remove 'transport'", network.protocol);
        command.refuse(&image.source.place, what);
        return false;
    }
    true
}

fn of_one_host(
    command: &mut Command<'_>,
    image: &Image<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
) -> Option<Object> {
    match network.protocol {
        NetworkProtocol::Nbd => nbd(command, image, network, host),
        NetworkProtocol::Iscsi => iscsi(command, image, network, host),
        NetworkProtocol::Ssh => ssh(command, image, network, host),
        NetworkProtocol::Nfs => nfs(command, image, network, host),
        NetworkProtocol::Http
        | NetworkProtocol::Https
        | NetworkProtocol::Ftp
        | NetworkProtocol::Ftps => Some(curl(command, image, network, host)),
        NetworkProtocol::Rbd
        | NetworkProtocol::Gluster
        | NetworkProtocol::Sheepdog
        | NetworkProtocol::Vxhs
        | NetworkProtocol::Tftp => None,
    }
}

/// A server as QEMU's `SocketAddress`; nothing for one that is reached by RDMA.
fn address(host: &NetworkHost) -> Option<Object> {
    match host.transport.unwrap_or(NetworkTransport::Tcp) {
        NetworkTransport::Tcp => Some(
            Object::new("type", "inet")
                .some("host", host.name.as_ref())
                .some("port", host.port.map(|port| port.to_string())),
        ),
        NetworkTransport::Unix => {
            Some(Object::new("type", "unix").some("path", host.socket.as_ref()))
        }
        NetworkTransport::Rdma => None,
    }
}

/// A server as QEMU's `InetSocketAddressBase`, which has a port always; 0 is for Ceph the usual one.
fn plain_address(host: &NetworkHost) -> Object {
    let name = host.name.clone().unwrap_or_default();
    Object::new("host", name).set("port", host.port.unwrap_or_default().to_string())
}

/// A path as part of a URL (RFC 3986, section 2).
fn escaped(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()/;@&=+$,:".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A server as part of a URL: addresses of IPv6 stand in brackets.
fn in_url(host: &NetworkHost) -> String {
    let name = host.name.as_deref().unwrap_or_default();
    let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
    host.port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"))
}

/// Adds the password; the result is the secret's id.
fn password(command: &mut Command<'_>, image: &Image<'_>) -> Option<(String, String)> {
    let auth = image.source.auth.as_ref()?;
    // A pool has a user of its own.
    if matches!(image.source.kind, domain::devices::SourceKind::Volume(_)) {
        return None;
    }
    let id = format!("{}-auth-secret0", image.node("storage"));
    let need = SecretNeed::Stored(auth.secret.clone());
    Some((auth.username.clone(), secrets::add(command, id, &need, &image.source.place)))
}

fn nbd(
    command: &mut Command<'_>,
    image: &Image<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
) -> Option<Object> {
    let Some(server) = address(host) else {
        command.refuse(&image.source.place, "'nbd' is not reached by RDMA; use tcp or unix");
        return None;
    };
    let tls = (network.tls == Some(true)).then(|| {
        let id = format!("obj{}_tls0", image.node("storage"));
        let credentials = Object::new("qom-type", "tls-creds-x509")
            .set("id", &id)
            .set("dir", &command.facts.storage.nbd_certificates)
            .set("endpoint", "client")
            .set("verify-peer", true);
        command.object(&credentials);
        id
    });
    Some(
        Object::new("driver", "nbd")
            .set("server", server)
            .some("export", network.name.as_ref())
            .some("tls-creds", tls)
            .some("tls-hostname", network.tls_hostname.as_ref())
            .some("reconnect-delay", network.reconnect_delay),
    )
}

fn rbd(command: &mut Command<'_>, image: &Image<'_>, network: &NetworkSource) -> Object {
    let name = network.name.as_deref().unwrap_or_default();
    let (pool, volume) = name.split_once('/').unwrap_or((name, ""));
    if volume.is_empty() || pool.is_empty() {
        let what = format!("'{name}' is no image of Ceph; write pool and image, pool/image");
        command.refuse(&image.source.place, what);
    }
    if network.hosts.iter().any(|host| host.transport.is_some_and(|it| it != NetworkTransport::Tcp))
    {
        command.refuse(&image.source.place, "'rbd' is reached by TCP only; remove 'transport'");
    }
    let servers: Vec<Object> = network.hosts.iter().map(plain_address).collect();
    let encryption = image.source.encryption.as_ref();
    let encrypt = encryption.filter(|_| image.encryption().is_none()).and_then(|encryption| {
        let keys = keys(command, image, encryption, "storage");
        // Each image below may have a key of its own.
        keys.into_iter().rev().fold(None, |parent: Option<Object>, key| {
            let layer = Object::new("format", encryption.format.as_str()).set("key-secret", key);
            Some(layer.some("parent", parent))
        })
    });
    let node = Object::new("driver", "rbd")
        .set("pool", pool)
        .set("image", volume)
        .some("snapshot", network.snapshot.as_ref())
        .some("conf", network.config.as_ref())
        .some("server", (!servers.is_empty()).then_some(servers))
        .some("encrypt", encrypt);
    match password(command, image) {
        None => node,
        Some((user, secret)) => node
            .set("user", user)
            .set("auth-client-required", vec!["cephx", "none"])
            .set("key-secret", secret),
    }
}

fn gluster(command: &Command<'_>, image: &Image<'_>, network: &NetworkSource) -> Option<Object> {
    let name = network.name.as_deref().unwrap_or_default();
    let servers: Option<Vec<Object>> = network.hosts.iter().map(address).collect();
    let place = &image.source.place;
    let (Some((volume, path)), Some(servers)) = (name.split_once('/'), servers) else {
        let what = "'gluster' needs a name such as volume/path and hosts reached by tcp or unix";
        command.refuse(place, what);
        return None;
    };
    if servers.is_empty() || volume.is_empty() {
        command.refuse(place, "'gluster' needs a volume and at least one <host>");
    }
    Some(
        Object::new("driver", "gluster")
            .set("volume", volume)
            .set("path", path)
            .set("server", servers)
            .some("debug", command.facts.storage.gluster_debug),
    )
}

fn iscsi(
    command: &mut Command<'_>,
    image: &Image<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
) -> Option<Object> {
    let name = network.name.as_deref().unwrap_or_default();
    let (target, lun) = name.split_once('/').unwrap_or((name, "0"));
    let Ok(lun) = lun.parse::<u32>() else {
        let what = format!("'{lun}' is no unit of an iSCSI target; write target/number");
        command.refuse(&image.source.place, what);
        return None;
    };
    let user = password(command, image);
    let (user, secret) = user.unzip();
    Some(
        Object::new("driver", "iscsi")
            .set("portal", in_url(host))
            .set("target", target)
            .set("lun", lun)
            .set("transport", "tcp")
            .some("user", user)
            .some("password-secret", secret)
            .some("initiator-name", network.initiator.as_ref()),
    )
}

/// Where an image is, as a URL.
pub(super) fn url(network: &NetworkSource, host: &NetworkHost) -> String {
    let path = escaped(network.name.as_deref().unwrap_or_default());
    let slash = if path.starts_with('/') { "" } else { "/" };
    let query = network.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}://{}{slash}{path}{query}", network.protocol, in_url(host))
}

fn curl(
    command: &mut Command<'_>,
    image: &Image<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
) -> Object {
    let (user, secret) = password(command, image).unzip();
    let cookies = (!network.cookies.is_empty()).then(|| {
        let id = format!("{}-httpcookie-secret0", image.node("storage"));
        let need = SecretNeed::Text(cookie_text(&network.cookies));
        secrets::add(command, id, &need, &image.source.place)
    });
    Object::new("driver", network.protocol.as_str())
        .set("url", url(network, host))
        .some("username", user)
        .some("password-secret", secret)
        .some("sslverify", network.verify)
        .some("cookie-secret", cookies)
        .some("readahead", network.readahead)
        .some("timeout", network.timeout)
}

fn ssh(
    command: &Command<'_>,
    image: &Image<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
) -> Option<Object> {
    let identity = &network.identity;
    let key = identity.keyfile.is_some() || identity.agent_socket.is_some();
    if key || network.known_hosts.is_some() || image.source.auth.is_some() {
        let what = "keys, passwords and files of hosts need nbdkit, which is not installed or not started for this \
                    guest; install it, of nbdkit-plugin-ssh or nbdkit, or let an SSH agent have the key and \
                    ~/.ssh/known_hosts the host";
        command.refuse(&image.source.place, what);
        return None;
    }
    Some(
        Object::new("driver", "ssh")
            .some("path", network.name.as_ref())
            .set("server", plain_address(host))
            .some("user", identity.username.as_ref()),
    )
}

fn nfs(
    command: &Command<'_>,
    image: &Image<'_>,
    network: &NetworkSource,
    host: &NetworkHost,
) -> Option<Object> {
    // A plus sign says that what follows is a number and no name.
    let id = |text: &Option<String>| -> Result<Option<u32>, ()> {
        let Some(text) = text else { return Ok(None) };
        text.trim_start_matches('+').parse().map(Some).map_err(drop)
    };
    let (user, group) = (id(&network.identity.user), id(&network.identity.group));
    let (Ok(user), Ok(group)) = (user, group) else {
        let what = "give user and group of <identity> as numbers, such as user='+1000'";
        command.refuse(&image.source.place, what);
        return None;
    };
    let server = Object::new("host", host.name.clone().unwrap_or_default()).set("type", "inet");
    Some(
        Object::new("driver", "nfs")
            .set("path", Json::from(network.name.clone().unwrap_or_default()))
            .set("server", server)
            .some("user", user)
            .some("group", group),
    )
}

/// The storage node of variables of firmware on a server, with this name; nothing when it is refused.
pub(crate) fn firmware_storage(
    command: &mut Command<'_>,
    source: &DiskSource,
    network: &NetworkSource,
    name: &str,
) -> Option<Object> {
    let image = Image { source, name: name.to_owned() };
    Some(properties(command, &image, network, None)?.set("node-name", image.node("storage")))
}
