//! What each start assigns anew: boot order, aliases, USB ports, numbers of block nodes.

use domain::{Domain, Faults};

use crate::facts::HostFacts;
use crate::{boot, devices};

mod aliases;
mod usb;

/// A copy of a completed domain with what one start assigns, for the command line.
#[must_use]
pub fn live(domain: &Domain, facts: &HostFacts, faults: &Faults) -> Domain {
    let mut domain = running(domain, facts, faults);
    boot::assign(&mut domain);
    domain
}

/// A copy of a completed domain as a management program shows a running guest: with what one start assigns and the
/// guest then keeps, which [`Domain::parse_running`] reads back.
///
/// What has been assigned to a device stays, so a device that is new in a running guest gets what is free.
#[must_use]
pub fn running(domain: &Domain, facts: &HostFacts, faults: &Faults) -> Domain {
    let mut domain = domain.clone();
    usb::assign(&mut domain, faults);
    aliases::assign(&mut domain);
    devices::disk::number(&mut domain, &facts.storage);
    domain
}
