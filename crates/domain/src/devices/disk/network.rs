//! Images on servers, `<source protocol='...'>`.

use crate::reader::Reader;
use crate::writer::{OpenElement, Writer};

crate::keywords! {
    /// Protocols of servers.
    pub enum NetworkProtocol {
        /// Network block devices.
        Nbd = "nbd",
        /// Ceph's block devices.
        Rbd = "rbd",
        /// Sheepdog, which no QEMU knows any more.
        Sheepdog = "sheepdog",
        /// Gluster.
        Gluster = "gluster",
        /// SCSI over TCP.
        Iscsi = "iscsi",
        /// HTTP.
        Http = "http",
        /// HTTP over TLS.
        Https = "https",
        /// FTP.
        Ftp = "ftp",
        /// FTP over TLS.
        Ftps = "ftps",
        /// TFTP, which no QEMU knows any more.
        Tftp = "tftp",
        /// SSH.
        Ssh = "ssh",
        /// Veritas HyperScale, which no QEMU knows any more.
        Vxhs = "vxhs",
        /// NFS.
        Nfs = "nfs",
    }
}

crate::keywords! {
    /// Ways to a server.
    pub enum NetworkTransport {
        /// TCP.
        Tcp = "tcp",
        /// A Unix socket.
        Unix = "unix",
        /// Remote access to memory.
        Rdma = "rdma",
    }
}

crate::attributes! {
    /// A server.
    pub struct NetworkHost {
        /// The way to it; TCP when nothing is written.
        pub transport: NetworkTransport = keyword "transport",
        /// Its name or address.
        pub name: String = string "name",
        /// Its port.
        pub port: u16 = number "port",
        /// The path of its Unix socket.
        pub socket: String = string "socket",
    }
}

crate::attributes! {
    /// Who the guest is on a server.
    pub struct NetworkIdentity {
        /// The user that owns files (NFS).
        pub user: String = string "user",
        /// The group that owns files (NFS).
        pub group: String = string "group",
        /// The user's name (SSH).
        pub username: String = string "username",
        /// The file with the key (SSH).
        pub keyfile: String = string "keyfile",
        /// The socket of the agent that has the key (SSH).
        pub agent_socket: String = string "agentsock",
    }
}

/// An image on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSource {
    /// The protocol.
    pub protocol: NetworkProtocol,
    /// The image's name or path on the server.
    pub name: Option<String>,
    /// What follows the path in a URL.
    pub query: Option<String>,
    /// Whether the connection uses TLS.
    pub tls: Option<bool>,
    /// The name that the server's certificate must have.
    pub tls_hostname: Option<String>,
    /// The servers.
    pub hosts: Vec<NetworkHost>,
    /// The snapshot of the image (Ceph).
    pub snapshot: Option<String>,
    /// The file with the cluster's description (Ceph).
    pub config: Option<String>,
    /// The name of the guest's side (iSCSI).
    pub initiator: Option<String>,
    /// Whether the server's certificate is checked (HTTPS).
    pub verify: Option<bool>,
    /// How many bytes are read ahead (HTTP).
    pub readahead: Option<u64>,
    /// After how many seconds a request fails (HTTP).
    pub timeout: Option<u64>,
    /// Cookies (HTTP): names and values.
    pub cookies: Vec<(String, String)>,
    /// The file with keys of hosts (SSH).
    pub known_hosts: Option<String>,
    /// Who the guest is there.
    pub identity: NetworkIdentity,
    /// For how many seconds a lost connection is tried again (NBD).
    pub reconnect_delay: Option<u32>,
}

impl NetworkSource {
    pub(crate) fn parse(source: &Reader<'_>) -> Option<Self> {
        let _ = source.required("protocol", "nbd"); // The word itself is read next.
        let child = |name: &str| source.child(name);
        let hosts = source.children("host");
        hosts.iter().for_each(check_host);
        let this = Self {
            name: source.string("name"),
            query: source.string("query"),
            tls: source.yes_no("tls"),
            tls_hostname: source.string("tlsHostname"),
            hosts: hosts.iter().map(NetworkHost::parse).collect(),
            snapshot: child("snapshot").and_then(|child| child.string("name")),
            config: child("config").and_then(|child| child.string("file")),
            initiator: child("initiator").and_then(|child| child.child("iqn")?.string("name")),
            verify: child("ssl").and_then(|child| child.yes_no("verify")),
            readahead: child("readahead").and_then(|child| child.number("size")),
            timeout: child("timeout").and_then(|child| child.number("seconds")),
            cookies: child("cookies").map(|child| cookies(&child)).unwrap_or_default(),
            known_hosts: child("knownHosts").and_then(|child| child.string("path")),
            identity: child("identity")
                .map(|child| NetworkIdentity::parse(&child))
                .unwrap_or_default(),
            reconnect_delay: child("reconnect").and_then(|child| child.number("delay")),
            protocol: source.keyword("protocol")?,
        };
        if this.name.is_none() && this.protocol != NetworkProtocol::Nbd {
            source.refuse("attribute 'name' is missing; give the image's name on the server");
        }
        Some(this)
    }

