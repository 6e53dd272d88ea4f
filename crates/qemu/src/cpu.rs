//! The CPU that the guest sees: `-cpu`.

use domain::{
    CacheMode, Cpu, CpuCheck, CpuFallback, CpuMatch, CpuMode, CpuModel, Domain, DomainType, Faults,
    FeaturePolicy, Features, Hyperv, HypervFeature, HypervMode, Kvm, PhysicalAddressMode,
    TimerName,
};

use crate::arch::Arch;
use crate::argv::Options;
use crate::command::Command;
use crate::facts::HostFacts;

/// Fills in the mode, the model and when they are checked.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
    if let Some(hyperv) = &mut domain.features.hyperv {
        hyperv.mode.get_or_insert(HypervMode::Custom);
    }
    let (arch, kind) = (Arch::of_domain(domain), domain.kind);
    let usual = arch.default_cpu(domain.devices.emulator.as_deref(), facts);
    let cpu = domain.cpu.get_or_insert_with(Cpu::default);
    complete_mode(cpu, arch, usual);
    check_mode(cpu, arch, kind, faults);
    check_cache(cpu, faults);
    check_addresses(cpu, faults);
    let kvm = domain.features.kvm.as_ref();
    if kvm.is_some_and(|kvm| kvm.hint_dedicated == Some(true)) && !is_host(cpu) {
        let place = domain.place.child("features");
        let what = "<hint-dedicated> needs a <cpu> of mode host-passthrough or maximum; change it";
        faults.push(place.refused(what));
    }
}

/// Whether the CPU is the accelerator's own.
fn is_host(cpu: &Cpu) -> bool {
    matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum))
}

fn check_cache(cpu: &Cpu, faults: &Faults) {
    let Some(cache) = &cpu.cache else { return };
    let refuse = |what: &str| faults.push(cpu.place.child("cache").refused(what));
    match cache.mode {
        None => refuse("attribute 'mode' is missing; give such as mode='emulate'"),
        Some(CacheMode::Emulate) if cache.level != Some(3) => {
            refuse("mode 'emulate' is for level='3' only; change one of both");
        }
        Some(CacheMode::Passthrough | CacheMode::Disable) if cache.level.is_some() => {
            refuse("this mode is for all levels; remove attribute 'level'");
        }
        Some(CacheMode::Passthrough) if !is_host(cpu) => {
            refuse("mode 'passthrough' needs a <cpu> of mode host-passthrough or maximum");
        }
        Some(CacheMode::Emulate | CacheMode::Passthrough | CacheMode::Disable) => {}
    }
}

fn check_addresses(cpu: &Cpu, faults: &Faults) {
    let Some(address) = &cpu.physical_address else { return };
    let refuse = |what: &str| faults.push(cpu.place.child("maxphysaddr").refused(what));
    match address.mode {
        None => refuse("attribute 'mode' is missing; give such as mode='passthrough'"),
        Some(PhysicalAddressMode::Passthrough) if address.bits.is_some() => {
            refuse("mode 'passthrough' takes the host's number; remove attribute 'bits'");
        }
        Some(PhysicalAddressMode::Passthrough) if !is_host(cpu) => {
            refuse("mode 'passthrough' needs a <cpu> of mode host-passthrough or maximum");
        }
        Some(PhysicalAddressMode::Emulate) if address.limit.is_some() => {
            refuse("attribute 'limit' is for mode 'passthrough'; remove it");
        }
        Some(PhysicalAddressMode::Passthrough | PhysicalAddressMode::Emulate) => {}
    }
}

fn complete_mode(cpu: &mut Cpu, arch: Arch, usual: &str) {
    let has_model = cpu.model.as_ref().is_some_and(|model| model.name.is_some());
    match *cpu.mode.get_or_insert(CpuMode::Custom) {
        CpuMode::Custom if has_model => {
            cpu.matching.get_or_insert(CpuMatch::Exact);
            cpu.check.get_or_insert(CpuCheck::Partial);
        }
        CpuMode::Custom => default_model(cpu, usual),
        CpuMode::HostModel => {
            cpu.check.get_or_insert(CpuCheck::Partial);
            // The host's model is known, so there is nothing to fall back to.
            let says_nothing = |model: &CpuModel| model.name.is_none() && model.vendor_id.is_none();
            cpu.model = cpu.model.take().filter(|model| !says_nothing(model));
        }
        CpuMode::HostPassthrough | CpuMode::Maximum => {
            cpu.check.get_or_insert(CpuCheck::None);
            if arch.is_x86() {
                cpu.migratable.get_or_insert(true);
            }
        }
    }
    if let Some(model) = cpu.model.as_mut().filter(|model| model.name.is_some()) {
        model.fallback.get_or_insert(CpuFallback::Allow);
    }
}

