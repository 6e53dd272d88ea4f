//! Which firmware a domain gets, and what that fills in.

use domain::devices::SourceKind;
use domain::{
    Domain, Faults, FirmwareFeature, FirmwareFeatureName, FirmwareKind, LaunchSecurityType, Loader,
    LoaderFormat, LoaderType, Nvram, Smm,
};

use crate::arch::Arch;
use crate::board::Board;
use crate::facts::HostFacts;

use super::{FirmwareCode, FirmwareDescriptor, FirmwareFile, FirmwareTrait};

/// Firmware that was usual before descriptors were: code and the template of its variables.
const LEGACY: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
];

/// The policy bit of AMD SEV that demands encrypted registers, SEV-ES.
const SEV_ES: u64 = 4;

/// Chooses firmware and fills in what it is, where its variables are and what the machine needs for it.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
    check_wishes(domain, faults);
    if domain.os.firmware.is_none() && domain.os.loader.is_none() {
        return;
    }
    if let Some(loader) = domain.os.loader.as_mut()
        && loader.path.is_some()
    {
        loader.kind.get_or_insert(LoaderType::Rom);
    }
    let chosen = facts.firmware.iter().find(|descriptor| fits(domain, descriptor));
    match chosen {
        Some(descriptor) => fill(domain, descriptor),
        None if domain.os.firmware.is_some() && !has_path(domain) => {
            let what = "no installed firmware does what the domain asks for; install one such as edk2-ovmf or \
                        ask for less in <firmware> and <loader>";
            faults.push(domain.os.place.refused(what));
            return;
        }
        None => fill_legacy(domain),
    }
    variables(domain, facts);
    check(domain, faults);
}

fn has_path(domain: &Domain) -> bool {
    domain.os.loader.as_ref().is_some_and(|loader| loader.path.is_some())
}

/// What cannot be had together, whatever is installed.
fn check_wishes(domain: &Domain, faults: &Faults) {
    let os = &domain.os;
    let Some(loader) = &os.loader else {
        if os.nvram.is_some() && os.firmware != Some(FirmwareKind::Efi) {
            let what = "<nvram> is of UEFI only; add firmware='efi' or remove it";
            faults.push(os.place.refused(what));
        }
        return;
    };
    let refuse = |what: &str| faults.push(loader.place.refused(what));
    let is_flash = loader.kind == Some(LoaderType::Pflash);
    let is_rom = loader.kind == Some(LoaderType::Rom) || (loader.path.is_some() && !is_flash);
    let is_bios = os.firmware == Some(FirmwareKind::Bios);
    if (is_bios || is_rom) && (loader.stateless == Some(false) || os.nvram.is_some()) {
        refuse("only UEFI in flash has variables; remove stateless='no' and <nvram>");
    }
    if loader.stateless == Some(true) && os.nvram.is_some() {
        refuse("firmware without a state has no variables; remove <nvram> or stateless='yes'");
    }
    if os.firmware.is_none() && loader.path.is_none() {
        refuse("the path of the firmware is missing; write it, or add firmware='efi' to <os>");
    }
}

/// The kind of firmware that the domain asks for.
fn wanted_kind(domain: &Domain) -> FirmwareKind {
    let kind = domain.os.loader.as_ref().and_then(|loader| loader.kind);
    domain.os.firmware.unwrap_or(match kind {
        Some(LoaderType::Pflash) | None => FirmwareKind::Efi,
        Some(LoaderType::Rom) => FirmwareKind::Bios,
    })
}

/// Whether the domain can use the firmware.
fn fits(domain: &Domain, descriptor: &FirmwareDescriptor) -> bool {
    descriptor.kinds.contains(&wanted_kind(domain))
        && fits_machine(domain, descriptor)
        && fits_files(domain, descriptor)
        && fits_traits(domain, descriptor)
        && fits_protection(domain, descriptor)
}

fn fits_machine(domain: &Domain, descriptor: &FirmwareDescriptor) -> bool {
    let arch = Arch::of_domain(domain).qemu_name();
    let machine = domain.os.machine.as_deref().unwrap_or_default();
    let of_arch = descriptor.targets.iter().filter(|(name, _)| name == arch);
    of_arch.flat_map(|(_, machines)| machines).any(|pattern| matches(pattern, machine))
}

