//! Protection of the guest from its host: AMD SEV.

use domain::{Domain, Faults, LaunchSecurity, LaunchSecurityType};

use crate::command::Command;
use crate::facts::HostFacts;
use crate::json::Object;

/// The id of the object, which `-machine` names.
pub(crate) const ID: &str = "lsec0";

/// Fills in how the host marks encrypted pages.
pub(crate) fn complete(domain: &mut Domain, facts: &HostFacts, faults: &Faults) {
    let Some(security) = &mut domain.launch_security else { return };
    let Some(sev) = facts.sev else {
        if security.cbitpos.is_none() || security.reduced_phys_bits.is_none() {
            let what = "the host has no AMD SEV; remove the element";
            faults.push(security.place.refused(what));
        }
        return;
    };
    security.cbitpos.get_or_insert(sev.cbitpos);
    security.reduced_phys_bits.get_or_insert(sev.reduced_phys_bits);
}

/// Adds the object.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let Some(security) = &command.domain.launch_security else { return };
    if command.facts.sev.is_none() {
        command.refuse(&security.place, "the host has no AMD SEV; remove the element");
        return;
    }
    let kind = match security.kind {
        LaunchSecurityType::Sev => "sev-guest",
        LaunchSecurityType::SevSnp => "sev-snp-guest",
    };
    let object = Object::new("qom-type", kind)
        .set("id", ID)
        .some("cbitpos", security.cbitpos)
        .some("reduced-phys-bits", security.reduced_phys_bits)
        .set("policy", security.policy);
    let object = match security.kind {
        LaunchSecurityType::Sev => sev(command, security, object),
        LaunchSecurityType::SevSnp => snp(security, object),
    };
    command.object(&object.some("kernel-hashes", security.kernel_hashes));
}

/// The certificates are long, and QEMU reads them from files of the guest's folder.
fn sev(command: &mut Command<'_>, security: &LaunchSecurity, mut object: Object) -> Object {
    for (name, key, file) in [
        ("dhCert", "dh-cert-file", "dh_cert.base64"),
        ("session", "session-file", "session.base64"),
    ] {
        if let Some(text) = security.text(name) {
            let path = format!("{}/{file}", command.facts.directories.guest);
            command.writes_file(&path, text);
            object = object.set(key, path);
        }
    }
    object
}

fn snp(security: &LaunchSecurity, object: Object) -> Object {
    object
        .some("guest-visible-workarounds", security.text("guestVisibleWorkarounds"))
        .some("id-block", security.text("idBlock"))
        .some("id-auth", security.text("idAuth"))
        .some("host-data", security.text("hostData"))
        .some("author-key-enabled", security.author_key)
        .some("vcek-disabled", security.vcek.map(|allowed| !allowed))
}
