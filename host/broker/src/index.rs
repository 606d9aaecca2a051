//! Turns the ledger's lines, replayed in order, into what the gates ask: imports, floors, revocations, leases, heads.
//! It holds no decision of its own: delete it, replay the ledger, and it is the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;
use vouchsafe_attestation::{Mode, UnixTime};

use crate::{
    event::{Enclave, Event, Id, Platform},
    ledger::Entry,
};

/// A lease is listed this long after it lapsed, then forgotten here (never in the ledger).
const FORGET_AFTER_S: u64 = 86_400;
/// Lapsed leases are looked for once in so many grants.
const SWEEP_EVERY: u64 = 1_024;

/// One stored model key, as the ledger names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) uid: [u8; 32],
    pub(crate) mode: Mode,
    pub(crate) file_sha256: [u8; 32],
}

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseView {
    /// Its id.
    pub lease: Id,
    /// Model id.
    pub model: String,
    /// Sequence.
    pub sequence: u64,
    /// Mode of the verdict.
    pub mode: Mode,
    /// The machine.
    pub platform: Platform,
    /// When it was granted.
    pub issued_at: UnixTime,
    /// When it lapses by the broker's clock.
    pub lapses_at: UnixTime,
    /// Requests.
    pub max_requests: u64,
    /// The lease before it.
    pub renews: Option<Id>,
    /// Where it stands.
    pub state: LeaseState,
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// In force, as far as the broker knows.
    Current,
    /// Renewed by a later one.
    Renewed,
    /// Will not be renewed; the enclave keeps the key until it lapses.
    Revoked,
    /// Its time is over.
    Lapsed,
}

/// Everything replayed.
#[derive(Default)]
pub(crate) struct Index {
    imports: BTreeMap<(String, u64), Import>,
    floors: BTreeMap<String, u64>,
    revoked_models: BTreeSet<String>,
    revoked_versions: BTreeSet<(String, u64)>,
    revoked_platforms: HashSet<Platform>,
    revoked_rights: HashSet<(Platform, String, u64)>,
    leases: BTreeMap<Id, LeaseView>,
    heads: HashMap<[u8; 32], Id>,
    grants: u64,
}

impl Index {
    /// Takes one line in.
    pub(crate) fn apply(&mut self, entry: &Entry) {
        match &entry.line.event {
            Event::Created { .. } | Event::Started { .. } | Event::Torn { .. } | Event::Refused(_) => {}
            Event::Imported { model, uid, sequence, mode, file_sha256, .. } => {
                let import = Import { uid: *uid, mode: *mode, file_sha256: *file_sha256 };
                self.imports.insert((model.clone(), *sequence), import);
            }
            Event::Granted(granted) => {
                self.heads.insert(entry.hash, granted.lease);
                if let Some(old) = granted.renews.and_then(|id| self.leases.get_mut(&id)) {
                    old.state = LeaseState::Renewed;
                }
                let at = entry.line.at;
                self.leases.insert(
                    granted.lease,
                    LeaseView {
                        lease: granted.lease,
                        model: granted.model.clone(),
                        sequence: granted.sequence,
                        mode: granted.enclave.mode,
                        platform: granted.enclave.platform,
                        issued_at: at,
                        lapses_at: at.plus(granted.ttl_s),
                        max_requests: granted.max_requests,
                        renews: granted.renews,
                        state: LeaseState::Current,
                    },
                );
                self.grants += 1;
                if self.grants.is_multiple_of(SWEEP_EVERY) {
                    self.leases.retain(|_, lease| lease.lapses_at.plus(FORGET_AFTER_S) > at);
                }
            }
            Event::Failed { lease, .. } => {
                self.leases.remove(lease);
            }
            Event::ModelRevoked { model, sequence: None } => {
                self.revoked_models.insert(model.clone());
            }
            Event::ModelRevoked { model, sequence: Some(sequence) } => {
                self.revoked_versions.insert((model.clone(), *sequence));
            }
            Event::PlatformRevoked { platform } => {
                self.revoked_platforms.insert(*platform);
            }
            Event::LeaseRevoked { model, sequence, platform, .. } => {
                self.revoked_rights.insert((*platform, model.clone(), *sequence));
            }
            Event::FloorRaised { model, sequence } => {
                let floor = self.floors.entry(model.clone()).or_default();
                *floor = (*floor).max(*sequence);
            }
        }
    }

