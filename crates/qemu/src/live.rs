//! What each start assigns anew: boot order, aliases, USB ports.

use domain::{Domain, Faults};

use crate::boot;
use crate::facts::HostFacts;

mod aliases;
mod usb;

/// A copy of a completed domain with what one start assigns, as a management program shows a running guest.
#[must_use]
pub fn live(domain: &Domain, _facts: &HostFacts, faults: &Faults) -> Domain {
    let mut domain = domain.clone();
    boot::assign(&mut domain);
    usb::assign(&mut domain, faults);
    aliases::assign(&mut domain);
    domain
}
