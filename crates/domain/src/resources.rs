//! What a domain asks of the host's control groups and limits, read without the rest of the document.
//!
//! The generator turns it into settings of the guest's unit. It reads thousands of documents at boot, so only
//! these elements are looked at, and what is wrong in them is left for the shim to say: it refuses the start.

use crate::blkiotune::BlockIoTuning;
use crate::cputune::CpuTuning;
use crate::fault::Faults;
use crate::memory::Memory;
use crate::memory_backing::MemoryBacking;
use crate::memtune::MemoryTuning;
use crate::numatune::NumaTuning;
use crate::reader::Reader;
use crate::tree::Element;
use crate::vcpu::Vcpus;

/// What a domain asks of the host's control groups and limits. Each part is as [`Domain`](crate::Domain) has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// `<vcpu>`.
    pub vcpus: Vcpus,
    /// `<memory>` and `<maxMemory>`.
    pub memory: Memory,
    /// `<memoryBacking>`.
    pub memory_backing: MemoryBacking,
    /// `<memtune>`.
    pub memtune: Option<MemoryTuning>,
    /// `<blkiotune>`.
    pub blkiotune: Option<BlockIoTuning>,
    /// `<cputune>`.
    pub cputune: Option<CpuTuning>,
    /// `<numatune>`.
    pub numatune: Option<NumaTuning>,
    /// `<resource><partition>`, such as `/machine/production`.
    pub partition: Option<String>,
    /// How many I/O threads `<iothreads>` asks for.
    pub iothreads: u32,
}

impl Resources {
    /// What the document with this root asks for; nothing where it is wrong.
    ///
    /// ```
    /// use domain::{Resources, tree};
    /// let text = "<domain type='kvm'><memtune><hard_limit unit='GiB'>1</hard_limit></memtune></domain>";
    /// let resources = Resources::read(&tree::parse(text).unwrap());
    /// assert_eq!(resources.memtune.unwrap().hard_limit.unwrap().bytes(), 1 << 30);
    /// ```
    #[must_use]
    pub fn read(root: &Element<'_>) -> Self {
        let faults = Faults::new();
        let child = |name: &str| {
            let element = root.elements().find(|e| e.name == name && e.namespace.is_none())?;
            Some(Reader::below_root(element, root, &faults))
        };
        Self {
            vcpus: child("vcpu").map(|vcpu| Vcpus::parse(&vcpu, None)).unwrap_or_default(),
            memory: Memory::parse_with(child),
            memory_backing: child("memoryBacking")
                .map(|backing| MemoryBacking::parse(&backing))
                .unwrap_or_default(),
            memtune: child("memtune").and_then(|tuning| MemoryTuning::parse(&tuning)),
            blkiotune: child("blkiotune").and_then(|tuning| BlockIoTuning::parse(&tuning)),
            cputune: child("cputune").and_then(|tuning| CpuTuning::parse(&tuning)),
            numatune: child("numatune").and_then(|tuning| NumaTuning::parse(&tuning)),
            partition: child("resource")
                .and_then(|resource| resource.child("partition"))
                .map(|partition| partition.text().trim().to_owned()),
            iothreads: child("iothreads").and_then(|count| count.text_number()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inner: &str) -> Resources {
        let text = format!("<domain type='kvm'>{inner}</domain>");
        Resources::read(&crate::tree::parse(&text).unwrap())
    }

    #[test]
    fn each_element_is_found_and_others_are_passed_over() {
        let found = read(
            "<devices/><x/><vcpu cpuset='0-1'>2</vcpu><iothreads>3</iothreads>
             <memory unit='GiB'>1</memory><memoryBacking><locked/></memoryBacking>
             <resource><partition> /machine/a </partition></resource>
             <cputune><shares>200</shares></cputune><blkiotune><weight>300</weight></blkiotune>
             <numatune><memory mode='strict' nodeset='0'/></numatune>",
        );
        assert_eq!(found.vcpus.cpuset.unwrap().to_string(), "0-1");
        assert_eq!(found.iothreads, 3);
        assert_eq!(found.memory.size.unwrap().bytes(), 1 << 30);
        assert!(found.memory_backing.locked);
        assert_eq!(found.partition.as_deref(), Some("/machine/a"));
        assert_eq!(found.cputune.unwrap().shares, Some(200));
        assert_eq!(found.blkiotune.unwrap().weight, Some(300));
        assert!(found.numatune.is_some() && found.memtune.is_none());
    }

    #[test]
    fn what_is_wrong_asks_for_nothing() {
        let found = read("<vcpu cpuset='all'>many</vcpu><cputune><shares>x</shares></cputune>");
        assert_eq!(found.vcpus.cpuset, None);
        assert_eq!(found.cputune, None);
        assert_eq!(read(""), Resources::default());
    }
}
