//! The table of claims: which live guest holds which name and which UUID.
//!
//! The table is pure: it does no I/O, and what keeps a claim alive is its caller's business. The caller gets a
//! [`Token`] for each claim and gives it back when the claim's lifeline ended.
//!
//! ```text
//!                 claim (both free)                 release(token)
//!      free  ---------------------------->  held  ------------------>  free
//!                                           |  ^
//!   claim by another, or of only one of     |  |  claim of the same pair by the same leader:
//!   the pair: Conflict, nothing changes  <--+  +--  a new token, the old one is void
//! ```

use std::collections::BTreeMap;
use std::fmt;

use domain::{DomainName, DomainUuid};

use crate::leader::Leader;

/// How many guests there are at most: what the file descriptor store of glassboxd.service has room for.
const MOST_GUESTS: usize = 4096;

/// How many of them a user's own are at most.
const MOST_OF_A_USER: usize = 64;

/// The claims that are held now.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: BTreeMap<Token, Claim>,
    names: BTreeMap<DomainName, Token>,
    uuids: BTreeMap<DomainUuid, Token>,
    issued: u64,
}

/// Stands for one grant of a claim; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(u64);

/// What a leader claims: the pair is granted whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The guest's name.
    pub(crate) name: DomainName,
    /// The guest's UUID.
    pub(crate) uuid: DomainUuid,
    /// The process that stands for the guest.
    pub(crate) leader: Leader,
    /// The user whose own guest it is; none for a guest of the system, or where all are one user's.
    pub(crate) user: Option<u32>,
    /// Whether the guest's definition is gone with the guest.
    pub(crate) transient: bool,
    /// Whether the leader opens consoles and channels when it is asked over the lifeline.
    pub(crate) opens: bool,
    /// What of the host's networks is the guest's.
    pub(crate) network: Network,
}

/// What of the host's networks is a guest's, for machined to show. It decides nothing here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    /// The kernel's numbers of its network devices on the host.
    pub(crate) interfaces: Vec<i32>,
    /// The number of its vsock.
    pub(crate) vsock_cid: Option<u32>,
}

/// How a claim was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Name and UUID were free.
    New(Token),
    /// The same leader held the same pair; its former token is void.
    Renewed {
        /// The token from now on.
        token: Token,
        /// The token that became void.
        former: Token,
    },
}

/// A claim cannot be granted, for somebody holds the name or the UUID.
///
/// It is a condition that the claimant is told of, not a fault of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Which of the two is taken; the name when both are.
    pub(crate) what: Taken,
    /// The holder's token.
    pub(crate) token: Token,
    /// The holder's claim.
    pub(crate) holder: Box<Claim>,
}

/// The half of a claim that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The name.
    Name,
    /// The UUID, by a guest of another name.
    Uuid,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claim { name, uuid, leader, user: _, transient: _, opens: _, network: _ } =
            &*self.holder;
        match self.what {
            Taken::Name => write!(f, "the name '{name}' is held by {leader}"),
            Taken::Uuid => write!(f, "the UUID {uuid} is held by guest '{name}', {leader}"),
        }
    }
}

impl Claims {
    /// Grants the claim, or names the holder of what it asks for.
    pub(crate) fn claim(&mut self, claim: Claim) -> Result<Grant, Conflict> {
        let named = self.names.get(&claim.name).copied();
        let numbered = self.uuids.get(&claim.uuid).copied();
        let grant = match (named, numbered) {
            (None, None) => Grant::New(self.issue()),
            (Some(former), Some(other)) if former == other && self.is_led(former, &claim) => {
                self.release(former);
                Grant::Renewed { token: self.issue(), former }
            }
            (Some(token), _) => return Err(self.conflict(Taken::Name, token)),
            (None, Some(token)) => return Err(self.conflict(Taken::Uuid, token)),
        };
        let token = grant.token();
        self.names.insert(claim.name.clone(), token);
        self.uuids.insert(claim.uuid, token);
        self.held.insert(token, claim);
        Ok(grant)
    }

