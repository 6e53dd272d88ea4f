//! Libvirt domain XML, to and from a typed model, and libvirt network XML into one.
//!
//! The crate takes text and returns values: it opens no file, knows no QEMU word, and starts nothing.
//! The generator and the shim read the file, call [`Domain::parse`] (or [`Header::read`], when only the
//! guest's identity matters), and print the faults that the crate collects.
//!
//! The format is libvirt's, <https://libvirt.org/formatdomain.html>. One file stands for one element; it has
//! the model, `parse` and `write`. The model says what the user wrote: what may be left out is an `Option`,
//! and defaults are filled in elsewhere.

mod alias;
mod amount_edit;
mod attributes;
mod blkiotune;
mod block_limits;
mod clock;
mod cpu;
mod cpuset;
mod cputune;
mod definition;
mod device_edit;
pub mod devices;
mod disk_target;
mod domain;
pub mod edit;
mod fault;
mod features;
mod header;
mod id_map;
mod iothreads;
mod launch_security;
mod lifecycle;
mod mac_address;
mod memory;
mod memory_backing;
mod memory_size;
mod memtune;
mod names;
mod nbdkit;
mod network;
mod numa;
mod numatune;
mod os;
mod pci_address;
mod perf;
mod placeholder;
mod pm;
mod qemu_namespace;
mod reader;
mod readiness;
mod resource;
mod resources;
mod seclabel;
mod sysinfo;
mod template;
mod throttle_groups;
pub mod tree;
mod vcpu;
mod writer;

pub use alias::{Alias, AliasError};
pub use amount_edit::{Amount, AmountEditError, edit_amount};
pub use blkiotune::{BlockIoDevice, BlockIoTuning};
pub use block_limits::{BlockLimit, BlockLimits};
pub use clock::{
    Catchup, Clock, ClockBasis, ClockOffset, TickPolicy, Timer, TimerName, TimerTrack, TscMode,
};
pub use cpu::{
    CacheMode, Cpu, CpuCache, CpuCheck, CpuFallback, CpuFeature, CpuMatch, CpuMode, CpuModel,
    FeaturePolicy, PhysicalAddress, PhysicalAddressMode, Topology,
};
pub use cpuset::{CpuSet, CpuSetError};
pub use cputune::{CpuQuota, CpuTuning, Pin, QuotaOf, SchedulerPolicy, Scheduling};
pub use definition::{LARGEST_DEFINITION, SearchPath, UserEnvironment, defined, definition_text};
pub use device_edit::{DeviceEdit, DeviceEditError, edit_device};
pub use disk_target::{DiskTarget, DiskTargetError};
pub use domain::Domain;
pub use fault::{Fault, Faults, Place, Position, Severity};
pub use features::{
    Apic, DirtyRing, Features, Gic, GicVersion, Hyperv, HypervFeature, HypervMode, HypervSetting,
    IoApicDriver, Kvm, Smm,
};
pub use header::{DomainType, Header};
pub use id_map::{IdMap, IdRange};
pub use iothreads::{IoThread, IoThreadPoll, IoThreads, ThreadPool};
pub use launch_security::{LaunchSecurity, LaunchSecurityType};
pub use lifecycle::{CrashAction, Lifecycle, LifecycleAction, LockFailure, LockFailureAction};
pub use mac_address::{MacAddress, MacAddressError};
pub use memory::{MaxMemory, Memory};
pub use memory_backing::{
    Allocation, HugePage, HugePages, MemoryAccess, MemoryAllocation, MemoryBacking, MemorySource,
};
pub use memory_size::{MemorySize, MemorySizeError};
pub use memtune::MemoryTuning;
pub use names::{DomainName, DomainUuid, MachineName, NameError, NetworkName, UnitInstance};
pub use nbdkit::{NbdkitParts, secret_credential};
pub use network::{
    BootFile, BootFileError, BridgeName, BridgeNameError, Dhcp, DhcpHost, DhcpPool, DnsDomain,
    DnsDomainError, Forward, LeaseTime, Network, NetworkBridge, NetworkDns, NetworkIp,
    NetworkRoute, Subnet,
};
pub use numa::{
    CacheAssociativity, CachePolicy, Interconnect, InterconnectKind, InterconnectType,
    LOCAL_DISTANCE, Numa, NumaCache, NumaCell, NumaDistance, REMOTE_DISTANCE,
};
pub use numatune::{NumaMemnode, NumaMemory, NumaMode, NumaPlacement, NumaTuning};
pub use os::{
    AcpiTable, AcpiTableType, Bios, BootDevice, BootMenu, FirmwareFeature, FirmwareFeatureName,
    FirmwareKind, Loader, LoaderFormat, LoaderType, Nvram, Os, OsType, SmbiosMode,
};
pub use pci_address::PciAddress;
pub use perf::{Perf, PerfEvent};
pub use pm::PowerManagement;
pub use qemu_namespace::{
    DeprecationBehavior, DeviceOverride, PropertyOverride, PropertyType, QEMU_NAMESPACE,
    QemuNamespace,
};
pub use reader::{Keyword, OnOff, Reader, YesNo};
pub use readiness::{GLASSBOX_NAMESPACE, Readiness, ReadinessChannel};
pub use resource::Resource;
pub use resources::Resources;
pub use seclabel::{DeviceLabel, LabelType, SecurityLabel};
pub use sysinfo::{FirmwareConfig, SmbiosBlock, SmbiosTable, Sysinfo, SysinfoType};
pub use template::TemplateInstance;
pub use throttle_groups::ThrottleGroups;
pub use vcpu::{CpuPlacement, Vcpu, Vcpus};
pub use writer::{OpenElement, Writer};
