//! Smart cards.

use domain::Domain;
use domain::devices::{Address, CcidAddress, ControllerKind, Smartcard, SmartcardSource};

use crate::command::Command;
use crate::devices::chardev::Purpose;
use crate::devices::{chardev, controller, placed};
use crate::json::Object;

/// The database that certificates are in when the domain does not say.
const DEFAULT_DATABASE: &str = "/etc/pki/nssdb";

/// Puts cards into readers, and adds the readers.
pub(crate) fn complete(domain: &mut Domain) {
    for card in &mut domain.devices.smartcards {
        card.info.address.get_or_insert(Address::Ccid(CcidAddress::default()));
    }
    let addresses = domain.devices.smartcards.iter().map(|card| &card.info.address);
    let readers = addresses.filter_map(|address| match address {
        Some(Address::Ccid(ccid)) => Some(ccid.controller),
        Some(_) | None => None,
    });
    let highest = readers.max();
    if let Some(highest) = highest {
        // The number comes from the document; nobody has that many readers.
        (0..=highest.min(255))
            .for_each(|number| controller::add(domain, ControllerKind::Ccid, number));
        controller::sort(domain);
    }
}

/// Adds a card.
pub(crate) fn arguments(command: &mut Command<'_>, card: &Smartcard) {
    let first = command.domain.devices.smartcards.first();
    if !first.is_some_and(|first| std::ptr::eq(first, card)) {
        command.refuse(&card.place, "a guest has one smart card; remove this one");
    }
    let device = match &card.source {
        SmartcardSource::Host => {
            Object::new("driver", "ccid-card-emulated").set("backend", "nss-emulated")
        }
        SmartcardSource::Certificates { names, database } => {
            let device = Object::new("driver", "ccid-card-emulated").set("backend", "certificates");
            let device = (1..).zip(names).fold(device, |device, (number, name): (u32, _)| {
                device.set(format!("cert{number}"), name)
            });
            device.set("db", database.as_deref().unwrap_or(DEFAULT_DATABASE))
        }
        SmartcardSource::Passthrough(source) => {
            let alias = card.info.alias();
            let backend = chardev::arguments(command, source, alias, Purpose::Smartcard);
            Object::new("driver", "ccid-card-passthru").set("chardev", backend)
        }
    };
    command.device(&placed(command, &card.info, device));
}