    /// Whether there is room for one more guest, of this user or of the system; else why not.
    pub(crate) fn has_room(&self, user: Option<u32>) -> Result<(), String> {
        if self.held.len() >= MOST_GUESTS {
            return Err(format!("{MOST_GUESTS} guests run here, and there is room for no more"));
        }
        let Some(uid) = user else { return Ok(()) };
        if self.held.values().filter(|claim| claim.user == user).count() < MOST_OF_A_USER {
            return Ok(());
        }
        Err(format!("uid {uid} has {MOST_OF_A_USER} guests here, which is the most of a user"))
    }

    /// Ends a claim. `None` for a token that is void, which happens when a claim was renewed or released before.
    pub(crate) fn release(&mut self, token: Token) -> Option<Claim> {
        let claim = self.held.remove(&token)?;
        self.names.remove(&claim.name);
        self.uuids.remove(&claim.uuid);
        Some(claim)
    }

    /// The token of the guest with this name.
    pub(crate) fn named(&self, name: &DomainName) -> Option<Token> {
        self.names.get(name).copied()
    }

    /// The token of the guest with this UUID.
    pub(crate) fn numbered(&self, uuid: &DomainUuid) -> Option<Token> {
        self.uuids.get(uuid).copied()
    }

    /// The tokens of all claims, by the guests' names.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.names.values().copied()
    }

    fn is_led(&self, token: Token, claim: &Claim) -> bool {
        self.held.get(&token).is_some_and(|held| held.leader.is_same_process(&claim.leader))
    }

    fn conflict(&self, what: Taken, token: Token) -> Conflict {
        Conflict { what, token, holder: Box::new(self.held[&token].clone()) }
    }

    fn issue(&mut self) -> Token {
        self.issued += 1;
        Token(self.issued)
    }
}

