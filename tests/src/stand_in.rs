//! What a stand-in for QEMU answers over QMP: enough for the management daemon to know a guest by. It runs none.

use serde_json::{Value, json};

/// A stand-in for a QEMU whose guest runs.
#[derive(Debug)]
pub struct StandInQemu {
    negotiated: bool,
    status: &'static str,
    /// What the balloon leaves the guest, and what it was told to leave it; it moves each time that somebody looks.
    balloon: Option<(u64, u64)>,
    /// How many CPUs were added.
    cpus: usize,
}

impl Default for StandInQemu {
    fn default() -> Self {
        Self { negotiated: false, status: "running", balloon: None, cpus: 0 }
    }
}

impl StandInQemu {
    /// What it says first.
    #[must_use]
    pub fn greeting() -> Value {
        json!({ "QMP": { "version": { "qemu": { "major": 10, "minor": 0, "micro": 0 } } } })
    }

    /// The answer to a command, a JSON object.
    pub fn answer(&mut self, command: &Value) -> Value {
        let id = &command["id"];
        let returned = match command["execute"].as_str().unwrap_or_default() {
            "qmp_capabilities" if self.negotiated => {
                return refusal(id, "CommandNotFound", "negotiated");
            }
            "qmp_capabilities" => {
                self.negotiated = true;
                json!({})
            }
            "query-status" => json!({ "status": self.status }),
            "query-cpus-fast" => json!([{}, {}]),
            "query-hotpluggable-cpus" => hotpluggable(self.cpus),
            "device_add" => {
                self.cpus += 1;
                json!({})
            }
            "balloon" => {
                let wanted = command["arguments"]["value"].as_u64().unwrap_or_default();
                self.balloon = Some((1 << 20, wanted));
                json!({})
            }
            "query-balloon" if self.balloon.is_some() => {
                let (now, wanted) = self.balloon.unwrap_or_default();
                let next = now - (now - wanted).min(1 << 18);
                self.balloon = Some((next, wanted));
                json!({ "actual": next })
            }
            "query-memory-size-summary" => json!({ "base-memory": 1 << 20 }),
            "query-blockstats" => json!([]),
            "stop" => {
                self.status = "paused";
                json!({})
            }
            "cont" => {
                self.status = "running";
                json!({})
            }
            "system_reset" => json!({}),
            "qom-get" => json!("org.qemu.guest_agent.0"),
            _ => return refusal(id, "GenericError", "the stand-in does not know it"),
        };
        json!({ "return": returned, "id": id })
    }
}

/// Four slots for CPUs, the last one first as QEMU lists them, of which so many beside the first are used.
fn hotpluggable(used: usize) -> Value {
    let slot = |number: usize| {
        let mut slot = json!({ "type": "max-x86_64-cpu", "props": { "socket-id": number } });
        if number <= used {
            slot["qom-path"] = json!(format!("/machine/peripheral/vcpu{number}"));
        }
        slot
    };
    (0..4).rev().map(slot).collect()
}

fn refusal(id: &Value, class: &str, desc: &str) -> Value {
    json!({ "error": { "class": class, "desc": desc }, "id": id })
}
