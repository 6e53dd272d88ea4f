//! PCI devices that a guest takes from their drivers, and gives back (`managed='yes'` of a `<hostdev>`).
//!
//! A device is bound to another driver by its `driver_override`
//! (`Documentation/ABI/testing/sysfs-bus-pci`). A note tells what was there before, so that it is given back however
//! the guest ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use domain::UnitInstance;
use qemu::LaunchPlan;

use crate::log;
use crate::provide::make_folder;

/// Where it is noted which driver a device is to have again.
const NOTES: &str = "/run/glassbox/drivers";

/// What a device without an override reads as.
const NO_OVERRIDE: &str = "(null)";

/// Binds the devices that the plan takes from their drivers to those that give them to QEMU. One that cannot be taken is
/// told in the journal, and by the shim, which finds it bound to another.
pub(crate) fn take(plan: &LaunchPlan, instance: &UnitInstance) {
    let bus = Bus::of_host();
    for device in &plan.pci_devices {
        let Some(driver) = &device.driver else { continue };
        let address = device.address.to_string();
        if let Err(error) = bus.take(&address, driver, &note(instance)) {
            let what = format!("PCI device {address} is not taken by {driver}: {error}");
            log::warning(format_args!("{what}; see `modinfo {driver}` and `dmesg`"));
        }
    }
}

/// Gives back what was taken for the guest.
pub(crate) fn give_back(instance: &UnitInstance) {
    let note = note(instance);
    match Bus::of_host().give_back(&note) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warning(format_args!("{}: {error}; devices keep their drivers", note.display()));
        }
        Ok(()) | Err(_) => {}
    }
}

fn note(instance: &UnitInstance) -> PathBuf {
    Path::new(NOTES).join(instance.directory())
}

/// The PCI bus of sysfs(5).
#[derive(Debug)]
struct Bus {
    folder: PathBuf,
}

impl Bus {
    fn of_host() -> Self {
        Self { folder: PathBuf::from("/sys/bus/pci") }
    }

    /// Binds a device to a driver, and notes what it had, unless it is one's that gives devices to programs already.
    fn take(&self, address: &str, driver: &str, note: &Path) -> io::Result<()> {
        let current = self.driver(address);
        if current.as_deref().is_some_and(gives_to_programs) {
            return Ok(());
        }
        let device = self.device(address);
        let former = fs::read_to_string(device.join("driver_override"))?;
        make_folder(note, 0o700)?;
        let mut notes = OpenOptions::new().create(true).append(true).open(note)?;
        // Before anything changes, so that it is given back whatever comes between.
        writeln!(notes, "{address} {}", former.trim_end())?;
        notes.sync_all()?;
        self.rebind(address, driver, current.is_some())?;
        match self.driver(address) {
            Some(bound) if bound == driver => Ok(()),
            Some(bound) => Err(io::Error::other(format!("it is bound to {bound}"))),
            None => Err(io::Error::other("it has no driver now")),
        }
    }

    /// Has each device of a note go to the driver that it had.
    fn give_back(&self, note: &Path) -> io::Result<()> {
        for (address, former) in
            fs::read_to_string(note)?.lines().filter_map(|it| it.split_once(' '))
        {
            let former = if former == NO_OVERRIDE { "" } else { former };
            match self.rebind(address, former, self.driver(address).is_some()) {
                // A device that was unplugged needs none.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::remove_file(note)
    }

    fn rebind(&self, address: &str, driver_override: &str, is_bound: bool) -> io::Result<()> {
        let device = self.device(address);
        // An empty line takes an override away.
        write(&device.join("driver_override"), &format!("{driver_override}\n"))?;
        if is_bound {
            write(&device.join("driver/unbind"), address)?;
        }
        write(&self.folder.join("drivers_probe"), address)
    }

    fn device(&self, address: &str) -> PathBuf {
        self.folder.join("devices").join(address)
    }

    fn driver(&self, address: &str) -> Option<String> {
        driver_in(&self.device(address))
    }
}

/// The driver of the PCI device with this folder in sysfs.
pub(crate) fn driver_in(device: &Path) -> Option<String> {
    let driver = fs::read_link(device.join("driver")).ok()?;
    Some(driver.file_name()?.to_str()?.to_owned())
}

/// Whether it is vfio-pci or one of its variants (`Documentation/driver-api/vfio.rst`).
pub(crate) fn gives_to_programs(driver: &str) -> bool {
    driver.contains("vfio")
}

/// The files of sysfs are there or not; none is made.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const ADDRESS: &str = "0000:00:10.0";

    /// Files that stand in for a bus with one device. None of them acts: the device keeps its driver.
    fn stand_in(driver: &str) -> (tempfile::TempDir, Bus) {
        let folder = tempfile::tempdir().unwrap();
        let bus = Bus { folder: folder.path().to_owned() };
        let (device, driver) = (bus.device(ADDRESS), folder.path().join("drivers").join(driver));
        for folder in [&device, &driver] {
            fs::create_dir_all(folder).unwrap();
        }
        symlink(&driver, device.join("driver")).unwrap();
        fs::write(device.join("driver_override"), "(null)\n").unwrap();
        fs::write(driver.join("unbind"), "").unwrap();
        fs::write(folder.path().join("drivers_probe"), "").unwrap();
        (folder, bus)
    }

    #[test]
    fn what_a_device_had_is_noted_before_it_is_taken() {
        let (folder, bus) = stand_in("e1000e");
        let note = folder.path().join("notes/web");
        let refused = bus.take(ADDRESS, "vfio-pci", &note).unwrap_err();
        assert_eq!(refused.to_string(), "it is bound to e1000e");
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
        assert_eq!(read("notes/web"), "0000:00:10.0 (null)\n");
        assert_eq!(read("devices/0000:00:10.0/driver_override"), "vfio-pci\n");
        assert_eq!([read("drivers/e1000e/unbind"), read("drivers_probe")], [ADDRESS, ADDRESS]);
        fs::write(bus.device(ADDRESS).join("driver_override"), "").unwrap();
        bus.give_back(&note).unwrap();
        assert_eq!(read("devices/0000:00:10.0/driver_override"), "\n");
        assert!(!note.exists());
    }

    #[test]
    fn what_is_given_to_programs_already_stays_so() {
        for driver in ["vfio-pci", "mlx5_vfio_pci"] {
            let (folder, bus) = stand_in(driver);
            let note = folder.path().join("notes/web");
            bus.take(ADDRESS, "vfio-pci", &note).unwrap();
            assert!(!note.exists(), "nothing is to be given back");
        }
    }

    #[test]
    fn a_device_that_is_gone_keeps_no_note() {
        let (folder, bus) = stand_in("vfio-pci");
        let note = folder.path().join("web");
        fs::write(&note, "0000:00:11.0 (null)\n").unwrap();
        bus.give_back(&note).unwrap();
        assert!(!note.exists());
    }
}