impl Grant {
    /// The token that stands for the claim from now on.
    pub(crate) fn token(self) -> Token {
        match self {
            Self::New(token) | Self::Renewed { token, .. } => token,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUIDS: [&str; 3] = [
        "c7a5fdbd-edaf-9455-926a-d65c16db1801",
        "c7a5fdbd-edaf-9455-926a-d65c16db1802",
        "c7a5fdbd-edaf-9455-926a-d65c16db1803",
    ];

    fn claim(name: &str, uuid: usize, pid: u32) -> Claim {
        let unit = Some(format!("qemu@{name}.service"));
        Claim {
            name: name.parse().unwrap(),
            uuid: UUIDS[uuid].parse().unwrap(),
            leader: Leader { pid, born: 7, unit: unit.clone(), system_unit: unit },
            user: None,
            transient: false,
            opens: false,
            network: Network::default(),
        }
    }

    /// Each state of the table that matters to a claim of ("web", UUID 0) by pid 10, and what it is answered.
    #[test]
    fn a_claim_is_answered_by_what_is_held() {
        let granted = Ok(());
        let name = Err("the name 'web' is held by pid 11 (qemu@web.service)");
        let uuid = Err("the UUID c7a5fdbd-edaf-9455-926a-d65c16db1801 is held by guest 'db', \
                        pid 11 (qemu@db.service)");
        let own = Err("the name 'web' is held by pid 10 (qemu@web.service)");
        for (held, expected) in [
            (vec![], granted),
            (vec![claim("db", 1, 11)], granted),
            (vec![claim("db", 1, 10)], granted),
            (vec![claim("web", 0, 10)], granted),
            (vec![claim("web", 0, 11)], name),
            (vec![claim("web", 1, 11)], name),
            (vec![claim("web", 1, 11), claim("db", 0, 12)], name),
            (vec![claim("db", 0, 11)], uuid),
            (vec![claim("web", 1, 10)], own),
        ] {
            let mut claims = Claims::default();
            for held in held.clone() {
                claims.claim(held).unwrap();
            }
            let answer = claims.claim(claim("web", 0, 10)).map(|_| ()).map_err(|c| c.to_string());
            assert_eq!(answer, expected.map_err(str::to_owned), "with {held:?}");
        }
    }

    #[test]
    fn a_renewed_claim_has_one_valid_token() {
        let mut claims = Claims::default();
        let first = claims.claim(claim("web", 0, 10)).unwrap().token();
        let Grant::Renewed { token, former } = claims.claim(claim("web", 0, 10)).unwrap() else {
            panic!("the same leader renews its claim");
        };
        assert_eq!(former, first);
        assert_eq!(
            claims.release(former),
            None,
            "the former lifeline's end must not free the name"
        );
        assert_eq!(claims.release(token), Some(claim("web", 0, 10)));
        assert_eq!(claims.release(token), None);
        assert_eq!(claims.named(&"web".parse().unwrap()), None);
    }

    #[test]
    fn a_pid_used_again_is_another_leader() {
        let mut claims = Claims::default();
        claims.claim(claim("web", 0, 10)).unwrap();
        let mut later = claim("web", 0, 10);
        later.leader.born = 8;
        assert_eq!(claims.claim(later).unwrap_err().what, Taken::Name);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut claims = Claims::default();
        let mut add = |number: usize, user| {
            let mut claim = claim(&format!("guest-{number}"), 0, 10);
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            (claim.uuid, claim.user) = (DomainUuid::from_random(bytes), user);
            claims.claim(claim).unwrap();
            [None, Some(7), Some(8)].map(|user| claims.has_room(user).map_err(|why| why.len()))
        };
        let full = Err("uid 7 has 64 guests here, which is the most of a user".len());
        for number in 1..MOST_OF_A_USER {
            assert_eq!(add(number, Some(7)), [Ok(()); 3], "{number}");
        }
        assert_eq!(add(MOST_OF_A_USER, Some(7)), [Ok(()), full, Ok(())]);
        for number in MOST_OF_A_USER + 1..MOST_GUESTS {
            assert_eq!(add(number, None), [Ok(()), full, Ok(())], "{number}");
        }
        let full = Err("4096 guests run here, and there is room for no more".len());
        assert_eq!(add(MOST_GUESTS, None), [full; 3]);
    }

    proptest! {
        /// Against the plainest model: a list of the claims held, searched from end to end.
        #[test]
        fn the_table_agrees_with_a_list(
            steps in proptest::collection::vec((any::<bool>(), 0..3usize, 0..3usize, 1..4u32), 1..60)
        ) {
            let mut claims = Claims::default();
            let mut list: Vec<(Token, Claim)> = Vec::new();
            for (is_claim, name, uuid, pid) in steps {
                if is_claim {
                    let asked = claim(["web", "db", "mail"][name], uuid, pid);
                    let clash: Vec<_> = list
                        .iter()
                        .filter(|(_, held)| held.name == asked.name || held.uuid == asked.uuid)
                        .map(|(token, held)| (*token, held.clone()))
                        .collect();
                    match claims.claim(asked.clone()) {
                        Ok(Grant::New(token)) => {
                            prop_assert!(clash.is_empty());
                            list.push((token, asked));
                        }
                        Ok(Grant::Renewed { token, former }) => {
                            prop_assert_eq!(clash, vec![(former, asked.clone())]);
                            list.retain(|(held, _)| *held != former);
                            list.push((token, asked));
                        }
                        Err(conflict) => prop_assert!(clash.contains(&(conflict.token, *conflict.holder))),
                    }
                } else if let Some(index) = (!list.is_empty()).then(|| name % list.len()) {
                    let (token, held) = list.remove(index);
                    prop_assert_eq!(claims.release(token), Some(held));
                }
                prop_assert_eq!(claims.tokens().count(), list.len());
                for (token, held) in &list {
                    prop_assert_eq!(claims.named(&held.name), Some(*token));
                    prop_assert_eq!(claims.numbered(&held.uuid), Some(*token));
                }
            }
        }
    }
}
