//! Watchdogs, `<watchdog>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

use super::DeviceInfo;

crate::keywords! {
    /// Models of watchdogs.
    pub enum WatchdogModel {
        /// Intel's, on PCI.
        I6300esb = "i6300esb",
        /// iBASE's, on ISA.
        Ib700 = "ib700",
        /// s390's.
        Diag288 = "diag288",
        /// The one in the q35 chipset.
        Itco = "itco",
    }
}

crate::keywords! {
    /// What a watchdog does when the guest does not feed it.
    pub enum WatchdogAction {
        /// It resets the guest.
        Reset = "reset",
        /// It asks the guest to power off.
        Shutdown = "shutdown",
        /// It ends the guest.
        Poweroff = "poweroff",
        /// It pauses the guest.
        Pause = "pause",
        /// It dumps the guest's memory and resets it.
        Dump = "dump",
        /// Nothing.
        None = "none",
        /// It sends the guest a non-maskable interrupt.
        InjectNmi = "inject-nmi",
    }
}

/// A watchdog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watchdog {
    /// Where the element stands.
    pub place: Place,
    /// The model.
    pub model: WatchdogModel,
    /// What it does; a reset when nothing is written.
    pub action: Option<WatchdogAction>,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Watchdog {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("model", "itco"); // The keyword itself is read below.
        let action = reader.keyword("action");
        let info = DeviceInfo::parse(reader);
        let model = reader.keyword("model")?;
        if model == WatchdogModel::Diag288 {
            reader.refuse_attribute("model", "no supported guest has it; use i6300esb");
            return None;
        }
        Some(Self { place: reader.place(), model, action, info })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("watchdog")
            .attribute("model", self.model)
            .attribute("action", self.action.unwrap_or(WatchdogAction::Reset))
            .children(|w| self.info.write(w));
    }
}
