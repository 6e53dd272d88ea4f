//! Threads that serve devices, `<iothreads>` and `<iothreadids>`.

use crate::reader::Reader;
use crate::writer::Writer;

/// Threads that serve devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoThreads {
    /// How many there are.
    pub count: Option<u32>,
}

impl IoThreads {
    pub(crate) fn parse(root: &Reader<'_>) -> Self {
        root.refuse_children(&["iothreadids", "defaultiothread"]);
        Self { count: root.child("iothreads").and_then(|reader| reader.text_number()) }
    }

    /// The numbers of the threads, ascending from 1.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        (1..=self.count.unwrap_or_default()).collect()
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        if let Some(count) = self.count {
            writer.element("iothreads").text(count);
        }
    }
}
