//! Turns what happened at the broker into the one JSON form that a ledger line has.
//! A line is a statement of this broker; it is the chain in `ledger` that makes it hard to take back.

use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{
    Ed25519Public, Mode, Tee, UnixTime,
    encoding::{EncodingError, from_hex, serde_hex},
};

/// One ledger line, without its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// 1.
    pub v: u32,
    /// Counted from 1.
    pub n: u64,
    /// The broker's clock, seconds since 1970.
    pub at: UnixTime,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The broker was made.
    Created {
        /// Signs key bundles.
        release_key: Ed25519Public,
        /// What enclaves pin.
        #[serde(with = "serde_hex")]
        tls_spki_sha256: [u8; 32],
    },
    /// The broker began to serve.
    Started {
        /// SHA-256 of the policy file in force.
        #[serde(with = "serde_hex")]
        policy_digest: [u8; 32],
    },
    /// A line that a crash had torn was cut.
    Torn {
        /// How many bytes of it there were.
        bytes: u64,
    },
    /// A model key was stored.
    Imported {
        /// Model id.
        model: String,
        /// Model uid.
        #[serde(with = "serde_hex")]
        uid: [u8; 32],
        /// Sequence.
        sequence: u64,
        /// The mode that the key was sealed for.
        mode: Mode,
        /// Digest of the signed manifest.
        #[serde(with = "serde_hex")]
        manifest_digest: [u8; 32],
        /// SHA-256 of the stored file.
        #[serde(with = "serde_hex")]
        file_sha256: [u8; 32],
    },
    /// A key was granted; the reply is sent after this line is durable.
    Granted(Granted),
    /// A peer was refused; the ticket is all it was told.
    Refused(Refused),
    /// A grant that stands in the ledger could not be carried out; nothing was sent.
    Failed {
        /// The lease of the grant.
        lease: Id,
        /// The stable code.
        code: String,
    },
    /// No key of this model is granted any more.
    ModelRevoked {
        /// Model id.
        model: String,
        /// One version, or `null` for every one.
        sequence: Option<u64>,
    },
    /// No key is granted to this machine any more.
    PlatformRevoked {
        /// Its chip id, or PPID.
        platform: Platform,
    },
    /// The right of one machine to one version of a model ended.
    LeaseRevoked {
        /// The lease that was named.
        lease: Id,
        /// Its model.
        model: String,
        /// Its sequence.
        sequence: u64,
        /// Its machine.
        platform: Platform,
    },
    /// Older versions are not granted any more.
    FloorRaised {
        /// Model id.
        model: String,
        /// The lowest sequence that is granted.
        sequence: u64,
    },
}

/// A granted key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Names this grant.
    pub lease: Id,
    /// Model id.
    pub model: String,
    /// Model uid.
    #[serde(with = "serde_hex")]
    pub uid: [u8; 32],
    /// Sequence.
    pub sequence: u64,
    /// Whose evidence.
    #[serde(flatten)]
    pub enclave: Enclave,
    /// The policy that accepted it.
    #[serde(with = "serde_hex")]
    pub policy_digest: [u8; 32],
    /// SHA-256 of the handshake key (SEC1, compressed) that the bundle was encrypted to.
    #[serde(with = "serde_hex")]
    pub tee_pubkey_sha256: [u8; 32],
    /// Lease: seconds.
    pub ttl_s: u64,
    /// Lease: requests.
    pub max_requests: u64,
    /// The lease that this one renews.
    pub renews: Option<Id>,
}

/// A refused peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What the peer was told.
    pub ticket: Id,
    /// `auth`, `attest` or `resource`.
    pub step: String,
    /// The stable code of the first reason.
    pub code: String,
    /// The codes of all reasons, when an appraisal collected several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Who it was, once the evidence was authentic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enclave: Option<Enclave>,
}

/// What authentic evidence says of its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enclave {
    /// Under whose root it was authentic.
    pub mode: Mode,
    /// Technology.
    pub tee: Tee,
    /// Chip id, or PPID.
    pub platform: Platform,
    /// Launch measurement: MEASUREMENT or MRTD.
    #[serde(with = "serde_hex")]
    pub measurement: [u8; 48],
    /// RTMR0 to RTMR3 of a TD; SEV-SNP has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rtmr: Vec<Register>,
    /// HOST_DATA, or the digest in MRCONFIGID.
    #[serde(with = "serde_hex")]
    pub config_digest: [u8; 32],
}

/// 16 random bytes as hex: a ticket or a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(#[serde(with = "serde_hex")] pub [u8; 16]);

/// A register that a TD extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Register(#[serde(with = "serde_hex")] pub [u8; 48]);

/// A machine: the 64 bytes of an SNP chip id, or a TDX platform's PPID (16 bytes) and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Platform(#[serde(with = "serde_hex")] pub [u8; 64]);

/// Length of a PPID.
const PPID: usize = 16;

impl Id {
    /// Reads 32 characters of hex.
    ///
    /// # Errors
    /// `ENCODING_BYTES`.
    pub fn parse(text: &str) -> Result<Self, EncodingError> {
        from_hex(text, "id").map(Self)
    }
}

impl Platform {
    /// Reads 128 characters of hex, or the 32 of a PPID.
    ///
    /// # Errors
    /// `ENCODING_BYTES`.
    pub fn parse(text: &str) -> Result<Self, EncodingError> {
        if text.len() != 2 * PPID {
            return from_hex(text, "platform").map(Self);
        }
        let mut platform = [0; 64];
        platform[..PPID].copy_from_slice(&from_hex::<PPID>(text, "platform")?);
        Ok(Self(platform))
    }

