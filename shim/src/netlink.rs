//! Network devices of the kernel, looked at and changed over a netlink socket (rtnetlink(7)).
//!
//! What the kernel is told in one message it does as a whole or not at all, but for the settings of a device
//! that exists, which it makes one after the other.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// A netlink socket.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

/// What the kernel says of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) index: i32,
    /// Whether it is switched on.
    pub(crate) up: bool,
    /// Its largest packet.
    pub(crate) mtu: u32,
    /// The number of the bridge that it is a port of.
    pub(crate) master: Option<i32>,
    /// Its address.
    pub(crate) address: Vec<u8>,
    /// What it is, such as `tun` or `macvtap`, if it was made.
    pub(crate) kind: Option<String>,
}

impl Link {
    /// Whether it is a tap or tun device.
    pub(crate) fn is_tap(&self) -> bool {
        self.kind.as_deref() == Some("tun")
    }

    /// Whether it is a macvtap device.
    pub(crate) fn is_macvtap(&self) -> bool {
        self.kind.as_deref() == Some("macvtap")
    }
}

/// What is to become of a device; what is not set stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its address.
    pub(crate) address: Option<[u8; 6]>,
    /// Its largest packet.
    pub(crate) mtu: Option<u32>,
    /// The number of the bridge that it joins.
    pub(crate) master: Option<i32>,
    /// Whether it is switched on.
    pub(crate) up: bool,
}

/// How a macvtap device shares the one below it (`MACVLAN_MODE_*`, linux/if_link.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MacvtapMode {
    Private = 1,
    Vepa = 2,
    Bridge = 4,
}

// Attributes of a device (`IFLA_*`, linux/if_link.h).
const ADDRESS: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const LOWER: u16 = 5;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const MACVLAN_MODE: u16 = 1;

/// The bits of an attribute's type that are none of its number (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_FLAGS: u16 = 0xc000;

/// Sizes of `struct nlmsghdr`, of `struct ifinfomsg` behind it, and of `struct rtattr`.
const HEADER: usize = 16;
const BODY: usize = HEADER + 16;
const ATTRIBUTE: usize = 4;

