//! Turns the names of all faults into what is wrong, who must refuse and with which code: the one table of the lab.
//! A name in it proves nothing; `play.rs` makes each fault happen and hears what is said.

use vouchsafe_attestation::Tee;

use super::{lab::Heard, lab::Lab, launching, release, session, snp, tdx};
use crate::failure::Failure;

/// One named fault.
pub struct Fault {
    /// Stable name: `[a-z0-9-]+`.
    pub name: &'static str,
    /// What kind of fault it is.
    pub group: Group,
    /// Technologies in which it can happen.
    pub tees: &'static [Tee],
    /// What is wrong, in plain words.
    pub what: &'static str,
    /// Who makes it happen, and who must refuse.
    pub made: Made,
}

/// Kinds of faults, as the table prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Framing,
    Signature,
    Chain,
    Identity,
    Tcb,
    Crl,
    GuestPolicy,
    Platform,
    Claims,
    Protocol,
    Tdx,
    Simulation,
    Configuration,
}

/// Who must refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Customer,
    Broker,
    Enclave,
}

/// How evidence reaches the one who must refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The customer's command verifies the live enclave.
    Verify,
    /// The same, under a policy that demands hardware.
    VerifyHardware,
    /// The customer's command verifies a hostile server that speaks for itself with a guest's device.
    VerifyHostile,
    /// The broker is asked by a hostile client with a guest's device.
    Release,
    /// The live enclave is asked for evidence, and reads its own device's answer first.
    Attest,
    /// A new enclave boots, and reads its own device's answer first.
    Boot,
    /// A new enclave boots and asks the broker for its key.
    BootRelease,
}

/// Who makes a fault happen.
pub enum Made {
    /// The simulated processor, at every answer of its devices; what is said at each of these places.
    Device(&'static [(Against, &'static str)]),
    /// The lab itself, as a hostile client, server or host.
    Lab {
        /// Who must refuse.
        refused_by: Role,
        /// With which code.
        expected: &'static str,
        /// Plays the fault and then its control.
        play: fn(&mut Lab) -> Result<Played, Failure>,
    },
}

/// What a fault and its control led to.
pub struct Played {
    /// The refuser and its code.
    pub heard: Heard,
    /// `accepted`, or a code.
    pub control: String,
}

/// Both technologies.
pub const BOTH: &[Tee] = &[Tee::SevSnp, Tee::Tdx];
/// SEV-SNP only.
pub const SNP: &[Tee] = &[Tee::SevSnp];
/// TDX only.
pub const TDX: &[Tee] = &[Tee::Tdx];

/// Where a fault that the lab plays itself is refused.
pub const LAB: &str = "the lab's own move";

/// Every fault, in the order in which they are played: those that change the world for good come last.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    [snp::REPORT, snp::CHAIN, snp::POLICY, tdx::FAULTS, release::FAULTS, session::FAULTS, launching::FAULTS]
        .into_iter()
        .flatten()
}

/// Evidence that is made wrong by the simulated processor.
pub const fn device(
    name: &'static str,
    group: Group,
    tees: &'static [Tee],
    what: &'static str,
    heard: &'static [(Against, &'static str)],
) -> Fault {
    Fault { name, group, tees, what, made: Made::Device(heard) }
}

/// A fault that the lab plays itself, in both technologies.
pub const fn played(
    name: &'static str,
    group: Group,
    refused_by: Role,
    expected: &'static str,
    what: &'static str,
    play: fn(&mut Lab) -> Result<Played, Failure>,
) -> Fault {
    Fault { name, group, tees: BOTH, what, made: Made::Lab { refused_by, expected, play } }
}

impl Fault {
    /// Who must refuse, where, with which code; one entry for each row of the lab's table.
    pub fn refusals(&self) -> Vec<(Role, &'static str, &'static str)> {
        match self.made {
            Made::Device(heard) => {
                heard.iter().map(|(against, code)| (against.role(), against.as_str(), *code)).collect()
            }
            Made::Lab { refused_by, expected, .. } => vec![(refused_by, LAB, expected)],
        }
    }
}

impl Group {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Framing => "framing",
            Self::Signature => "signature",
            Self::Chain => "chain",
            Self::Identity => "identity",
            Self::Tcb => "tcb",
            Self::Crl => "crl",
            Self::GuestPolicy => "guest-policy",
            Self::Platform => "platform",
            Self::Claims => "claims",
            Self::Protocol => "protocol",
            Self::Tdx => "tdx",
            Self::Simulation => "simulation",
            Self::Configuration => "configuration",
        }
    }
}

impl Role {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Broker => "broker",
            Self::Enclave => "enclave",
        }
    }
}

impl Against {
    /// Its words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "live enclave",
            Self::VerifyHardware => "live enclave, hardware policy",
            Self::VerifyHostile => "hostile server",
            Self::Release => "hostile client",
            Self::Attest => "asked for evidence",
            Self::Boot => "boot",
            Self::BootRelease => "booting enclave",
        }
    }

    /// Who must refuse there.
    pub const fn role(self) -> Role {
        match self {
            Self::Verify | Self::VerifyHardware | Self::VerifyHostile => Role::Customer,
            Self::Release | Self::BootRelease => Role::Broker,
            Self::Attest | Self::Boot => Role::Enclave,
        }
    }
}

/// The names that are most like `name`: at most three.
pub fn nearest(name: &str) -> Vec<&'static str> {
    let mut near: Vec<(usize, &'static str)> = all().map(|f| (distance(name, f.name), f.name)).collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein's distance; a name that contains the other is near, whatever its length.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (&a.as_bytes()[..a.len().min(64)], b.as_bytes());
    if !a.is_empty() && b.windows(a.len()).any(|w| w == a) {
        return 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut last = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cell = (row[j] + usize::from(x != y)).min(row[j + 1] + 1).min(last + 1);
            row[j] = last;
            last = cell;
        }
        row[b.len()] = last;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_words_said_once_and_every_group_has_some() {
        let mut names = BTreeSet::new();
        let mut groups = BTreeSet::new();
        for fault in all() {
            let word = fault.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            assert!(word && fault.name.len() <= 40, "{}", fault.name);
            assert!(names.insert(fault.name), "{} stands twice", fault.name);
            assert!(!fault.tees.is_empty() && !fault.what.is_empty(), "{}", fault.name);
            assert!(fault.refusals().iter().all(|(_, _, code)| !code.is_empty() && *code != "accepted"));
            groups.insert(fault.group);
        }
        assert!(names.len() >= 60, "{} names", names.len());
        assert_eq!(groups.len(), 13, "{groups:?}");
        for tee in BOTH {
            let of = all().filter(|f| f.tees.contains(tee)).count();
            println!("{tee}: {of} faults");
            assert!(of >= 30, "{tee}: {of}");
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbours() {
        assert_eq!(nearest("guest-debgu").first(), Some(&"guest-debug"));
        assert!(nearest("nonce").iter().all(|n| n.contains("nonce")));
        assert_eq!((distance("abc", "abd"), distance("abd", "axbd"), distance("", "ab")), (1, 1, 2));
    }
}
