//! Displays that people look at.

use domain::devices::{Graphics, GraphicsType, Listen, Password};
use domain::{Domain, Faults, Place};

use crate::command::Command;
use crate::facts::HostFacts;
use crate::plan::{Access, DisplayPassword, PasswordProtocol};

mod local;
mod spice;
mod vnc;

/// How libvirt names the directory of a guest that runs: `domain-ID-NAME` (`qemuDomainSetPrivatePaths`).
const RUN_OF_LIBVIRT: &str = "domain-";

/// Fills in whether displays look for a free port, and forgets sockets that an earlier start of libvirt's made.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts) {
    // Each run of libvirt's has another directory, so a socket in one is nobody's wish. Here a guest has the same one each
    // time, and whoever names a socket in it means it.
    let own = facts.directories.guest.as_str();
    let beside = own.rsplit_once('/').map_or("", |(parent, _)| parent);
    let in_directory =
        |path: &str, of: &str| path.strip_prefix(of).is_some_and(|rest| rest.starts_with('/'));
    let made = |path: &str| {
        in_directory(path, beside)
            && !in_directory(path, own)
            && path[beside.len() + 1..].starts_with(RUN_OF_LIBVIRT)
    };
    for graphics in &mut domain.devices.graphics {
        let listens = match graphics {
            Graphics::Vnc(vnc) => &mut vnc.listens,
            Graphics::Spice(spice) => &mut spice.listens,
            Graphics::Rdp(_) | Graphics::Sdl(_) | Graphics::Dbus(_) | Graphics::EglHeadless(_) => {
                continue;
            }
        };
        for listen in listens {
            if matches!(listen, Listen::Socket(Some(path)) if made(path)) {
                *listen = Listen::Address(None);
            }
        }
        match graphics {
            Graphics::Vnc(vnc) => vnc::complete(vnc),
            Graphics::Spice(spice) => spice::complete(spice),
            Graphics::Rdp(_) | Graphics::Sdl(_) | Graphics::Dbus(_) | Graphics::EglHeadless(_) => {}
        }
    }
}

/// The longest password of VNC, which is a key of DES (RFC 6143, section 7.2.2).
const VNC_PASSWORD: usize = 8;

/// Refuses displays that one QEMU does not have together.
pub(crate) fn check(domain: &Domain, faults: &Faults) {
    let all = &domain.devices.graphics;
    for (index, graphics) in all.iter().enumerate() {
        if all.iter().take(index).any(|other| other.kind() == graphics.kind()) {
            let what = format!("a guest has one display of type '{}'; remove one", graphics.kind());
            faults.push(graphics.place().refused(what));
        }
    }
    for vnc in all.iter().filter_map(|graphics| match graphics {
        Graphics::Vnc(vnc) => Some(vnc),
        Graphics::Spice(_) | Graphics::Sdl(_) | Graphics::Rdp(_) => None,
        Graphics::Dbus(_) | Graphics::EglHeadless(_) => None,
    }) {
        if vnc.password.passwd.as_ref().is_some_and(|password| password.len() > VNC_PASSWORD) {
            let what = format!("VNC knows {VNC_PASSWORD} characters of a password; shorten it");
            faults.push(vnc.place.refused(what));
        }
    }
    if !all.iter().any(|graphics| graphics.kind() == GraphicsType::EglHeadless) {
        return;
    }
    for graphics in all {
        let what = match graphics {
            Graphics::Spice(spice) if spice.renders() => {
                "one display renders; remove <gl> here or the display of type 'egl-headless'"
            }
            Graphics::Vnc(_) | Graphics::Spice(_) | Graphics::EglHeadless(_) => continue,
            Graphics::Sdl(_) | Graphics::Rdp(_) | Graphics::Dbus(_) => {
                "a display of type 'egl-headless' goes with vnc or spice only; remove one of them"
            }
        };
        faults.push(graphics.place().refused(what));
    }
}

