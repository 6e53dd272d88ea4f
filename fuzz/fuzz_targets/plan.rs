//! Any text as a domain or a network: it is refused or planned, without panic, hang or more than [`MOST_MEMORY`].
#![no_main]

use std::alloc::System;

use cap::Cap;
use domain::{Domain, Faults, Network, NetworkName};
use libfuzzer_sys::fuzz_target;
use qemu::{HostFacts, Launch};

/// The most that one text may have allocated at a time, in bytes.
const MOST_MEMORY: usize = 100 << 20;

/// Counts what Rust code has allocated, so that the bound means the same with and without a sanitizer, whose
/// own memory the resident size is mostly made of.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

fuzz_target!(|text: &str| {
    // An allocation beyond the limit fails, which ends the process: a finding.
    let room = ALLOCATOR.allocated().saturating_add(MOST_MEMORY);
    ALLOCATOR.set_limit(room).expect("less than the limit is allocated");
    translate(text);
    network(text);
});

/// What generator and shim do with a network.
fn network(text: &str) {
    let faults = Faults::new();
    let name = NetworkName::try_from("fuzz").expect("a plain name is one");
    let network = Network::parse(text, &name, &faults);
    assert!(network.is_some() || faults.any_refused(), "no network and no reason why");
}

/// What the shim does with a definition.
fn translate(text: &str) {
    let faults = Faults::new();
    let Some(mut domain) = Domain::parse(text, &faults) else {
        assert!(faults.any_refused(), "no domain and no reason why");
        return;
    };
    let facts = HostFacts::local("fuzz");
    qemu::complete(&mut domain, &facts, &faults);
    if faults.any_refused() {
        return;
    }
    let launch = Launch { shim_monitor: true, ..Launch::default() };
    let plan = qemu::plan(&domain, &facts, &launch, &faults);
    assert!(plan.is_some() || faults.any_refused(), "no plan and no reason why");
    let Some(plan) = plan else { return };
    for argument in plan.arguments {
        assert!(!argument.contains('\0'), "an argument that cannot be passed: {argument:?}");
    }
    let written = domain.write();
    let again = Faults::new();
    let read = Domain::parse(&written, &again);
    assert!(read.is_some(), "what was written cannot be read: {:?}\n{written}", again.into_sorted());
}