    /// The form that people copy, which [`Platform::parse`] reads: a PPID is 32 digits, a chip id 128.
    #[must_use]
    pub fn text(&self) -> String {
        let (ppid, rest) = self.0.split_at(PPID);
        // A chip id of 8 bytes (Turin) is followed by zeros too; it keeps its long form.
        let is_ppid = rest.iter().all(|b| *b == 0) && ppid[PPID / 2..].iter().any(|b| *b != 0);
        hex::encode(if is_ppid { ppid } else { &self.0[..] })
    }
}

impl Line {
    /// The exact bytes that are hashed and written. A struct of strings and numbers always serializes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a line; only the bytes that [`Line::to_bytes`] writes are read, so no field is unknown, missing or repeated.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(bytes).ok()?;
        (line.v == 1 && line.to_bytes() == bytes).then_some(line)
    }

    /// The ticket or lease that this line is about.
    #[must_use]
    pub const fn id(&self) -> Option<Id> {
        match &self.event {
            Event::Refused(refused) => Some(refused.ticket),
            Event::Granted(granted) => Some(granted.lease),
            Event::Failed { lease, .. } | Event::LeaseRevoked { lease, .. } => Some(*lease),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enclave() -> Enclave {
        Enclave {
            mode: Mode::Simulation,
            tee: Tee::SevSnp,
            platform: Platform([1; 64]),
            measurement: [2; 48],
            rtmr: Vec::new(),
            config_digest: [3; 32],
        }
    }

    #[test]
    fn a_platform_is_read_back_from_its_short_or_long_form() {
        let mut ppid = [0; 64];
        ppid[..16].fill(0xab);
        assert_eq!(Platform(ppid).text(), "ab".repeat(16));
        let mut turin = [0; 64];
        turin[..8].fill(0xab);
        for platform in [ppid, turin, [0; 64], [7; 64]].map(Platform) {
            assert_eq!(Platform::parse(&platform.text()), Ok(platform));
            assert_eq!(Platform::parse(&hex::encode(platform.0)), Ok(platform));
        }
        assert_eq!(Platform(turin).text().len(), 128);
        for bad in ["", "ab", &"AB".repeat(16), &"ab".repeat(15), &"ab".repeat(63), &"zz".repeat(16)] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_from_before_there_were_registers_are_read_as_they_are() {
        let with = Enclave { tee: Tee::Tdx, rtmr: vec![Register([5; 48]); 4], ..enclave() };
        let text = serde_json::to_string(&with).unwrap();
        assert!(text.contains(&format!("\"rtmr\":[\"{}\",", "05".repeat(48))), "{text}");
        assert_eq!(serde_json::from_str::<Enclave>(&text).unwrap(), with);
        let text = serde_json::to_string(&enclave()).unwrap();
        assert!(!text.contains("rtmr"));
        assert_eq!(serde_json::from_str::<Enclave>(&text).unwrap(), enclave());
    }

    #[test]
    fn every_event_is_read_back_from_its_own_bytes_only() {
        let (lease, model) = (Id([5; 16]), "m".to_owned());
        let events = vec![
            Event::Created { release_key: Ed25519Public([1; 32]), tls_spki_sha256: [2; 32] },
            Event::Started { policy_digest: [2; 32] },
            Event::Torn { bytes: 17 },
            Event::Imported {
                model: model.clone(),
                uid: [1; 32],
                sequence: 3,
                mode: Mode::Hardware,
                manifest_digest: [4; 32],
                file_sha256: [5; 32],
            },
            Event::Granted(Granted {
                lease,
                model: model.clone(),
                uid: [1; 32],
                sequence: 3,
                enclave: enclave(),
                policy_digest: [7; 32],
                tee_pubkey_sha256: [8; 32],
                ttl_s: 60,
                max_requests: 9,
                renews: None,
            }),
            Event::Refused(Refused {
                ticket: lease,
                step: "attest".to_owned(),
                code: "X".to_owned(),
                reasons: vec!["X".to_owned(), "Y".to_owned()],
                enclave: Some(Enclave { rtmr: vec![Register([4; 48])], ..enclave() }),
            }),
            Event::Failed { lease, code: "X".to_owned() },
            Event::ModelRevoked { model: model.clone(), sequence: None },
            Event::PlatformRevoked { platform: Platform([1; 64]) },
            Event::LeaseRevoked { lease, model: model.clone(), sequence: 3, platform: Platform([1; 64]) },
            Event::FloorRaised { model, sequence: 4 },
        ];
        for event in events {
            let line = Line { v: 1, n: 1, at: UnixTime(5), event };
            let bytes = line.to_bytes();
            assert_eq!(Line::parse(&bytes).as_ref(), Some(&line));
            assert!(!bytes.contains(&b'\n') && !bytes.contains(&b'\t'));
            let text = String::from_utf8(bytes).unwrap();
            for bad in [
                text.replacen('{', "{ ", 1),
                text.replacen("\"v\":1", "\"v\":2", 1),
                text.replacen("\"v\":1", "\"v\":1,\"x\":1", 1),
            ] {
                assert_eq!(Line::parse(bad.as_bytes()), None);
            }
        }
    }
}
