//! What the tests of guests that another program owns have in common.

use anyhow::Result;
use tests::{Root, Setup};

/// Libguestfs and the kernel that its appliance boots, virtiofsd and a program for the directory that it serves, a
/// container, and what shows the attributes of a file. One layer, for it is made once for all tests.
const PACKAGES: [&str; 6] =
    ["attr", "bubblewrap", "busybox-static", "guestfish", "linux-image-cloud-amd64", "virtiofsd"];

/// A container with these, and with the product.
pub(crate) fn setup(root: Root) -> Result<Setup> {
    Setup::new(root).product()?.packages("embedding", &PACKAGES)
}
