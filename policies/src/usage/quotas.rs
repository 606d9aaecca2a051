//! Turns the field `quotas` into limits on how often a role may ask, and counts against them.
//! It has no clock and forgets when the process ends: the lease bounds what a hurried clock or a restart can gain.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Callers, Role, UsageError, UsagePolicy, UsageRefusal, callers};

const MAX_QUOTAS: usize = 256;
const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

/// So many requests of a role in one window of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Whose requests count, all callers of the role together; [`Role::any`] for everybody's.
    pub role: Role,
    /// How many.
    pub requests: u64,
    /// Length of the window, in seconds: 60 or 86,400.
    pub per_s: u64,
}

/// What was used of a model's quotas: one book for each model, kept when a newer version takes its place.
/// It holds one window for each quota of the policy and no more, however many callers there are.
#[derive(Debug, Default)]
pub struct QuotaBook {
    windows: BTreeMap<(Role, u64), Window>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    started: u64,
    used: u64,
}

impl QuotaBook {
    /// A book in which nothing stands.
    #[must_use]
    pub const fn new() -> Self {
        Self { windows: BTreeMap::new() }
    }

    /// Counts one request of `role` at `now` (seconds of a clock that never goes back) against every quota that concerns
    /// it, or against none. A window begins with its first request.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`, with the seconds after which the last of the full windows ends.
    pub fn take(&mut self, policy: &UsagePolicy, role: &Role, now: u64) -> Result<(), UsageRefusal> {
        if self.windows.len() > policy.quotas.len() {
            // A newer version came with fewer quotas.
            self.windows.retain(|(role, per_s), _| policy.quotas.iter().any(|q| (&q.role, q.per_s) == (role, *per_s)));
        }
        let concerned = || policy.quotas.iter().filter(|quota| quota.role.is_any() || quota.role == *role);
        let mut wait = None;
        for quota in concerned() {
            let window =
                self.windows.entry((quota.role.clone(), quota.per_s)).or_insert(Window { started: now, used: 0 });
            let gone = now.saturating_sub(window.started);
            if gone >= quota.per_s {
                *window = Window { started: now, used: 0 };
            } else if window.used >= quota.requests {
                wait = wait.max(Some(quota.per_s - gone));
            }
        }
        if let Some(retry_after_s) = wait {
            return Err(UsageRefusal::QuotaExceeded { retry_after_s });
        }
        for quota in concerned() {
            if let Some(window) = self.windows.get_mut(&(quota.role.clone(), quota.per_s)) {
                // The first request of a window begins it.
                if window.used == 0 {
                    window.started = now;
                }
                window.used = window.used.saturating_add(1);
            }
        }
        Ok(())
    }
}

impl UsagePolicy {
    /// How often each role may ask; empty for `"none"`.
    #[must_use]
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// Whether a lease of so many requests is worth no more than one day: where a quota per day is written, neither a
    /// restart nor a clock that the host hurries may gain more without asking the vendor's broker anew.
    ///
    /// # Errors
    /// `QUOTA_NOT_COVERED`, with the most that the lease may allow.
    pub fn covered(&self, lease_max_requests: u64) -> Result<(), UsageRefusal> {
        match self.day() {
            Some(most) if lease_max_requests > most => Err(UsageRefusal::QuotaNotCovered(most)),
            _ => Ok(()),
        }
    }

