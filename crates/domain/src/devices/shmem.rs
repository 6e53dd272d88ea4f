//! Memory that guests share, `<shmem>`.

use crate::fault::Place;
use crate::memory_size::MemorySize;
use crate::reader::Reader;
use crate::writer::Writer;

use super::DeviceInfo;

crate::keywords! {
    /// Models of shared memory.
    pub enum ShmemModel {
        /// The first one, which QEMU no longer has.
        Ivshmem = "ivshmem",
        /// Memory alone.
        Plain = "ivshmem-plain",
        /// Memory with interrupts, both from a server.
        Doorbell = "ivshmem-doorbell",
    }
}

crate::keywords! {
    /// Whether the memory goes along when a guest migrates.
    pub enum ShmemRole {
        /// It does.
        Master = "master",
        /// It does not.
        Peer = "peer",
    }
}

crate::attributes! {
    /// The server that hands out memory and interrupts.
    pub struct ShmemServer {
        /// Its socket.
        pub path: String = string "path",
    }
}

crate::attributes! {
    /// Interrupts of shared memory.
    pub struct ShmemMsi {
        /// Whether there are any.
        pub enabled: bool = yes_no "enabled",
        /// How many.
        pub vectors: u32 = number "vectors",
        /// Whether the kernel delivers them.
        pub ioeventfd: bool = on_off "ioeventfd",
    }
}

/// Memory that guests share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shmem {
    /// Where the element stands.
    pub place: Place,
    /// Its name, which guests that share it have in common.
    pub name: String,
    /// Whether it goes along when a guest migrates.
    pub role: Option<ShmemRole>,
    /// The model.
    pub model: ShmemModel,
    /// How large it is.
    pub size: Option<MemorySize>,
    /// Who hands it out.
    pub server: Option<ShmemServer>,
    /// Interrupts.
    pub msi: Option<ShmemMsi>,
    /// What all devices have.
    pub info: DeviceInfo,
}

impl Shmem {
    pub(crate) fn parse(reader: &Reader<'_>) -> Option<Self> {
        let name = reader.required("name", "shared0");
        let role = reader.keyword("role");
        let model = reader.child("model").and_then(|model| {
            let _ = model.required("type", "ivshmem-plain"); // The keyword itself is read next.
            model.keyword("type")
        });
        let size = reader.child("size").and_then(|size| MemorySize::parse_in(&size, "b"));
        let server = reader.child("server").map(|server| ShmemServer::parse(&server));
        let msi = reader.child("msi").map(|msi| ShmemMsi::parse(&msi));
        let info = DeviceInfo::parse(reader);
        let name = name?.to_owned();
        if name.contains('/') || name.is_empty() || name == "." || name == ".." {
            reader.refuse_attribute("name", "it is a file's name below /dev/shm; use no '/'");
        }
        let model = model.unwrap_or(ShmemModel::Ivshmem);
        let shmem = Self { place: reader.place(), name, role, model, size, server, msi, info };
        shmem.check(reader);
        Some(shmem)
    }

    fn check(&self, reader: &Reader<'_>) {
        if self.msi.is_some() && self.server.is_none() {
            reader.refuse("<msi> counts only with <server>; add that or remove <msi>");
        }
        match self.model {
            ShmemModel::Ivshmem => {
                reader.refuse("QEMU no longer has this model; use <model type='ivshmem-plain'/>");
            }
            ShmemModel::Plain if self.server.is_some() => {
                reader.refuse("model 'ivshmem-plain' has no server; use 'ivshmem-doorbell'");
            }
            ShmemModel::Doorbell if self.server.is_none() => {
                reader.refuse("model 'ivshmem-doorbell' needs a server; add <server path='...'/>");
            }
            ShmemModel::Doorbell if self.size.is_some() => {
                reader.refuse("the server says how large the memory is; remove <size>");
            }
            ShmemModel::Plain | ShmemModel::Doorbell => {}
        }
        let bytes = self.size.map(|size| size.bytes());
        if bytes.is_some_and(|bytes| bytes < 1 << 20 || !bytes.is_power_of_two()) {
            reader.refuse("<size> must be a power of two of at least 1 MiB; change it");
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.element("shmem").attribute("name", &self.name).optional("role", self.role).children(
            |w| {
                w.element("model").attribute("type", self.model).empty();
                if let Some(size) = self.size {
                    w.element("size").attribute("unit", "M").text(size.bytes() >> 20);
                }
                if let Some(server) = &self.server {
                    w.element("server").optional("path", server.path.as_ref()).empty();
                }
                if let Some(msi) = &self.msi {
                    msi.write_attributes(w.element("msi")).empty();
                }
                self.info.write(w);
            },
        );
    }
}
