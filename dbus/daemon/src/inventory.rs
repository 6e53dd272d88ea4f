//! Which guests have an object on the bus: those that run, and those that a file defines.
//!
//! ```text
//!                defined                      runs
//!   (no object) ---------> shutoff object  <-------->  object of a running guest
//!       ^                     | undefined     ends                 | ends, and nothing defines it
//!       +---------------------+------------------------------------+
//! ```
//!
//! An object has one name and one UUID for as long as it is there. Of two guests with one UUID the one that runs has it,
//! else the one whose name is first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{DomainName, DomainUuid};
use zbus::OwnedObjectPath;

use crate::guest::Guest;
use crate::monitor::Monitor;

/// The guests that files define.
pub(crate) type Listing = BTreeMap<DomainUuid, DomainName>;

/// The guests that have objects; copies share one table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    defined: Listing,
    running: BTreeMap<DomainUuid, Arc<Guest>>,
    objects: BTreeMap<DomainUuid, Arc<Standing>>,
}

/// How a guest stands that has an object.
#[derive(Debug)]
pub(crate) struct Standing {
    name: DomainName,
    uuid: DomainUuid,
    now: Mutex<Now>,
}

#[derive(Debug, Clone)]
struct Now {
    guest: Option<Arc<Guest>>,
    definition: Definition,
}

/// What is known of a guest's definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Definition {
    /// A file in the directories of definitions.
    Kept,
    /// There was such a file, and there is none any more.
    Gone,
    /// There never was one: whoever started the guest has it.
    Elsewhere,
}

/// What becomes of an object.
#[derive(Debug)]
pub(crate) enum Change {
    /// It comes.
    Added(Arc<Standing>),
    /// It goes.
    Removed(Arc<Standing>),
    /// Its guest began to run or ended, or its definition came or went.
    Altered(Arc<Standing>),
}

impl Inventory {
    /// A guest runs, or its claim was renewed.
    pub(crate) fn runs(&self, guest: Arc<Guest>) -> Vec<Change> {
        let mut table = self.table();
        let uuid = *guest.uuid();
        table.running.insert(uuid, guest);
        table.settle(&uuid)
    }

    /// A guest ended.
    pub(crate) fn ended(&self, guest: &Guest) -> Vec<Change> {
        let mut table = self.table();
        table.running.remove(guest.uuid());
        table.settle(guest.uuid())
    }

    /// The files define these guests and no others.
    pub(crate) fn redefined(&self, defined: Listing) -> Vec<Change> {
        let mut table = self.table();
        let former = std::mem::replace(&mut table.defined, defined);
        let mut changed: Vec<DomainUuid> =
            former.keys().chain(table.defined.keys()).copied().collect();
        changed.sort_unstable();
        changed.dedup();
        changed.retain(|uuid| former.get(uuid) != table.defined.get(uuid));
        changed.iter().flat_map(|uuid| table.settle(uuid)).collect()
    }

    /// The guest with this name.
    pub(crate) fn named(&self, name: &DomainName) -> Option<Arc<Standing>> {
        self.table().objects.values().find(|standing| standing.name == *name).cloned()
    }

    /// The guest with this UUID.
    pub(crate) fn numbered(&self, uuid: &DomainUuid) -> Option<Arc<Standing>> {
        self.table().objects.get(uuid).cloned()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.0)
    }
}

impl Table {
    /// Sees to it that there is the object that there should be for this UUID.
    fn settle(&mut self, uuid: &DomainUuid) -> Vec<Change> {
        let guest = self.running.get(uuid).cloned();
        let defined = self.defined.get(uuid);
        let name = guest.as_ref().map(|guest| guest.name()).or(defined);
        let is_defined = name.is_some() && name == defined;
        let former = self.objects.get(uuid);
        if let (Some(standing), Some(name)) = (former, name)
            && standing.name == *name
        {
            standing.change(guest, is_defined);
            return vec![Change::Altered(standing.clone())];
        }
        let new = name.cloned().map(|name| Arc::new(Standing::new(name, *uuid, guest, is_defined)));
        let removed = self.objects.remove(uuid).map(Change::Removed);
        let added = new.inspect(|standing| drop(self.objects.insert(*uuid, standing.clone())));
        removed.into_iter().chain(added.map(Change::Added)).collect()
    }
}

