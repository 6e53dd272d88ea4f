//! Any text as a domain: it is refused or planned, without panic, hang or more memory than its size deserves.
#![no_main]

use domain::{Domain, Faults};
use libfuzzer_sys::fuzz_target;
use qemu::{HostFacts, Launch};

fuzz_target!(|text: &str| {
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
});