/// Whether a text is of a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| matches(rest, &text[at..]))
        }),
    }
}

/// Whether the firmware's files are those that the domain names, of the kind that it names.
fn fits_files(domain: &Domain, descriptor: &FirmwareDescriptor) -> bool {
    let unsaid = Loader::default();
    let loader = domain.os.loader.as_ref().unwrap_or(&unsaid);
    let template = domain.os.nvram.as_ref().and_then(|nvram| nvram.template.as_ref());
    let is_path = |path: &String| loader.path.as_ref().is_none_or(|wanted| wanted == path);
    // What was defined before formats were a matter of choice is raw.
    let format = loader.format.or(domain.os.nvram.as_ref().and_then(|nvram| nvram.format));
    let format = format.unwrap_or(LoaderFormat::Raw);
    let in_flash = |code: &FirmwareFile| {
        let writable = loader.readonly == Some(false)
            || (loader.path.is_some() && loader.readonly.is_none() && domain.os.firmware.is_none());
        loader.kind != Some(LoaderType::Rom)
            && !writable
            && is_path(&code.path)
            && code.format == format
    };
    match &descriptor.code {
        FirmwareCode::Memory { path } => {
            loader.kind != Some(LoaderType::Pflash)
                && loader.stateless != Some(false)
                && is_path(path)
                && format == LoaderFormat::Raw
                && template.is_none()
        }
        FirmwareCode::Split { code, template: own } => {
            loader.stateless != Some(true)
                && in_flash(code)
                && template.is_none_or(|wanted| *wanted == own.path)
        }
        FirmwareCode::Stateless { code } => loader.stateless == Some(true) && in_flash(code),
        FirmwareCode::Combined { .. } => false, // Guests would share their variables.
    }
}

fn fits_traits(domain: &Domain, descriptor: &FirmwareDescriptor) -> bool {
    let has = |wanted| descriptor.has(wanted);
    if domain.pm.suspend_to_mem == Some(true) && !has(FirmwareTrait::AcpiS3)
        || domain.pm.suspend_to_disk == Some(true) && !has(FirmwareTrait::AcpiS4)
    {
        return false;
    }
    let wishes = domain.os.firmware_features.iter().all(|feature| {
        feature.enabled
            == match feature.name {
                FirmwareFeatureName::EnrolledKeys => has(FirmwareTrait::EnrolledKeys),
                FirmwareFeatureName::SecureBoot => has(FirmwareTrait::SecureBoot),
            }
    });
    let needs_smm = has(FirmwareTrait::RequiresSmm);
    let smm_is_off = domain.features.smm.is_some_and(|smm| smm.state == Some(false));
    let secure = domain.os.loader.as_ref().and_then(|loader| loader.secure);
    wishes && !(needs_smm && smm_is_off) && secure.is_none_or(|secure| secure == needs_smm)
}

fn fits_protection(domain: &Domain, descriptor: &FirmwareDescriptor) -> bool {
    let Some(security) = &domain.launch_security else { return true };
    descriptor.has(match security.kind {
        LaunchSecurityType::Sev if security.policy & SEV_ES != 0 => FirmwareTrait::AmdSevEs,
        LaunchSecurityType::Sev => FirmwareTrait::AmdSev,
        LaunchSecurityType::SevSnp => FirmwareTrait::AmdSevSnp,
    })
}