fn default_model(cpu: &mut Cpu, usual: &str) {
    cpu.matching = Some(CpuMatch::Exact);
    cpu.check = Some(CpuCheck::None);
    let name = Some(usual.to_owned());
    cpu.model = Some(CpuModel { name, fallback: Some(CpuFallback::Forbid), vendor_id: None });
}

/// What the host's CPU is says nothing of a CPU that QEMU plays.
fn check_mode(cpu: &Cpu, arch: Arch, kind: DomainType, faults: &Faults) {
    let of_host = matches!(cpu.mode, Some(CpuMode::HostModel | CpuMode::HostPassthrough));
    if of_host && kind == DomainType::Qemu && !arch.is_x86() {
        let what = "only KVM has the host's CPU; use mode='maximum' or name a <model>";
        faults.push(cpu.place.refused(what));
    }
}

/// Adds `-cpu`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    let Some(cpu) = &domain.cpu else { return };
    if cpu.check == Some(CpuCheck::Full) {
        let what =
            "glassbox does not compare the CPU that QEMU made with this; remove check='full'";
        command.ignore(if cpu.place.path.is_empty() { &domain.place } else { &cpu.place }, what);
    }
    let options = model(domain, cpu, command.facts);
    let options = options.some("vendor", cpu.model.as_ref().and_then(|m| m.vendor_id.as_ref()));
    // QEMU sets these by itself, or KVM has no guest see them.
    let hidden = ["cmt", "mbm_total", "mbm_local", "osxsave", "ospke"];
    let features = cpu.features.iter().filter(|feature| !hidden.contains(&feature.name.as_str()));
    let options = features.fold(options, |options, feature| {
        let on = match feature.policy.unwrap_or(FeaturePolicy::Require) {
            FeaturePolicy::Force | FeaturePolicy::Require => true,
            FeaturePolicy::Disable | FeaturePolicy::Forbid => false,
            // The host is not asked, so what may be left out is left out.
            FeaturePolicy::Optional => return options,
        };
        options.on_off(&feature_name(&feature.name), on)
    });
    let options = timers(domain, options);
    let options = machine_features(&domain.features, options);
    let options = cache(cpu, addresses(cpu, options));
    let crash = crate::devices::panic::has_hyperv(domain).then_some(true);
    command.argv.options("-cpu", options.some_on_off("hv-crash", crash));
}

fn model(domain: &Domain, cpu: &Cpu, facts: &HostFacts) -> Options {
    let kvm = domain.kind == DomainType::Kvm;
    let host = if kvm { "host" } else { "max" };
    let name = cpu.model.as_ref().and_then(|model| model.name.as_deref());
    match cpu.mode.unwrap_or(CpuMode::Custom) {
        CpuMode::Custom => Options::new(name.unwrap_or_default()),
        CpuMode::HostPassthrough => Options::new(host).some_on_off("migratable", cpu.migratable),
        CpuMode::Maximum => Options::new("max"),
        CpuMode::HostModel => {
            // Models of other architectures are the host's CPU under another name.
            if !Arch::of_domain(domain).is_x86() {
                return Options::new(host);
            }
            let models = &facts.host_models;
            match if kvm { &models.kvm } else { &models.tcg } {
                Some(model) => model
                    .features
                    .iter()
                    .fold(Options::new(&model.model), |o, (name, on)| o.on_off(name, *on)),
                None => Options::new(host),
            }
        }
    }
}

fn timers(domain: &Domain, options: Options) -> Options {
    let kvmclock = domain.clock.timer(TimerName::Kvmclock).and_then(|timer| timer.present);
    let frequency = domain.clock.timer(TimerName::Tsc).and_then(|timer| timer.frequency);
    let hyperv = domain.clock.timer(TimerName::Hypervclock).and_then(|timer| timer.present);
    options
        .some_on_off("kvmclock", kvmclock)
        .some_on_off("hv-time", hyperv.filter(|present| *present))
        .some("tsc-frequency", frequency)
}

