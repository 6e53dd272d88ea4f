//! The resource partition of the guest, `<resource>`.

use crate::reader::Reader;
use crate::writer::Writer;

/// The partition that libvirt puts guests into when nothing is said.
const USUAL_PARTITION: &str = "/machine";

/// Where the guest stands among control groups, and how its storage traffic is marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The partition.
    pub partition: Option<String>,
    /// The mark of the guest's traffic on Fibre Channel.
    pub app_id: Option<String>,
}

impl Resource {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let partition = reader.child("partition").map(|partition| {
            let text = partition.text().into_owned();
            if text != USUAL_PARTITION {
                partition.leave_to_unit("Slice=");
            }
            text
        });
        let channel = reader.child("fibrechannel");
        if let Some(channel) = &channel {
            channel.refuse_unsupported();
        }
        Some(Self { partition, app_id: channel.and_then(|channel| channel.string("appid")) })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("resource").children_if_any(|w| {
            if let Some(partition) = &self.partition {
                w.element("partition").text(partition);
            }
            w.element("fibrechannel").optional("appid", self.app_id.as_ref()).empty_if_any();
        });
    }
}