/// More than the kernel says of any device.
const LARGEST_ANSWER: usize = 64 << 10;

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
        Ok(Self(socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?))
    }

    /// The device of this name, if there is one.
    pub(crate) fn link(&self, name: &str) -> io::Result<Option<Link>> {
        let mut message = Message::new(libc::RTM_GETLINK, 0, 0, false);
        message.text(NAME, name);
        match self.ask(message) {
            Ok(answer) => Ok(Some(read_link(&answer).ok_or(io::ErrorKind::InvalidData)?)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes a device.
    pub(crate) fn change(&self, index: i32, change: &Change) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, index, change.up);
        if let Some(address) = change.address {
            message.attribute(ADDRESS, &address);
        }
        if let Some(mtu) = change.mtu {
            message.attribute(MTU, &mtu.to_ne_bytes());
        }
        if let Some(master) = change.master {
            message.attribute(MASTER, &master.to_ne_bytes());
        }
        self.ask(message).map(|_| ())
    }

    /// Makes a macvtap device of this name and address on the device `lower`, switched on.
    pub(crate) fn add_macvtap(
        &self,
        name: &str,
        lower: i32,
        mode: MacvtapMode,
        address: [u8; 6],
    ) -> io::Result<()> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut message = Message::new(libc::RTM_NEWLINK, flags, 0, true);
        message.text(NAME, name);
        message.attribute(LOWER, &lower.to_ne_bytes());
        message.attribute(ADDRESS, &address);
        message.nested(LINKINFO, |info| {
            info.text(INFO_KIND, "macvtap");
            info.nested(INFO_DATA, |data| {
                data.attribute(MACVLAN_MODE, &(mode as u32).to_ne_bytes());
            });
        });
        self.ask(message).map(|_| ())
    }

    /// Removes a device.
    pub(crate) fn remove(&self, index: i32) -> io::Result<()> {
        self.ask(Message::new(libc::RTM_DELLINK, libc::NLM_F_ACK, index, false)).map(|_| ())
    }

    /// Sends a message and gives the kernel's answer, a message of its own or the word that it is done.
    fn ask(&self, message: Message) -> io::Result<Vec<u8>> {
        send(self.0.as_raw_fd(), &message.finish(), MsgFlags::empty())?;
        let mut answer = vec![0; LARGEST_ANSWER];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        answer.truncate(length);
        let kind = u16_at(&answer, 4).ok_or(io::ErrorKind::InvalidData)?;
        if libc::c_int::from(kind) != libc::NLMSG_ERROR {
            return Ok(answer);
        }
        // `struct nlmsgerr`: the error's number, negative, or 0.
        match i32_at(&answer, HEADER) {
            Some(0) => Ok(answer),
            Some(error) => Err(io::Error::from_raw_os_error(-error)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A message about a device in the making.
#[derive(Debug)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: libc::c_int, index: i32, up: bool) -> Self {
        let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or_default();
        let up = if up { u32::try_from(libc::IFF_UP).unwrap_or_default() } else { 0 };
        let mut bytes = vec![0; 4]; // The length, known at the end.
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]); // Number and sender: there is one question at a time.
        bytes.extend([0; 4]); // Any family, any type.
        bytes.extend(index.to_ne_bytes());
        bytes.extend(up.to_ne_bytes());
        bytes.extend(up.to_ne_bytes()); // Which flags are meant.
        Self(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, &[text.as_bytes(), b"\0"].concat());
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        fill(&mut inner);
        self.attribute(kind, &inner.0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// The device that an answer is about.
fn read_link(answer: &[u8]) -> Option<Link> {
    let flags = i32_at(answer, HEADER + 8)?;
    let index = i32_at(answer, HEADER + 4)?;
    let mut link = Link { index, up: flags & libc::IFF_UP != 0, ..Link::default() };
    for (kind, value) in attributes(answer.get(BODY..)?) {
        match kind {
            ADDRESS => link.address = value.to_vec(),
            MTU => link.mtu = u32::try_from(i32_at(value, 0)?).ok()?,
            MASTER => link.master = i32_at(value, 0),
            LINKINFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == INFO_KIND);
                link.kind = kind.map(|(_, text)| {
                    String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
                });
            }
            _ => {}
        }
    }
    Some(link)
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let (kind, value) = (u16_at(bytes, 2)?, bytes.get(ATTRIBUTE..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !TYPE_FLAGS, value))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_there_and_no_other_name() {
        let netlink = Netlink::open().unwrap();
        let loopback = netlink.link("lo").unwrap().unwrap();
        assert_eq!((loopback.index, loopback.address.len(), loopback.master), (1, 6, None));
        assert!(loopback.mtu > 0);
        assert_eq!(netlink.link("glassbox-none").unwrap(), None);
        // Changing nothing is no error, and shows that the kernel reads the message.
        netlink.change(loopback.index, &Change::default()).unwrap_or_else(|error| {
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "only root may");
        });
    }

    #[test]
    fn a_message_is_padded_and_nested() {
        let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, 7, true);
        message.text(NAME, "tap0");
        message.nested(LINKINFO, |info| info.text(INFO_KIND, "macvtap"));
        let bytes = message.finish();
        assert_eq!(bytes.len(), BODY + 12 + 4 + 12);
        let read = read_link(&bytes).unwrap();
        let expected =
            Link { index: 7, up: true, kind: Some("macvtap".to_owned()), ..Link::default() };
        assert_eq!(read, expected);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_no_device() {
        let bytes = Message::new(libc::RTM_NEWLINK, 0, 7, true).finish();
        assert_eq!(read_link(&bytes[..BODY - 8]), None);
        let mut message = Message::new(libc::RTM_NEWLINK, 0, 7, true);
        message.attribute(MTU, &[1]);
        assert_eq!(read_link(&message.finish()), None, "a number of one byte");
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0, "an attribute that never ends");
    }
}
