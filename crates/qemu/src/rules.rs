//! Rules that a part of a domain keeps, each as what breaks it and what is said then.

use domain::{Faults, Place};

/// Refuses the domain at `place` for each rule that is broken.
pub(crate) fn refuse_broken<'r>(
    faults: &Faults,
    place: &Place,
    rules: impl IntoIterator<Item = (bool, &'r str)>,
) {
    for (broken, what) in rules {
        if broken {
            faults.push(place.refused(what));
        }
    }
}
