//! The CPU that the guest sees: `-cpu`.

use domain::{
    Cpu, CpuCheck, CpuFallback, CpuMatch, CpuMode, CpuModel, Domain, DomainType, FeaturePolicy,
    Features, TimerName,
};

use crate::argv::Options;
use crate::command::Command;
use crate::facts::HostFacts;

/// Fills in the mode, the model and when they are checked.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts) {
    let cpu = domain.cpu.get_or_insert_with(Cpu::default);
    let has_model = cpu.model.as_ref().is_some_and(|model| model.name.is_some());
    match *cpu.mode.get_or_insert(CpuMode::Custom) {
        CpuMode::Custom if has_model => {
            cpu.matching.get_or_insert(CpuMatch::Exact);
            cpu.check.get_or_insert(CpuCheck::Partial);
        }
        CpuMode::Custom => default_model(cpu, facts),
        CpuMode::HostModel => {
            cpu.check.get_or_insert(CpuCheck::Partial);
            let says_nothing = |model: &CpuModel| {
                model.name.is_none()
                    && model.vendor_id.is_none()
                    && model.fallback != Some(CpuFallback::Forbid)
            };
            cpu.model = cpu.model.take().filter(|model| !says_nothing(model));
        }
        CpuMode::HostPassthrough | CpuMode::Maximum => {
            cpu.check.get_or_insert(CpuCheck::None);
            cpu.migratable.get_or_insert(true);
        }
    }
    if let Some(model) = cpu.model.as_mut().filter(|model| model.name.is_some()) {
        model.fallback.get_or_insert(CpuFallback::Allow);
    }
}

fn default_model(cpu: &mut Cpu, facts: &HostFacts) {
    cpu.matching = Some(CpuMatch::Exact);
    cpu.check = Some(CpuCheck::None);
    let name = Some(facts.default_cpu.clone());
    cpu.model = Some(CpuModel { name, fallback: Some(CpuFallback::Forbid), vendor_id: None });
}

/// Adds `-cpu`.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let domain = command.domain;
    let Some(cpu) = &domain.cpu else { return };
    if cpu.cache.is_some() || cpu.physical_address.is_some() || cpu.vendor.is_some() {
        let what =
            "<cache>, <maxphysaddr> and <vendor> are not supported yet by glassbox; remove them";
        command.refuse(&cpu.place, what);
    }
    let options = model(domain, cpu, command.facts);
    let options = options.some("vendor", cpu.model.as_ref().and_then(|m| m.vendor_id.as_ref()));
    let options = cpu.features.iter().fold(options, |options, feature| {
        let on = match feature.policy.unwrap_or(FeaturePolicy::Require) {
            FeaturePolicy::Force | FeaturePolicy::Require => true,
            FeaturePolicy::Disable | FeaturePolicy::Forbid => false,
            // The host is not asked, so what may be left out is left out.
            FeaturePolicy::Optional => return options,
        };
        options.on_off(&feature.name.replace('_', "-"), on)
    });
    let options = timers(domain, options);
    let options = machine_features(&domain.features, options);
    let crash = crate::devices::panic::has_hyperv(domain).then_some(true);
    command.argv.options("-cpu", options.some_on_off("hv-crash", crash));
}

fn model(domain: &Domain, cpu: &Cpu, facts: &HostFacts) -> Options {
    let kvm = domain.kind == DomainType::Kvm;
    let host = if kvm { "host" } else { "max" };
    let name = cpu.model.as_ref().and_then(|model| model.name.as_deref());
    match cpu.mode.unwrap_or(CpuMode::Custom) {
        CpuMode::Custom => Options::new(name.unwrap_or(&facts.default_cpu)),
        CpuMode::HostPassthrough => Options::new(host).some_on_off("migratable", cpu.migratable),
        CpuMode::Maximum => Options::new("max"),
        CpuMode::HostModel => {
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
    options.some_on_off("kvmclock", kvmclock).some("tsc-frequency", frequency)
}

fn machine_features(features: &Features, options: Options) -> Options {
    let eoi = features.apic.and_then(|apic| apic.eoi);
    options.some_on_off("kvm-pv-eoi", eoi).some_on_off("pmu", features.pmu)
}