    /// The gates in front of a grant. The first that refuses names its code.
    pub(crate) fn gate(&self, model: &str, sequence: u64, enclave: &Enclave) -> Result<&Import, &'static str> {
        let version = (model.to_owned(), sequence);
        let import = self.imports.get(&version).ok_or("MODEL_UNKNOWN")?;
        if self.revoked_models.contains(model) || self.revoked_versions.contains(&version) {
            return Err("MODEL_REVOKED");
        }
        if self.revoked_platforms.contains(&enclave.platform) {
            return Err("PLATFORM_REVOKED");
        }
        if sequence < self.floor(model) {
            return Err("SEQUENCE_BELOW_FLOOR");
        }
        // A revoked lease ends the right of that machine to that version: a restarted enclave is no way around it.
        if self.revoked_rights.contains(&(enclave.platform, version.0, sequence)) {
            return Err("LEASE_REVOKED");
        }
        if import.mode != enclave.mode {
            return Err("MODE_MISMATCH");
        }
        Ok(import)
    }

    pub(crate) fn import(&self, model: &str, sequence: u64) -> Option<&Import> {
        self.imports.get(&(model.to_owned(), sequence))
    }

    pub(crate) fn imports(&self) -> impl Iterator<Item = (&(String, u64), &Import)> {
        self.imports.iter()
    }

    pub(crate) fn knows_model(&self, model: &str, sequence: Option<u64>) -> bool {
        self.imports.keys().any(|(id, n)| id == model && sequence.is_none_or(|s| s == *n))
    }

    pub(crate) fn floor(&self, model: &str) -> u64 {
        self.floors.get(model).copied().unwrap_or(0)
    }

    /// The lease whose bundle carried this head.
    pub(crate) fn lease_of_head(&self, head: &[u8; 32]) -> Option<Id> {
        self.heads.get(head).copied()
    }

    pub(crate) fn lease(&self, id: Id) -> Option<&LeaseView> {
        self.leases.get(&id)
    }

    /// Every remembered lease, with its state at `now`.
    pub(crate) fn leases(&self, now: UnixTime) -> Vec<LeaseView> {
        self.leases.values().map(|lease| LeaseView { state: self.state(lease, now), ..lease.clone() }).collect()
    }

    /// How many leases a machine has in force on a model, besides the one that is about to be renewed.
    pub(crate) fn current(&self, model: &str, platform: Platform, renews: Option<Id>, now: UnixTime) -> usize {
        let of_both = |lease: &&LeaseView| lease.platform == platform && lease.model == model;
        let counts = |lease: &&LeaseView| Some(lease.lease) != renews && self.state(lease, now) == LeaseState::Current;
        self.leases.values().filter(of_both).filter(counts).count()
    }

    fn state(&self, lease: &LeaseView, now: UnixTime) -> LeaseState {
        if lease.state == LeaseState::Renewed {
            return LeaseState::Renewed;
        }
        if lease.lapses_at <= now {
            return LeaseState::Lapsed;
        }
        let version = (lease.model.clone(), lease.sequence);
        let revoked = self.revoked_models.contains(&lease.model)
            || self.revoked_versions.contains(&version)
            || self.revoked_platforms.contains(&lease.platform)
            || self.revoked_rights.contains(&(lease.platform, version.0, version.1));
        if revoked { LeaseState::Revoked } else { LeaseState::Current }
    }
}

#[cfg(test)]
mod tests {
    use vouchsafe_attestation::Tee;

    use super::*;
    use crate::event::{Granted, Line};

    const AT: UnixTime = UnixTime(1_000);

    fn enclave(chip: u8, mode: Mode) -> Enclave {
        let platform = Platform([chip; 64]);
        Enclave { mode, tee: Tee::SevSnp, platform, measurement: [2; 48], rtmr: Vec::new(), config_digest: [3; 32] }
    }

    fn index(events: Vec<Event>) -> Index {
        let mut index = Index::default();
        let imported = |sequence| Event::Imported {
            model: "m".to_owned(),
            uid: [1; 32],
            sequence,
            mode: Mode::Simulation,
            manifest_digest: [2; 32],
            file_sha256: [3; 32],
        };
        for (n, event) in [imported(1), imported(2)].into_iter().chain(events).enumerate() {
            let line = Line { v: 1, n: n as u64 + 1, at: AT, event };
            index.apply(&Entry { line, hash: [n as u8; 32] });
        }
        index
    }

    fn granted(lease: u8, renews: Option<u8>) -> Event {
        Event::Granted(Granted {
            lease: Id([lease; 16]),
            model: "m".to_owned(),
            uid: [1; 32],
            sequence: 2,
            enclave: enclave(1, Mode::Simulation),
            policy_digest: [0; 32],
            tee_pubkey_sha256: [0; 32],
            ttl_s: 60,
            max_requests: 5,
            renews: renews.map(|r| Id([r; 16])),
        })
    }

