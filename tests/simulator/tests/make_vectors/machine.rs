//! Turns one simulated platform into files: each piece open to one change before it is signed.
//! It does not judge them.

use std::{fs, path::Path};

use vouchsafe_attestation::{UnixTime, evidence::TdxCollateral, lp::sha256};
use vouchsafe_simulator::{
    der,
    tdx::{CollateralSpec, Pki, QuoteSpec, TdFields, pki::Platform},
    x509::CertificateSpec,
};

use crate::cases::{Files, NOW};

/// The collateral is from an hour before [`NOW`] to 30 days after it; a list's last second is the one before its next update.
pub const FIRST_SECOND: &str = "2026-05-31T23:00:00Z";
pub const LAST_SECOND: &str = "2026-06-30T23:59:59Z";
pub const DAY: u64 = 86_400;

pub struct Machine {
    pub pki: Pki,
    /// Another simulated Intel, with the same names.
    pub other: Pki,
    pub root_pem: Vec<u8>,
    pub now: u64,
    /// The base's quote and collateral, signed once: a case that spoils bytes spoils these.
    pub base_quote: Vec<u8>,
    pub base_collateral: TdxCollateral,
}

impl Machine {
    /// Takes ARK and ASK from the SEV-SNP cases; the root of TDX is this machine's own.
    pub fn new(all: &Path) -> Self {
        let now = UnixTime::parse_rfc3339(NOW).unwrap().0;
        let pki = Pki::generate(Platform::new([0x99; 16]), now).unwrap();
        let other = Pki::generate(Platform::new([0x99; 16]), now).unwrap();
        let snp = fs::read_to_string(all.join("sev-snp/base/root.pem")).unwrap();
        let third = snp.match_indices("-----BEGIN").nth(2).unwrap().0;
        let root_pem = format!("{}{}", &snp[..third], der::certificate_pem(&pki.root_der).unwrap()).into_bytes();
        let base_collateral = CollateralSpec::honest(&pki, now).unwrap().sign(&pki).unwrap();
        let base_quote = QuoteSpec::honest(&pki, td()).sign(&pki.attestation, &pki.pck).unwrap();
        Self { pki, other, root_pem, now, base_quote, base_collateral }
    }

    pub fn td(&self) -> TdFields {
        td()
    }

    pub fn quote(&self) -> QuoteSpec {
        QuoteSpec::honest(&self.pki, self.td())
    }

    pub fn signed(&self, quote: &QuoteSpec) -> Vec<u8> {
        quote.sign(&self.pki.attestation, &self.pki.pck).unwrap()
    }

    pub fn spec(&self) -> CollateralSpec {
        CollateralSpec::honest(&self.pki, self.now).unwrap()
    }

    /// A quote with something changed before it is signed.
    pub fn with_quote(&self, change: impl FnOnce(&mut QuoteSpec)) -> Files {
        let mut quote = self.quote();
        change(&mut quote);
        Files::from([("quote.bin", self.signed(&quote))])
    }

    /// A quote with something changed after it was signed.
    pub fn with_bytes(&self, change: impl FnOnce(&mut Vec<u8>)) -> Files {
        let mut quote = self.base_quote.clone();
        change(&mut quote);
        Files::from([("quote.bin", quote)])
    }

    /// Collateral with something changed before it is signed.
    pub fn with_spec(&self, change: impl FnOnce(&mut CollateralSpec)) -> Files {
        let mut spec = self.spec();
        change(&mut spec);
        json(&spec.sign(&self.pki).unwrap())
    }

    /// Collateral with something changed after it was signed.
    pub fn with_collateral(&self, change: impl FnOnce(&mut TdxCollateral)) -> Files {
        let mut collateral = self.base_collateral.clone();
        change(&mut collateral);
        json(&collateral)
    }

    /// A quote under a PCK certificate with something changed before the authority signs it.
    pub fn with_pck(&self, change: impl FnOnce(&mut CertificateSpec)) -> Files {
        let sgx = vouchsafe_simulator::tdx::pki::SgxExtension::honest(&self.pki.platform);
        let mut spec = self.pki.pck_spec(&sgx, self.now).unwrap();
        change(&mut spec);
        self.under(&spec.sign(&self.pki.pck_ca).unwrap())
    }

    /// A quote under this PCK certificate.
    pub fn under(&self, pck: &[u8]) -> Files {
        let chain = der::certificate_pem(pck).unwrap() + &self.pki.pck_ca_chain;
        self.with_quote(|q| q.cert_data = QuoteSpec::cert_data(&chain))
    }

    /// The policy of this machine: everything written.
    pub fn policy(&self) -> String {
        let hex48 = |byte: &str| byte.repeat(48);
        format!(
            "version = 1\nname = \"vectors\"\nmode = \"simulation\"\ntee = [\"tdx\"]\nextends = \"simulation\"\n\n\
             [root]\npath = \"root.pem\"\nsha256 = \"{}\"\n\n\
             [tdx]\nmr_td = [\"{}\"]\nrtmr0 = [\"{zero}\"]\nrtmr1 = [\"{zero}\"]\nrtmr2 = [\"{zero}\"]\nrtmr3 = [\"{zero}\"]\n\
             config_digests = [\"{}\"]\nplatforms = [\"{}\"]\n\n\
             [[models]]\nid = \"vectors\"\nvendor_keys = [\"ed25519:{}\"]\nmin_sequence = 1\n",
            hex::encode(sha256(&self.root_pem)),
            hex48("3e"),
            "40".repeat(32),
            hex::encode(self.pki.platform.ppid),
            "5e".repeat(32),
            zero = hex48("00"),
        )
    }
}

fn td() -> TdFields {
    let mut td = TdFields::honest([0x3e; 48], [0x40; 32]);
    td.report_data[..48].fill(0xda);
    td
}

/// The one file of a collateral.
pub fn json(collateral: &TdxCollateral) -> Files {
    let mut text = serde_json::to_vec_pretty(collateral).unwrap();
    text.push(b'\n');
    Files::from([("collateral.json", text)])
}

/// Both.
pub fn both(one: Files, other: Files) -> Files {
    one.into_iter().chain(other).collect()
}
