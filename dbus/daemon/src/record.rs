//! What the file descriptor store keeps of a claim beside its file descriptors: a versioned record, as JSON. Pure.
//!
//! A daemon of another version may read it, after an upgrade or a downgrade. It refuses what it does not know
//! whole; the shim then sees its lifeline closed and registers again.

use domain::{DomainName, DomainUuid, NameError};
use serde::{Deserialize, Serialize};

use crate::claims::{Claim, Network};
use crate::leader::Leader;

/// The version of a record that the first daemon read.
const FIRST: u32 = 1;

/// The version of a record that may say that the guest is transient.
const WITH_TRANSIENT: u32 = 2;

/// The version of a record that may say what the guest has of the host's networks.
const WITH_NETWORK: u32 = 3;

/// The version of a record that may say that the leader opens things; the last one that this daemon reads.
const LAST: u32 = 4;

/// What is written. It is no domain type: the names in it are fixed by what older daemons wrote.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    name: String,
    uuid: String,
    leader_pid: u32,
    leader_born: u64,
    unit: Option<String>,
    system_unit: Option<String>,
    /// Since version 2.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    transient: bool,
    /// Since version 3, as the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vsock_cid: Option<u32>,
    /// Since version 4.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    opens: bool,
}

/// A record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordFault {
    /// It is not JSON, or has other fields.
    #[error("the record is malformed: {0}")]
    Form(serde_json::Error),
    /// Another daemon wrote it.
    #[error("the record has version {0}, this daemon knows {FIRST} to {LAST}")]
    Version(u32),
    /// Its name or UUID is none.
    #[error("the record is malformed: {0}")]
    Name(#[from] NameError),
}

/// Writes the record of a claim.
pub(crate) fn write(claim: &Claim) -> Vec<u8> {
    // Whose guest it is, the lifeline tells.
    let Claim { name, uuid, leader, user: _, transient, opens, network } = claim;
    let record = Record {
        // An older daemon need not lose what it can hold.
        version: match (*opens, network == &Network::default(), *transient) {
            (false, true, false) => FIRST,
            (false, true, true) => WITH_TRANSIENT,
            (false, false, _) => WITH_NETWORK,
            (true, _, _) => LAST,
        },
        name: name.to_string(),
        uuid: uuid.to_string(),
        leader_pid: leader.pid,
        leader_born: leader.born,
        unit: leader.unit.clone(),
        system_unit: leader.system_unit.clone(),
        transient: *transient,
        interfaces: network.interfaces.clone(),
        vsock_cid: network.vsock_cid,
        opens: *opens,
    };
    serde_json::to_vec(&record).expect("a record has string keys only, and nothing in it can fail")
}

/// Reads the record of a claim.
pub(crate) fn read(text: &[u8]) -> Result<Claim, RecordFault> {
    /// The one field that every version has.
    #[derive(Deserialize)]
    struct Any {
        version: u32,
    }
    // The version first, or a newer record would be reported for a field of it that is not known here.
    let Any { version } = serde_json::from_slice(text).map_err(RecordFault::Form)?;
    if !(FIRST..=LAST).contains(&version) {
        return Err(RecordFault::Version(version));
    }
    let record: Record = serde_json::from_slice(text).map_err(RecordFault::Form)?;
    Ok(Claim {
        name: DomainName::try_from(record.name.as_str())?,
        uuid: DomainUuid::try_from(record.uuid.as_str())?,
        leader: Leader {
            pid: record.leader_pid,
            born: record.leader_born,
            unit: record.unit,
            system_unit: record.system_unit,
        },
        user: None,
        transient: record.transient,
        opens: record.opens,
        network: Network { interfaces: record.interfaces, vsock_cid: record.vsock_cid },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the first daemon wrote; every later one must read it or refuse it by its version.
    const WRITTEN: &str = r#"{"version":1,"name":"web","uuid":"c7a5fdbd-edaf-9455-926a-d65c16db1809","leader_pid":42,"leader_born":7,"unit":"qemu@web.service","system_unit":"qemu@web.service"}"#;

    #[test]
    fn the_record_is_stable() {
        let claim = read(WRITTEN.as_bytes()).unwrap();
        assert_eq!(claim.leader.to_string(), "pid 42 (qemu@web.service)");
        assert_eq!(String::from_utf8(write(&claim)).unwrap(), WRITTEN);
    }

    #[test]
    fn a_transient_guest_is_told_from_others() {
        let text = WRITTEN
            .replace(r#""version":1"#, r#""version":2"#)
            .replace('}', r#","transient":true}"#);
        let claim = read(text.as_bytes()).unwrap();
        assert!(claim.transient && !read(WRITTEN.as_bytes()).unwrap().transient);
        assert_eq!(String::from_utf8(write(&claim)).unwrap(), text);
    }

    #[test]
    fn a_guest_s_network_is_kept() {
        let text = WRITTEN
            .replace(r#""version":1"#, r#""version":3"#)
            .replace('}', r#","interfaces":[7,8],"vsock_cid":9}"#);
        let claim = read(text.as_bytes()).unwrap();
        assert_eq!(claim.network, Network { interfaces: vec![7, 8], vsock_cid: Some(9) });
        assert_eq!(String::from_utf8(write(&claim)).unwrap(), text);
    }

    #[test]
    fn a_leader_that_opens_things_is_known() {
        let text =
            WRITTEN.replace(r#""version":1"#, r#""version":4"#).replace('}', r#","opens":true}"#);
        let claim = read(text.as_bytes()).unwrap();
        assert!(claim.opens && !read(WRITTEN.as_bytes()).unwrap().opens);
        assert_eq!(String::from_utf8(write(&claim)).unwrap(), text);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let refusal = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        let newer = WRITTEN.replace(r#""version":1"#, r#""version":5,"monitor":true"#);
        assert_eq!(refusal(&newer), "the record has version 5, this daemon knows 1 to 4");
        let extended = WRITTEN.replace(r#""version":1"#, r#""version":1,"monitor":true"#);
        assert!(refusal(&extended).starts_with("the record is malformed: unknown field `monitor`"));
        assert!(
            refusal(&WRITTEN.replace("web\"", "w/b\"")).starts_with("the record is malformed: ")
        );
        assert!(refusal("").starts_with("the record is malformed: "));
        assert!(refusal(&WRITTEN[..40]).starts_with("the record is malformed: "));
    }

    proptest! {
        #[test]
        fn records_turn_back(
            name in "[^/\\p{Cc}]{1,12}",
            bytes in any::<[u8; 16]>(),
            (pid, born) in any::<(u32, u64)>(),
            unit in proptest::option::of(".{0,12}"),
            (transient, opens) in any::<(bool, bool)>(),
            (interfaces, vsock_cid) in any::<(Vec<i32>, Option<u32>)>(),
        ) {
            let Ok(name) = DomainName::try_from(name.as_str()) else { return Ok(()) };
            let leader = Leader { pid, born, system_unit: unit.clone(), unit };
            let network = Network { interfaces, vsock_cid };
            let uuid = DomainUuid::from_random(bytes);
            let claim = Claim { name, uuid, leader, user: None, transient, opens, network };
            prop_assert_eq!(read(&write(&claim)).unwrap(), claim);
        }
    }
}