    #[test]
    fn each_gate_refuses_with_its_own_code() {
        let gate = |events, sequence, chip, mode| index(events).gate("m", sequence, &enclave(chip, mode)).map(|_| ());
        let sim = Mode::Simulation;
        let model = || "m".to_owned();
        assert_eq!(gate(vec![], 2, 1, sim), Ok(()));
        assert_eq!(gate(vec![], 3, 1, sim), Err("MODEL_UNKNOWN"));
        assert_eq!(gate(vec![], 2, 1, Mode::Hardware), Err("MODE_MISMATCH"));
        let revoked = |sequence| vec![Event::ModelRevoked { model: model(), sequence }];
        assert_eq!(gate(revoked(None), 2, 1, sim), Err("MODEL_REVOKED"));
        assert_eq!(gate(revoked(Some(2)), 2, 1, sim), Err("MODEL_REVOKED"));
        assert_eq!(gate(revoked(Some(1)), 2, 1, sim), Ok(()));
        let platform = || vec![Event::PlatformRevoked { platform: Platform([1; 64]) }];
        assert_eq!(gate(platform(), 2, 1, sim), Err("PLATFORM_REVOKED"));
        assert_eq!(gate(platform(), 2, 9, sim), Ok(()));
        let floor = || vec![Event::FloorRaised { model: model(), sequence: 2 }];
        assert_eq!(gate(floor(), 1, 1, sim), Err("SEQUENCE_BELOW_FLOOR"));
        assert_eq!(gate(floor(), 2, 1, sim), Ok(()));
        let lease = || {
            let platform = Platform([1; 64]);
            vec![Event::LeaseRevoked { lease: Id([1; 16]), model: model(), sequence: 2, platform }]
        };
        assert_eq!(gate(lease(), 2, 1, sim), Err("LEASE_REVOKED"));
        assert_eq!(gate(lease(), 1, 1, sim), Ok(()));
        assert_eq!(gate(lease(), 2, 9, sim), Ok(()));
    }

    #[test]
    fn leases_are_listed_with_their_state() {
        let index = index(vec![granted(1, None), granted(2, Some(1)), granted(3, None)]);
        let states = |now| index.leases(now).iter().map(|l| l.state).collect::<Vec<_>>();
        assert_eq!(states(AT), [LeaseState::Renewed, LeaseState::Current, LeaseState::Current]);
        assert_eq!(states(AT.plus(60)), [LeaseState::Renewed, LeaseState::Lapsed, LeaseState::Lapsed]);
        assert_eq!(index.lease_of_head(&[3; 32]), Some(Id([2; 16])));
        assert_eq!(index.lease_of_head(&[1; 32]), None, "the head of an import was in no bundle");
    }

    #[test]
    fn current_leases_are_counted_by_machine_and_model() {
        let count = |events, model, chip, renews, now| {
            index(events).current(model, Platform([chip; 64]), Option::<u8>::map(renews, |r| Id([r; 16])), now)
        };
        let three = || vec![granted(1, None), granted(2, Some(1)), granted(3, None)];
        assert_eq!(count(three(), "m", 1, None, AT), 2, "a renewed lease does not count");
        assert_eq!(count(three(), "m", 1, Some(2), AT), 1, "nor the one that is renewed now");
        assert_eq!(count(three(), "m", 1, Some(1), AT), 2, "renewing an old one again takes none away");
        assert_eq!((count(three(), "n", 1, None, AT), count(three(), "m", 2, None, AT)), (0, 0));
        assert_eq!(count(three(), "m", 1, None, AT.plus(60)), 0, "lapsed");
        let model = || "m".to_owned();
        let failed = Event::Failed { lease: Id([3; 16]), code: "X".to_owned() };
        assert_eq!(count([three(), vec![failed]].concat(), "m", 1, None, AT), 1, "never sent");
        let revoked = Event::ModelRevoked { model: model(), sequence: Some(2) };
        assert_eq!(count([three(), vec![revoked]].concat(), "m", 1, None, AT), 0, "revoked");
    }

    #[test]
    fn a_revoked_platform_shows_in_the_list() {
        let platform = Platform([1; 64]);
        let index = index(vec![granted(1, None), Event::PlatformRevoked { platform }]);
        assert_eq!(index.leases(AT)[0].state, LeaseState::Revoked);
    }
}