impl Standing {
    fn new(
        name: DomainName,
        uuid: DomainUuid,
        guest: Option<Arc<Guest>>,
        is_defined: bool,
    ) -> Self {
        let definition = if is_defined { Definition::Kept } else { Definition::Elsewhere };
        Self { name, uuid, now: Mutex::new(Now { guest, definition }) }
    }

    fn change(&self, guest: Option<Arc<Guest>>, is_defined: bool) {
        let mut now = lock(&self.now);
        now.guest = guest;
        now.definition = match (is_defined, now.definition) {
            (true, _) => Definition::Kept,
            (false, Definition::Elsewhere) => Definition::Elsewhere,
            (false, Definition::Kept | Definition::Gone) => Definition::Gone,
        };
    }

    /// Its name.
    pub(crate) fn name(&self) -> &DomainName {
        &self.name
    }

    /// Its UUID.
    pub(crate) fn uuid(&self) -> &DomainUuid {
        &self.uuid
    }

    /// The running guest, if it runs.
    pub(crate) fn guest(&self) -> Option<Arc<Guest>> {
        lock(&self.now).guest.clone()
    }

    /// What is known of its definition.
    pub(crate) fn definition(&self) -> Definition {
        lock(&self.now).definition
    }

    /// Whether this is what knows its QEMU now.
    pub(crate) fn is_known_by(&self, monitor: &Arc<Monitor>) -> bool {
        self.guest().is_some_and(|guest| Arc::ptr_eq(guest.monitor(), monitor))
    }

    /// The path of its object.
    pub(crate) fn path(&self) -> OwnedObjectPath {
        let path = dbus_api::domain_path(&self.uuid);
        path.try_into().expect("hexadecimal digits and underscores are an object path")
    }
}

/// The daemon has one thread, and whoever panicked in it left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(defined: &[(u8, &str)]) -> Listing {
        defined.iter().map(|(number, name)| (uuid(*number), name.parse().unwrap())).collect()
    }

    fn uuid(number: u8) -> DomainUuid {
        let mut bytes = [0x5a; 16];
        bytes[15] = number;
        DomainUuid::from_random(bytes)
    }

    fn words(changes: &[Change]) -> Vec<String> {
        let word = |change: &Change| match change {
            Change::Added(standing) => format!("+{}", standing.name()),
            Change::Removed(standing) => format!("-{}", standing.name()),
            Change::Altered(standing) => format!("={}", standing.name()),
        };
        changes.iter().map(word).collect()
    }

    /// What changes among objects when the files do; a guest that has another name is another object.
    #[test]
    fn objects_follow_the_files() {
        let inventory = Inventory::default();
        for (defined, expected) in [
            (&[(1, "web"), (2, "db")][..], &["+web", "+db"][..]),
            (&[(1, "web"), (2, "db")], &[]),
            (&[(1, "shop"), (2, "db")], &["-web", "+shop"]),
            (&[(1, "shop")], &["-db"]),
            (&[], &["-shop"]),
        ] {
            let mut told = words(&inventory.redefined(listing(defined)));
            let mut expected: Vec<_> = expected.iter().map(|word| (*word).to_owned()).collect();
            told.sort_unstable();
            expected.sort_unstable();
            assert_eq!(told, expected, "{defined:?}");
            for (number, name) in defined {
                let standing = inventory.numbered(&uuid(*number)).unwrap();
                assert_eq!(standing.name().as_str(), *name);
                assert_eq!(standing.definition(), Definition::Kept);
                assert!(standing.guest().is_none() && inventory.named(standing.name()).is_some());
            }
        }
        assert!(inventory.numbered(&uuid(1)).is_none());
    }
}