/// Fills in what the firmware is.
fn fill(domain: &mut Domain, descriptor: &FirmwareDescriptor) {
    domain.os.firmware = Some(wanted_kind(domain));
    let loader = domain.os.loader.get_or_insert_with(Loader::default);
    let mut flash = |code: &FirmwareFile| {
        loader.kind = Some(LoaderType::Pflash);
        loader.readonly = Some(true);
        loader.path = Some(code.path.clone());
        loader.format = Some(code.format);
    };
    match &descriptor.code {
        FirmwareCode::Memory { path } => {
            loader.kind = Some(LoaderType::Rom);
            loader.path = Some(path.clone());
            loader.format = Some(LoaderFormat::Raw);
        }
        FirmwareCode::Split { code, template } => {
            flash(code);
            let nvram = domain.os.nvram.get_or_insert_with(Nvram::default);
            // Only what the host itself can write to is made from a template.
            if !on_server(nvram) {
                nvram.template = Some(template.path.clone());
                nvram.template_format = Some(template.format);
            }
            nvram.format = Some(template.format);
        }
        FirmwareCode::Stateless { code } | FirmwareCode::Combined { code } => flash(code),
    }
    if descriptor.has(FirmwareTrait::RequiresSmm) {
        loader.secure = Some(true);
        domain.features.present = true;
        domain.features.smm.get_or_insert_with(Smm::default).state = Some(true);
    }
    // Keys stand in the variables, and what a server has of them is not known.
    let unknown = domain.os.nvram.as_ref().is_some_and(on_server);
    let known = |(name, _): &(FirmwareFeatureName, FirmwareTrait)| {
        !unknown || *name != FirmwareFeatureName::EnrolledKeys
    };
    domain.os.firmware_features = [
        (FirmwareFeatureName::EnrolledKeys, FirmwareTrait::EnrolledKeys),
        (FirmwareFeatureName::SecureBoot, FirmwareTrait::SecureBoot),
    ]
    .into_iter()
    .filter(known)
    .map(|(name, wanted)| FirmwareFeature { name, enabled: descriptor.has(wanted) })
    .collect();
}

/// Fills in what is known of firmware that no descriptor describes.
fn fill_legacy(domain: &mut Domain) {
    let Some(loader) = &mut domain.os.loader else { return };
    let format = *loader.format.get_or_insert(LoaderFormat::Raw);
    let template = LEGACY.iter().find(|(code, _)| loader.path.as_deref() == Some(code));
    let split = has_variables(loader);
    if let Some((_, template)) = template.filter(|_| split && format == LoaderFormat::Raw) {
        let nvram = domain.os.nvram.get_or_insert_with(Nvram::default);
        nvram.template.get_or_insert_with(|| (*template).to_owned());
        nvram.template_format.get_or_insert(LoaderFormat::Raw);
    }
}

/// Whether firmware keeps its variables in a second file.
fn has_variables(loader: &Loader) -> bool {
    let in_flash = loader.kind == Some(LoaderType::Pflash);
    in_flash && loader.readonly == Some(true) && loader.stateless != Some(true)
}

/// Fills in the file of the variables.
fn variables(domain: &mut Domain, facts: &HostFacts) {
    let wants = domain.os.loader.as_ref().is_some_and(has_variables);
    if !wants && domain.os.nvram.is_none() {
        return;
    }
    let nvram = domain.os.nvram.get_or_insert_with(Nvram::default);
    let extension = match *nvram.format.get_or_insert(LoaderFormat::Raw) {
        LoaderFormat::Raw => "fd",
        LoaderFormat::Qcow2 => "qcow2",
    };
    let folder = &facts.directories.nvram;
    let path = || format!("{folder}/{}_VARS.{extension}", domain.name);
    if nvram.source.is_none() {
        nvram.path.get_or_insert_with(path);
    }
    if let Some(SourceKind::Network(network)) = nvram.source.as_mut().map(|it| &mut it.kind) {
        network.complete();
    }
}

fn on_server(nvram: &Nvram) -> bool {
    nvram.source.as_ref().is_some_and(|source| matches!(source.kind, SourceKind::Network(_)))
}

/// What firmware needs of the machine.
fn check(domain: &Domain, faults: &Faults) {
    let Some(loader) = &domain.os.loader else { return };
    let refuse = |what: &str| faults.push(loader.place.refused(what));
    let is_efi =
        loader.kind == Some(LoaderType::Pflash) || domain.os.firmware == Some(FirmwareKind::Efi);
    if is_efi && !domain.features.acpi && Board::of_domain(domain).is_pc() {
        refuse("UEFI needs ACPI; add <acpi/> to <features>");
    }
    if loader.secure == Some(true) {
        if Board::of_domain(domain) != Board::Q35 {
            refuse("secure='yes' needs a machine type q35; change one of both");
        }
        if domain.features.smm.is_none_or(|smm| smm.state == Some(false)) {
            refuse("secure='yes' needs <smm state='on'/> in <features>; add it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text, expected) in [
            ("pc-q35-*", "pc-q35-10.0", true),
            ("pc-q35-*", "q35", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b", "a-b-c", false),
            ("microvm", "microvm", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