    /// The port that a protocol has when nothing is written.
    #[must_use]
    pub fn default_port(&self) -> Option<u16> {
        match self.protocol {
            NetworkProtocol::Nbd => Some(10809),
            NetworkProtocol::Sheepdog => Some(7000),
            NetworkProtocol::Gluster => Some(24007),
            NetworkProtocol::Iscsi => Some(3260),
            NetworkProtocol::Http => Some(80),
            NetworkProtocol::Https => Some(443),
            NetworkProtocol::Ftp => Some(21),
            NetworkProtocol::Ftps => Some(990),
            NetworkProtocol::Tftp => Some(69),
            NetworkProtocol::Ssh => Some(22),
            NetworkProtocol::Vxhs => Some(9999),
            NetworkProtocol::Rbd | NetworkProtocol::Nfs => None,
        }
    }

    /// Fills in ports.
    pub fn complete(&mut self) {
        let port = self.default_port();
        for host in &mut self.hosts {
            if host.transport.unwrap_or(NetworkTransport::Tcp) == NetworkTransport::Tcp {
                host.transport = None;
                host.port = host.port.or(port);
            }
        }
    }

    pub(super) fn write_attributes<'w>(&self, element: OpenElement<'w>) -> OpenElement<'w> {
        element
            .attribute("protocol", self.protocol)
            .optional("name", self.name.as_ref())
            .optional("query", self.query.as_ref())
            .yes_no("tls", self.tls)
            .optional("tlsHostname", self.tls_hostname.as_ref())
    }

    pub(super) fn write_children(&self, w: &mut Writer) {
        self.hosts.iter().for_each(|host| host.write("host", w));
        w.element("snapshot").optional("name", self.snapshot.as_ref()).empty_if_any();
        w.element("config").optional("file", self.config.as_ref()).empty_if_any();
        if let Some(name) = &self.initiator {
            w.element("initiator").children(|w| {
                w.element("iqn").attribute("name", name).empty();
            });
        }
        w.element("reconnect").optional("delay", self.reconnect_delay).empty_if_any();
        w.element("knownHosts").optional("path", self.known_hosts.as_ref()).empty_if_any();
        self.identity.write("identity", w);
        w.element("ssl").yes_no("verify", self.verify).empty_if_any();
        w.element("cookies").children_if_any(|w| {
            for (name, value) in &self.cookies {
                w.element("cookie").attribute("name", name).text(value);
            }
        });
        w.element("readahead").optional("size", self.readahead).empty_if_any();
        w.element("timeout").optional("seconds", self.timeout).empty_if_any();
    }
}

/// Refuses a host that nobody could reach.
fn check_host(host: &Reader<'_>) {
    let unix = host.attribute("transport") == Some("unix");
    match (unix, host.attribute("name"), host.attribute("socket")) {
        (true, _, None) => host.refuse("attribute 'socket' is missing; give the socket's path"),
        (true, Some(_), Some(_)) => {
            host.refuse_attribute("name", "a Unix socket has no name; remove it");
        }
        (false, None, _) => host.refuse("attribute 'name' is missing; give the server's name"),
        (false, _, Some(_)) => {
            host.refuse_attribute("socket", "only transport='unix' has a socket; remove it");
        }
        (true, None, Some(_)) | (false, Some(_), None) => {}
    }
}

fn cookies(reader: &Reader<'_>) -> Vec<(String, String)> {
    let mut cookies: Vec<(String, String)> = Vec::new();
    for cookie in reader.children("cookie") {
        let value = cookie.text().into_owned();
        let Some(name) = cookie.required("name", "session") else { continue };
        if cookies.iter().any(|(other, _)| other == name) {
            cookie.refuse_attribute("name", "another cookie has this name; give another");
        }
        let forbidden =
            |c: char| c.is_control() || c.is_whitespace() || "()<>@,;:\\\"/[]?={}".contains(c);
        if name.is_empty() || name.contains(forbidden) {
            cookie.refuse_attribute("name", "a cookie's name is letters, digits and dashes");
        }
        // A value may stand in quotes as a whole (RFC 6265, section 4.1.1).
        let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(&value);
        if inner.contains(|c: char| c.is_control() || " \",;\\".contains(c)) {
            cookie.refuse("the value has a character that no cookie may have; take it out");
        }
        cookies.push((name.to_owned(), value));
    }
    cookies
}
