//! Performance events of the host that are counted for the guest, `<perf>`.

use crate::fault::Place;
use crate::reader::Reader;
use crate::writer::Writer;

/// An event and whether it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerfEvent {
    /// The name, such as `cpu_cycles`.
    pub name: String,
    /// Whether it is counted.
    pub enabled: bool,
}

/// Performance events of the host that are counted for the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Perf {
    /// Where the element stands.
    pub place: Place,
    /// The events.
    pub events: Vec<PerfEvent>,
}

impl Perf {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let mut events: Vec<PerfEvent> = Vec::new();
        for event in reader.children("event") {
            let _ = event.required("enabled", "yes"); // The keyword itself is read next.
            let enabled = event.yes_no("enabled");
            let Some(name) = event.required("name", "cpu_cycles") else { continue };
            if events.iter().any(|other| other.name == name) {
                event.refuse(format!("event '{name}' stands above already; remove one"));
            }
            events.extend(enabled.map(|enabled| PerfEvent { name: name.to_owned(), enabled }));
        }
        (!events.is_empty()).then(|| Self { place: reader.place(), events })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("perf").children_if_any(|w| {
            for event in &self.events {
                w.element("event")
                    .attribute("name", &event.name)
                    .yes_no("enabled", Some(event.enabled))
                    .empty();
            }
        });
    }
}
