//! What a plan becomes on a test machine, which has no KVM, one NUMA node and little memory.

use serde_json::{Value, json};

/// What the addresses of QEMU's own CPU models reach, in KiB: 40 bits (`TCG_PHYS_ADDR_BITS` of QEMU's `cpu.h`).
const ADDRESSED: u64 = 1 << 30;

/// Where a plan names nodes of the host.
const NODES: [&str; 2] = ["host-nodes", "node-affinity"];

/// The arguments with QEMU's translator in place of KVM, the first node of the host in place of others, memory that is
/// taken when it is used, and as many bits of address as the guest's memory needs.
#[must_use]
pub fn arguments(planned: &[String]) -> Vec<String> {
    let wide = most_memory(planned) >= ADDRESSED;
    let mut option = "";
    let mut arguments = Vec::new();
    for argument in planned {
        arguments.push(match option {
            "-accel" if argument.starts_with("kvm") => "tcg".to_owned(),
            "-machine" => without(argument, "kernel_irqchip="),
            "-cpu" => cpu(argument, wide),
            "-object" => object(argument),
            _ => argument.clone(),
        });
        option = argument;
    }
    arguments
}

fn without(options: &str, start: &str) -> String {
    let parts: Vec<&str> = options.split(',').filter(|part| !part.starts_with(start)).collect();
    parts.join(",")
}

fn cpu(options: &str, wide: bool) -> String {
    let rest = options.strip_prefix("host").filter(|rest| rest.is_empty() || rest.starts_with(','));
    let cpu = rest.map_or_else(|| options.to_owned(), |rest| format!("max{rest}"));
    // On an AMD CPU QEMU has a hole below a TiB; a guest of KVM's has its host's vendor.
    if wide { format!("{cpu},phys-bits=52,vendor=GenuineIntel") } else { cpu }
}

fn object(options: &str) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str(options) else {
        return options.to_owned();
    };
    for key in NODES {
        if let Some(nodes) = object.get_mut(key) {
            *nodes = json!([0]);
        }
    }
    if let Some(prealloc) = object.get_mut("prealloc") {
        *prealloc = json!(false);
    }
    Value::Object(object).to_string()
}

/// How much memory the guest may have at most, in KiB; 0 if it is not said.
fn most_memory(arguments: &[String]) -> u64 {
    let most = arguments.iter().find_map(|argument| argument.split_once("maxmem="));
    let number = most.and_then(|(_, rest)| rest.split('k').next()?.parse().ok());
    number.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn only_what_the_machine_lacks_is_changed() {
        let planned = [
            "-machine",
            "pc,kernel_irqchip=split,usb=off",
            "-accel",
            "kvm,dirty-ring-size=4096",
            "-cpu",
            "host,x=on",
            "-m",
            "size=1k,maxmem=1099511627776k",
            "-object",
            r#"{"qom-type":"memory-backend-ram","host-nodes":[1,2],"policy":"bind","prealloc":true}"#,
        ];
        let expected = [
            "-machine",
            "pc,usb=off",
            "-accel",
            "tcg",
            "-cpu",
            "max,x=on,phys-bits=52,vendor=GenuineIntel",
            "-m",
            "size=1k,maxmem=1099511627776k",
            "-object",
            r#"{"host-nodes":[0],"policy":"bind","prealloc":false,"qom-type":"memory-backend-ram"}"#,
        ];
        assert_eq!(arguments(&planned.map(str::to_owned)), expected);
        let unchanged = ["-accel", "tcg", "-cpu", "hostile", "-object", "secret,id=a"];
        assert_eq!(arguments(&unchanged.map(str::to_owned)), unchanged);
    }
}