/// Adds a display.
pub(crate) fn arguments(command: &mut Command<'_>, graphics: &Graphics) {
    match graphics {
        Graphics::Vnc(vnc) => vnc::arguments(command, vnc),
        Graphics::Spice(spice) => spice::arguments(command, spice),
        Graphics::Sdl(sdl) => local::sdl(command, sdl),
        Graphics::Dbus(dbus) => local::dbus(command, dbus),
        Graphics::EglHeadless(egl) => local::egl_headless(command, egl),
        Graphics::Rdp(rdp) => {
            // RDP is another program's work, which takes the display from D-Bus.
            let dbus = command.domain.devices.graphics.iter();
            if !dbus.clone().any(|other| other.kind() == GraphicsType::Dbus) {
                let what = "RDP shows the display of D-Bus; add <graphics type='dbus'/>";
                command.refuse(&rdp.place, what);
            } else if !command.facts.helpers.rdp {
                let what = "glassbox starts no program that speaks RDP; use type='vnc'";
                command.refuse(&rdp.place, what);
            }
        }
    }
}

/// The host's address on a virtual network is not known to a pure plan.
fn refuse_network(command: &Command<'_>, place: &Place, network: &str) {
    let what = format!(
        "glassbox does not know the address of the network '{network}'; use \
         <listen type='address' address='...'/>"
    );
    command.refuse(place, what);
}

/// The GPU that renders: the one that the domain names, else the host's.
fn render_node(command: &mut Command<'_>, named: Option<&String>, place: &Place) -> Option<String> {
    let node = named.or(command.facts.displays.render_node.as_ref()).cloned();
    if let Some(node) = &node {
        command.needs_file(node, Access::ReadWrite, &place.child("gl"));
    }
    node
}

fn set_password(
    command: &mut Command<'_>,
    protocol: PasswordProtocol,
    password: &Password,
    place: &Place,
) {
    let valid_to = password.valid_to.as_deref().map(|text| (text, seconds(text)));
    if let Some((text, None)) = valid_to {
        let what = format!("'{text}' is no time; write it as 2030-04-09T15:51:00, in UTC");
        command.refuse(place, format!("attribute 'passwdValidTo': {what}"));
    }
    if let Some(text) = &password.passwd {
        command.sets_password(DisplayPassword {
            protocol,
            password: text.clone(),
            valid_to: valid_to.and_then(|(_, seconds)| seconds),
            connected: password.connected.map(|connected| connected.as_str()),
        });
    }
}

/// Seconds from 1970 to a time such as `2030-04-09T15:51:00` of UTC.
fn seconds(time: &str) -> Option<u64> {
    let (date, clock) = time.split_once('T')?;
    let numbers = |text: &str, separator| {
        let parts: Option<Vec<u64>> = text.split(separator).map(|part| part.parse().ok()).collect();
        <[u64; 3]>::try_from(parts?).ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(clock, ':')?);
    let sound = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    // Years begin in March here, so that the day that leap years add is their last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    const DAYS_TO_1970: u64 = 719_468;
    let days = days.checked_sub(DAYS_TO_1970).filter(|_| sound)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        for (time, expected) in [
            ("1970-01-01T00:00:00", Some(0)),
            ("2000-02-29T12:00:01", Some(951_825_601)),
            ("2030-04-09T15:51:00", Some(1_901_980_260)),
            ("2030-13-09T15:51:00", None),
            ("2030-04-09", None),
            ("tomorrow", None),
        ] {
            assert_eq!(seconds(time), expected, "{time}");
        }
    }

    /// Where a guest `web` listens whose definition names this socket, after completion.
    fn listens(socket: &str) -> Listen {
        let text = format!(
            "<domain type='qemu'><name>web</name><memory>65536</memory><os><type>hvm</type></os><devices>
             <graphics type='vnc'><listen type='socket' socket='{socket}'/></graphics></devices></domain>"
        );
        let faults = Faults::new();
        let mut domain = Domain::parse(&text, &faults).unwrap();
        complete(&mut domain, &HostFacts::local("web"));
        assert!(!faults.any_refused());
        let Graphics::Vnc(vnc) = &domain.devices.graphics[0] else { panic!("no VNC") };
        vnc.listens[0].clone()
    }

    #[test]
    fn only_a_socket_of_a_run_of_libvirts_is_forgotten() {
        let kept = |path: &str| Listen::Socket(Some(path.to_owned()));
        for path in ["/run/glassbox/guest/web/vnc", "/run/glassbox/guest/db/vnc", "/srv/vnc"] {
            assert_eq!(listens(path), kept(path));
        }
        assert_eq!(listens("/run/glassbox/guest/domain-7-web/vnc.sock"), Listen::Address(None));
    }
}