/// QEMU's name of a feature, which libvirt names differently sometimes.
fn feature_name(name: &str) -> String {
    match name {
        "pclmuldq" => "pclmulqdq".to_owned(),
        other => other.replace('_', "-"),
    }
}

fn cache(cpu: &Cpu, options: Options) -> Options {
    let Some(mode) = cpu.cache.as_ref().and_then(|cache| cache.mode) else { return options };
    // Only a CPU that is the host's shows the host's cache, unless it is told not to.
    let no_host = is_host(cpu).then_some(false);
    match mode {
        CacheMode::Emulate => {
            options.on_off("l3-cache", true).some_on_off("host-cache-info", no_host)
        }
        CacheMode::Passthrough => options.on_off("host-cache-info", true).on_off("l3-cache", false),
        CacheMode::Disable => {
            options.some_on_off("host-cache-info", no_host).on_off("l3-cache", false)
        }
    }
}

fn addresses(cpu: &Cpu, options: Options) -> Options {
    let Some(address) = &cpu.physical_address else { return options };
    match (address.mode, address.bits) {
        (Some(PhysicalAddressMode::Passthrough), _) => {
            options.on_off("host-phys-bits", true).some("host-phys-bits-limit", address.limit)
        }
        (Some(PhysicalAddressMode::Emulate), Some(bits)) if bits > 0 => {
            options.set("phys-bits", bits)
        }
        (Some(PhysicalAddressMode::Emulate), _) => options.on_off("host-phys-bits", false),
        (None, _) => options,
    }
}

fn machine_features(features: &Features, options: Options) -> Options {
    let eoi = features.apic.and_then(|apic| apic.eoi);
    let options = options
        .some_on_off("kvm-pv-unhalt", features.pvspinlock)
        .some_on_off("kvm-pv-eoi", eoi)
        .some_on_off("pmu", features.pmu);
    let options = features.hyperv.iter().fold(options, |options, hv| hyperv(hv, options));
    features.kvm.iter().fold(options, |options, features| kvm(features, options))
}

fn hyperv(hyperv: &Hyperv, options: Options) -> Options {
    let passthrough = hyperv.mode == Some(HypervMode::Passthrough);
    let options = options.some_on_off("hv-passthrough", passthrough.then_some(true));
    let settings = hyperv.settings.iter().filter(|setting| setting.state);
    settings.fold(options, |options, setting| {
        let name = format!("hv-{}", setting.feature.as_str().replace('_', "-"));
        let also = |key: &str, on: Option<bool>, options: Options| {
            options.some_on_off(&format!("{name}-{key}"), on.filter(|on| *on))
        };
        match setting.feature {
            HypervFeature::Spinlocks => {
                options.some(&name, setting.retries.map(|retries| format!("0x{retries:x}")))
            }
            HypervFeature::VendorId => options.some(&name, setting.value.as_ref()),
            HypervFeature::Stimer | HypervFeature::Tlbflush => {
                let options = also("direct", setting.direct, options.on_off(&name, true));
                also("ext", setting.extended, options)
            }
            HypervFeature::Relaxed
            | HypervFeature::Vapic
            | HypervFeature::Vpindex
            | HypervFeature::Runtime
            | HypervFeature::Synic
            | HypervFeature::Reset
            | HypervFeature::Frequencies
            | HypervFeature::Reenlightenment
            | HypervFeature::Ipi
            | HypervFeature::Evmcs
            | HypervFeature::Avic
            | HypervFeature::EmsrBitmap
            | HypervFeature::XmmInput => options.on_off(&name, true),
        }
    })
}

fn kvm(kvm: &Kvm, options: Options) -> Options {
    let on = |state: Option<bool>| state.filter(|on| *on);
    let hidden = on(kvm.hidden).map(|hidden| !hidden);
    options
        .some_on_off("kvm", hidden)
        .some_on_off("kvm-hint-dedicated", on(kvm.hint_dedicated))
        .some_on_off("kvm-poll-control", on(kvm.poll_control))
        // It is on in QEMU already.
        .some_on_off("kvm-pv-ipi", kvm.pv_ipi.filter(|on| !on))
}
