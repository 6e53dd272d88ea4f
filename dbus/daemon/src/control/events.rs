//! `SubscribeEvents`: what QEMU tells, by its own names, until the client hangs up or is too slow.

use std::io;
use std::time::Duration;

use serde_json::Value;

use super::instance::takes;
use crate::monitor::Following;
use crate::varlink::{Call, CallError, Channel, SERVICE};

/// How long a client may take nothing of what it is told.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What systemd's own VMs tell before all events, so that a client knows from when on it misses none.
const READY: &str = r#"{"event":"READY"}"#;

/// The names of the events that the client wants; none are all.
pub(super) fn wanted(call: &Call) -> Result<Vec<String>, CallError> {
    takes(call, &["filter"])?;
    if !call.more {
        return Err(CallError::plain(SERVICE, "ExpectedMore"));
    }
    let filter = call.parameters.as_ref().and_then(|given| given.get("filter"));
    match filter {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(names) => serde_json::from_value(names.clone())
            .map_err(|_| CallError::of_service("InvalidParameter", "parameter", "filter")),
    }
}

/// Tells the client each event. Returns when it hangs up.
///
/// # Errors
/// When the client is too slow, which it learns because it is hung up on, or says something else meanwhile.
pub(super) async fn tell(
    channel: &mut Channel,
    mut following: Following,
    wanted: &[String],
) -> io::Result<()> {
    let mut text = READY.to_owned();
    loop {
        let message = format!("{{\"parameters\":{text},\"continues\":true}}");
        let sent = tokio::time::timeout(LONGEST_WAIT, channel.send_text(message)).await;
        sent.map_err(|_| io::ErrorKind::TimedOut)??;
        text = loop {
            tokio::select! {
                said = following.next() => match said {
                    Some(said) if wanted.is_empty() || wanted.contains(&said.name) => break said.text,
                    Some(_) => {}
                    None => return Err(io::Error::other("it is too slow for the events")),
                },
                next = channel.next() => match next? {
                    Some(_) => return Err(io::Error::other("it calls before it was answered")),
                    None => return Ok(()),
                },
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subscription_is_a_call_for_more() {
        let call = |more: bool, parameters: Value| -> Call {
            let call = json!({ "method": "a.B", "more": more, "parameters": parameters });
            serde_json::from_value(call).unwrap()
        };
        for (filter, names) in [
            (json!({}), vec![]),
            (json!({ "filter": null }), vec![]),
            (json!({ "filter": [] }), vec![]),
            (json!({ "filter": ["STOP", "RESUME"] }), vec!["STOP".to_owned(), "RESUME".to_owned()]),
        ] {
            assert_eq!(wanted(&call(true, filter)), Ok(names));
        }
        let once = wanted(&call(false, json!({}))).unwrap_err();
        assert_eq!(once.name, "org.varlink.service.ExpectedMore");
        for wrong in [json!("STOP"), json!([1])] {
            let refused = wanted(&call(true, json!({ "filter": wrong }))).unwrap_err();
            assert_eq!(refused.parameters, json!({ "parameter": "filter" }));
        }
    }
}