    /// The most that all roles with a quota per day may ask together in one.
    fn day(&self) -> Option<u64> {
        let days = || self.quotas.iter().filter(|quota| quota.per_s == DAY);
        let total = days().find(|quota| quota.role.is_any()).map(|quota| quota.requests);
        let by_role = || days().filter(|quota| !quota.role.is_any());
        let sum = by_role().map(|quota| quota.requests).reduce(u64::saturating_add);
        let every_role = match &self.callers {
            Callers::Any => false,
            Callers::Listed(callers) => callers.iter().all(|caller| by_role().any(|quota| quota.role == caller.role)),
        };
        match (total, sum) {
            // Roles without a quota of their own may use the rest of everybody's.
            (Some(total), Some(sum)) => Some(if every_role { total.min(sum) } else { total }),
            (total, sum) => total.or(sum),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawQuotas {
    Word(String),
    Only(Vec<RawQuota>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQuota {
    role: String,
    requests: u64,
    per_s: u64,
}

impl RawQuotas {
    pub(super) fn read(self, callers: &Callers) -> Result<Vec<Quota>, UsageError> {
        let list = match self {
            Self::Word(word) if word == "none" => return Ok(Vec::new()),
            Self::Word(_) => return Err(UsageError::Invalid("`quotas` is neither \"none\" nor a list")),
            Self::Only(list) => list,
        };
        if list.is_empty() || list.len() > MAX_QUOTAS {
            return Err(UsageError::Invalid("`quotas` does not hold 1 to 256 entries"));
        }
        let mut quotas: Vec<Quota> = Vec::with_capacity(list.len());
        for raw in list {
            let quota = raw.read(callers)?;
            if quotas.iter().any(|other| other.role == quota.role && other.per_s == quota.per_s) {
                return Err(UsageError::Invalid("`quotas` has two entries for one role and window"));
            }
            quotas.push(quota);
        }
        Ok(quotas)
    }
}

impl RawQuota {
    fn read(self, callers: &Callers) -> Result<Quota, UsageError> {
        let role = if self.role == callers::ANY { Role::any() } else { Role::named(&self.role)? };
        let exists = match callers {
            Callers::Any => role.is_any(),
            Callers::Listed(callers) => role.is_any() || callers.iter().any(|caller| caller.role == role),
        };
        if !exists {
            return Err(UsageError::Invalid("a quota is for a `role` that no caller has"));
        }
        if self.requests == 0 || self.per_s == 0 {
            return Err(UsageError::Invalid("a quota is 0: nothing could ever pass"));
        }
        if !matches!(self.per_s, MINUTE | DAY) {
            return Err(UsageError::Unsupported("quotas.per_s"));
        }
        Ok(Quota { role, requests: self.requests, per_s: self.per_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Credential;

    fn policy(quotas: &str) -> Result<UsagePolicy, UsageError> {
        let caller = |n, role: &str| format!(r#"{{"key":"{}","role":"{role}"}}"#, Credential::ApiKey([n; 32]));
        let callers = format!(r#""callers": [{},{},{}]"#, caller(1, "a"), caller(2, "b"), caller(3, "b"));
        let text = UsagePolicy::template("m", &[])
            .replace(r#""callers": "any""#, &callers)
            .replace(r#""quotas": "none""#, &format!(r#""quotas": {quotas}"#));
        UsagePolicy::parse(text.as_bytes())
    }

    fn role(name: &str) -> Role {
        Role::named(name).unwrap()
    }

    fn wait(result: Result<(), UsageRefusal>) -> Option<u64> {
        result.err().map(|refusal| {
            assert_eq!((refusal.code(), refusal.status()), ("QUOTA_EXCEEDED", 429));
            refusal.retry_after_s().unwrap()
        })
    }

    #[test]
    fn a_window_holds_so_many_and_the_next_as_many_again() {
        let policy = policy(r#"[{"role":"a","requests":2,"per_s":60}]"#).unwrap();
        let (mut book, a, b) = (QuotaBook::new(), role("a"), role("b"));
        assert_eq!(wait(book.take(&policy, &a, 1000)), None);
        assert_eq!(wait(book.take(&policy, &a, 1059)), None);
        assert_eq!(wait(book.take(&policy, &a, 1059)), Some(1));
        assert_eq!(wait(book.take(&policy, &b, 1059)), None, "another role is not concerned");
        assert_eq!(wait(book.take(&policy, &a, 1060)), None);
        assert_eq!(wait(book.take(&policy, &a, 1061)), None);
        assert_eq!(wait(book.take(&policy, &a, 1062)), Some(58));
        assert_eq!(wait(book.take(&policy, &a, 3)), Some(60), "a clock that went back opens no window");
    }

    #[test]
    fn every_window_counts_or_none_does() {
        let quotas = r#"[{"role":"a","requests":1,"per_s":60},{"role":"any","requests":3,"per_s":60},
                         {"role":"a","requests":2,"per_s":86400}]"#;
        let policy = policy(quotas).unwrap();
        let (mut book, a, b) = (QuotaBook::new(), role("a"), role("b"));
        assert_eq!(wait(book.take(&policy, &a, 0)), None);
        for _ in 0..5 {
            assert_eq!(wait(book.take(&policy, &a, 1)), Some(59), "refused requests count nowhere");
        }
        assert_eq!((wait(book.take(&policy, &b, 1)), wait(book.take(&policy, &b, 1))), (None, None));
        assert_eq!(wait(book.take(&policy, &b, 1)), Some(59), "everybody's is used up");
        assert_eq!(wait(book.take(&policy, &a, 60)), None);
        assert_eq!(wait(book.take(&policy, &a, 120)), Some(86_280), "the day's is used up");
        assert_eq!(wait(book.take(&policy, &a, 86_400)), None);
    }

    #[test]
    fn the_last_full_window_to_end_is_waited_for() {
        for quotas in [
            r#"[{"role":"a","requests":1,"per_s":60},{"role":"a","requests":1,"per_s":86400}]"#,
            r#"[{"role":"a","requests":1,"per_s":86400},{"role":"a","requests":1,"per_s":60}]"#,
        ] {
            let (policy, mut book) = (policy(quotas).unwrap(), QuotaBook::new());
            assert_eq!(wait(book.take(&policy, &role("a"), 0)), None);
            assert_eq!(wait(book.take(&policy, &role("a"), 1)), Some(86_399));
        }
    }

    #[test]
    fn a_refused_request_begins_no_window() {
        let quotas = r#"[{"role":"a","requests":1,"per_s":86400},{"role":"any","requests":1,"per_s":60}]"#;
        let (policy, mut book) = (policy(quotas).unwrap(), QuotaBook::new());
        assert_eq!(wait(book.take(&policy, &role("b"), 0)), None);
        assert_eq!(wait(book.take(&policy, &role("a"), 10)), Some(50));
        assert_eq!(wait(book.take(&policy, &role("a"), 60)), None, "the first of its day");
        assert_eq!(wait(book.take(&policy, &role("a"), 86_410)), Some(50));
        assert_eq!(wait(book.take(&policy, &role("a"), 86_460)), None);
    }

    #[test]
    fn no_quota_is_no_limit_and_the_book_stays_small() {
        let (mut book, open) = (QuotaBook::new(), policy(r#""none""#).unwrap());
        for now in 0..10_000 {
            assert_eq!(book.take(&open, &role("a"), now), Ok(()));
        }
        assert!(book.windows.is_empty() && open.quotas().is_empty());
        let quotas = r#"[{"role":"a","requests":9,"per_s":60},{"role":"b","requests":9,"per_s":60}]"#;
        let two = policy(quotas).unwrap();
        for n in 0..10_000_u64 {
            let _ = book.take(&two, &Role::named(&format!("r{n}")).unwrap(), n);
            let _ = book.take(&two, &role(if n % 2 == 0 { "a" } else { "b" }), n);
        }
        assert_eq!(book.windows.len(), 2);
        let one = policy(r#"[{"role":"b","requests":9,"per_s":60}]"#).unwrap();
        let _ = book.take(&one, &role("b"), 10_000);
        assert_eq!(book.windows.len(), 1);
    }

    #[test]
    fn a_newer_version_takes_over_what_was_used() {
        let (mut book, a) = (QuotaBook::new(), role("a"));
        let old = policy(r#"[{"role":"a","requests":5,"per_s":60}]"#).unwrap();
        for _ in 0..3 {
            assert_eq!(wait(book.take(&old, &a, 0)), None);
        }
        let new = policy(r#"[{"role":"a","requests":4,"per_s":60}]"#).unwrap();
        assert_eq!((wait(book.take(&new, &a, 1)), wait(book.take(&new, &a, 2))), (None, Some(58)));
    }

    #[test]
    fn a_lease_is_worth_no_more_than_a_day() {
        let most = |quotas: &str, most: u64| {
            let policy = policy(quotas).unwrap();
            assert_eq!(policy.covered(most), Ok(()), "{quotas}");
            let refusal = policy.covered(most + 1).unwrap_err();
            assert_eq!((refusal.clone(), refusal.code()), (UsageRefusal::QuotaNotCovered(most), "QUOTA_NOT_COVERED"));
        };
        let day = |role: &str, n: u64| format!(r#"{{"role":"{role}","requests":{n},"per_s":86400}}"#);
        most(&format!("[{}]", day("a", 10)), 10);
        most(&format!("[{},{}]", day("a", 10), day("b", 5)), 15);
        most(&format!("[{},{},{}]", day("a", 10), day("b", 5), day("any", 12)), 12);
        most(&format!("[{},{},{}]", day("a", 10), day("b", 5), day("any", 20)), 15);
        most(&format!("[{},{}]", day("a", 10), day("any", 12)), 12);
        for free in [r#""none""#, r#"[{"role":"a","requests":1,"per_s":60}]"#] {
            assert_eq!(policy(free).unwrap().covered(u64::MAX), Ok(()));
        }
        let huge = policy(&format!("[{},{}]", day("a", u64::MAX), day("b", u64::MAX))).unwrap();
        assert_eq!(huge.covered(u64::MAX), Ok(()));
    }

    #[test]
    fn what_is_broken_is_invalid_and_other_windows_are_unsupported() {
        let one = |role: &str, requests: &str, per_s: &str| {
            policy(&format!(r#"[{{"role":"{role}","requests":{requests},"per_s":{per_s}}}]"#)).map(|_| ())
        };
        assert_eq!(one("a", "1", "60"), Ok(()));
        for (role, requests, per_s) in [
            ("c", "1", "60"),
            ("A", "1", "60"),
            ("a", "0", "60"),
            ("a", "-1", "60"),
            ("a", "1.5", "60"),
            ("a", "1", "0"),
        ] {
            assert_eq!(
                one(role, requests, per_s).unwrap_err().code(),
                "USAGE_POLICY_INVALID",
                "{role} {requests} {per_s}"
            );
        }
        assert_eq!(one("a", "1", "3600"), Err(UsageError::Unsupported("quotas.per_s")));
        let twice = r#"[{"role":"a","requests":1,"per_s":60},{"role":"a","requests":2,"per_s":60}]"#;
        for quotas in [twice, "[]", r#""any""#, "null"] {
            assert_eq!(policy(quotas).unwrap_err().code(), "USAGE_POLICY_INVALID", "{quotas}");
        }
        // Where anybody may ask there are no roles, but everybody's quota.
        let open = |role: &str| {
            let quotas = format!(r#""quotas": [{{"role":"{role}","requests":1,"per_s":60}}]"#);
            UsagePolicy::parse(UsagePolicy::template("m", &[]).replace(r#""quotas": "none""#, &quotas).as_bytes())
        };
        let policy = open("any").unwrap();
        let mut book = QuotaBook::new();
        assert_eq!(wait(book.take(&policy, &Role::any(), 0)), None);
        assert_eq!(wait(book.take(&policy, &Role::any(), 0)), Some(60));
        assert_eq!(open("a").unwrap_err().code(), "USAGE_POLICY_INVALID");
    }
}
