//! What a stand-in for QEMU answers over QMP: enough for the management daemon to know a guest by. It runs none.

use serde_json::{Value, json};

/// A stand-in for a QEMU whose guest runs.
#[derive(Debug)]
pub struct StandInQemu {
    negotiated: bool,
    status: &'static str,
}

impl Default for StandInQemu {
    fn default() -> Self {
        Self { negotiated: false, status: "running" }
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

fn refusal(id: &Value, class: &str, desc: &str) -> Value {
    json!({ "error": { "class": class, "desc": desc }, "id": id })
}
