//! Smart cards, `<smartcard>`.

use domain::devices::{Address, CcidAddress, ControllerKind, Smartcard, SmartcardSource};
use domain::{Domain, Faults};

use crate::command::Command;
use crate::devices::{chardev, controller, placed};
use crate::json::Object;

/// The database of certificates when the domain names none.
const DEFAULT_DATABASE: &str = "/etc/pki/nssdb";

/// Gives cards without a slot the next one of reader 0, and adds the readers. QEMU has one card only.
pub(crate) fn assign_slots(domain: &mut Domain, faults: &Faults) {
    let mut readers = Vec::new();
    let mut next = 0;
    for (index, card) in domain.devices.smartcards.iter_mut().enumerate() {
        let address = card
            .info
            .address
            .get_or_insert(Address::Ccid(CcidAddress { controller: 0, slot: next }));
        let Address::Ccid(ccid) = address else {
            faults.push(card.place.refused("a card stands in a reader; use address type='ccid'"));
            continue;
        };
        if index > 0 || (ccid.controller, ccid.slot) != (0, 0) {
            let what = "QEMU has one smart card, in slot 0 of reader 0; remove others";
            faults.push(card.place.refused(what));
        }
        next = next.max(ccid.slot + 1);
        readers.push(ccid.controller);
    }
    if let Some(highest) = readers.into_iter().max() {
        (0..=highest.min(255))
            .for_each(|number| controller::add(domain, ControllerKind::Ccid, number));
        controller::sort(domain);
    }
}

/// Adds the host's side and the card.
pub(crate) fn arguments(command: &mut Command<'_>, card: &Smartcard) {
    let device = match &card.source {
        SmartcardSource::Host => {
            Object::new("driver", "ccid-card-emulated").set("backend", "nss-emulated")
        }
        SmartcardSource::HostCertificates { certificates: [first, second, third], database } => {
            Object::new("driver", "ccid-card-emulated")
                .set("backend", "certificates")
                .set("cert1", first)
                .set("cert2", second)
                .set("cert3", third)
                .set("db", database.as_deref().unwrap_or(DEFAULT_DATABASE))
        }
        SmartcardSource::Passthrough(chardev) => {
            let alias = card.info.alias();
            let backend = chardev::named_arguments(command, chardev, alias, None, "smartcard");
            Object::new("driver", "ccid-card-passthru").set("chardev", backend)
        }
    };
    command.device(&placed(command, &card.info, device));
}
