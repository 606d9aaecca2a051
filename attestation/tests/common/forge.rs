//! Makes a simulated root, leaves, revocation lists and signed reports, each with any one thing wrong.

use std::sync::OnceLock;

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
        RSA_PSS_SHA384, RsaKeyPair,
    },
};
use rsa::pkcs8::EncodePrivateKey;
use vouchsafe_attestation::{Anchors, VerifyError, anchors::SIMULATED_MARKER_OID, lp};

use super::Genuine;

pub const AMD: &str = "1.3.6.1.4.1.3704.1";
/// 2026-01-01 and 2027-01-01: the window of everything forged.
pub const NOT_BEFORE: &str = "260101000000Z";
pub const NOT_AFTER: &str = "270101000000Z";

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n @ 0..=0x7f => out.push(n as u8),
        n @ 0x80..=0xff => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend(content);
    out
}

pub fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u64> = text.split('.').map(|a| a.parse().unwrap()).collect();
    let mut out = Vec::new();
    for arc in [&[arcs[0] * 40 + arcs[1]], &arcs[2..]].concat() {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        groups.reverse();
        out.extend(groups);
    }
    tlv(0x06, &out)
}

pub fn name(cn: &str) -> Vec<u8> {
    let attribute = |id: &str, text: &str| tlv(0x31, &seq(&[oid(id), tlv(0x0c, text.as_bytes())]));
    seq(&[attribute("2.5.4.10", "Vouchsafe simulated root"), attribute("2.5.4.3", cn)])
}

pub fn integer(value: u8) -> Vec<u8> {
    if value < 0x80 { tlv(2, &[value]) } else { tlv(2, &[0, value]) }
}

const SHA384: &str = "2.16.840.1.101.3.4.2.2";

/// RSASSA-PSS with SHA-384, with or without the default trailerField.
pub fn pss(trailer: bool) -> Vec<u8> {
    let trailer = if trailer { tlv(0xa3, &integer(1)) } else { vec![] };
    pss_with(SHA384, SHA384, &integer(48), &trailer)
}

fn pss_with(hash: &str, mask_hash: &str, salt: &[u8], trailer: &[u8]) -> Vec<u8> {
    let named = |hash: &str| seq(&[oid(hash), tlv(5, &[])]);
    let params = seq(&[
        tlv(0xa0, &named(hash)),
        tlv(0xa1, &seq(&[oid("1.2.840.113549.1.1.8"), named(mask_hash)])),
        tlv(0xa2, salt),
        trailer.to_vec(),
    ]);
    seq(&[oid("1.2.840.113549.1.1.10"), params])
}

/// Names of algorithms next to the right one. The signature behind them is the right one: only the name is wrong.
pub fn other_algorithms() -> Vec<Vec<u8>> {
    const SHA256: &str = "2.16.840.1.101.3.4.2.1";
    const SHA512: &str = "2.16.840.1.101.3.4.2.3";
    vec![
        pss_with(SHA256, SHA256, &integer(32), &[]),
        pss_with(SHA512, SHA512, &integer(64), &[]),
        pss_with(SHA384, SHA256, &integer(48), &[]),
        pss_with(SHA256, SHA384, &integer(48), &[]),
        pss_with(SHA384, SHA384, &integer(32), &[]),
        pss_with(SHA384, SHA384, &tlv(2, &[0, 48]), &[]),
        pss_with(SHA384, SHA384, &integer(48), &tlv(0xa3, &integer(2))),
        pss_with(SHA384, SHA384, &integer(48), &tlv(0xa4, &integer(1))),
        seq(&[oid("1.2.840.113549.1.1.10")]),
        seq(&[oid("1.2.840.113549.1.1.10"), seq(&[])]),
        seq(&[oid("1.2.840.113549.1.1.12"), tlv(5, &[])]),
        ecdsa_sha256(),
    ]
}

/// ecdsa-with-SHA256.
pub fn ecdsa_sha256() -> Vec<u8> {
    seq(&[oid("1.2.840.10045.4.3.2")])
}

#[derive(Clone)]
pub struct Ext {
    pub oid: String,
    pub critical: bool,
    pub value: Vec<u8>,
    /// Instead of the flag: whatever stands between identifier and value.
    pub between: Vec<u8>,
    /// The tag of the value: OCTET STRING.
    pub tag: u8,
    /// After the value.
    pub tail: Vec<u8>,
}

pub fn ext(oid: &str, value: Vec<u8>) -> Ext {
    Ext { oid: oid.to_owned(), critical: false, value, between: Vec::new(), tag: 4, tail: Vec::new() }
}

pub fn extensions(list: &[Ext]) -> Vec<u8> {
    let one = |e: &Ext| {
        let critical = if e.critical { tlv(1, &[0xff]) } else { vec![] };
        seq(&[oid(&e.oid), critical, e.between.clone(), tlv(e.tag, &e.value), e.tail.clone()])
    };
    seq(&list.iter().map(one).collect::<Vec<_>>())
}

/// A certificate to be; every field can be spoilt before it is signed.
#[derive(Clone)]
pub struct Cert {
    pub version: Vec<u8>,
    pub serial: Vec<u8>,
    pub algorithm: Vec<u8>,
    pub outer_algorithm: Vec<u8>,
    pub issuer: Vec<u8>,
    pub not_before: Vec<u8>,
    pub not_after: Vec<u8>,
    pub subject: Vec<u8>,
    pub spki: Vec<u8>,
    pub extensions: Vec<Ext>,
    /// The tag around the extensions: `[3]`.
    pub extensions_tag: u8,
    /// After the last field of the signed content.
    pub tail: Vec<u8>,
}

impl Cert {
    pub fn sign(&self, key: &RsaKeyPair) -> Vec<u8> {
        signed(self.content(), &self.outer_algorithm, key)
    }

    pub fn sign_p256(&self, key: &EcdsaKeyPair) -> Vec<u8> {
        let content = self.content();
        let signature = key.sign(&SystemRandom::new(), &content).unwrap();
        seq(&[content, self.outer_algorithm.clone(), tlv(3, &[&[0], signature.as_ref()].concat())])
    }

    fn content(&self) -> Vec<u8> {
        seq(&[
            tlv(0xa0, &self.version),
            self.serial.clone(),
            self.algorithm.clone(),
            self.issuer.clone(),
            seq(&[self.not_before.clone(), self.not_after.clone()]),
            self.subject.clone(),
            self.spki.clone(),
            tlv(self.extensions_tag, &extensions(&self.extensions)),
            self.tail.clone(),
        ])
    }

    pub fn extension(&mut self, oid: &str) -> &mut Ext {
        self.extensions.iter_mut().find(|e| e.oid == oid).unwrap()
    }

    pub fn drop_extension(&mut self, oid: &str) {
        self.extensions.retain(|e| e.oid != oid);
    }
}

fn signed(tbs: Vec<u8>, algorithm: &[u8], key: &RsaKeyPair) -> Vec<u8> {
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PSS_SHA384, &SystemRandom::new(), &tbs, &mut signature).unwrap();
    signature.insert(0, 0);
    seq(&[tbs, algorithm.to_vec(), tlv(3, &signature)])
}

/// A revocation list to be.
#[derive(Clone)]
pub struct Crl {
    pub version: Vec<u8>,
    pub algorithm: Vec<u8>,
    pub outer_algorithm: Vec<u8>,
    pub issuer: Vec<u8>,
    pub this_update: Vec<u8>,
    pub next_update: Vec<u8>,
    pub revoked: Vec<Vec<u8>>,
    pub extensions: Vec<Ext>,
    /// After the date of every entry.
    pub entry_tail: Vec<u8>,
    /// After the last field of the signed content.
    pub tail: Vec<u8>,
}

impl Crl {
    pub fn sign(&self, key: &RsaKeyPair) -> Vec<u8> {
        let entry =
            |serial: &Vec<u8>| seq(&[serial.clone(), tlv(0x17, NOT_BEFORE.as_bytes()), self.entry_tail.clone()]);
        let entries: Vec<_> = self.revoked.iter().map(entry).collect();
        let tbs = seq(&[
            self.version.clone(),
            self.algorithm.clone(),
            self.issuer.clone(),
            self.this_update.clone(),
            self.next_update.clone(),
            if entries.is_empty() { vec![] } else { seq(&entries) },
            tlv(0xa0, &extensions(&self.extensions)),
            self.tail.clone(),
        ]);
        signed(tbs, &self.outer_algorithm, key)
    }
}

/// Keys and default parts of a simulated machine.
pub struct Sim {
    pub ark: RsaKeyPair,
    pub ask: RsaKeyPair,
    pub asvk: RsaKeyPair,
    /// Signs reports, whether the leaf calls it a VCEK or a VLEK.
    pub vcek: EcdsaKeyPair,
    pub tdx_root: EcdsaKeyPair,
    pub chip: [u8; 64],
    pub tcb: [u8; 8],
}

/// One root for the whole test binary: RSA keys are slow to make. 2048 bits are enough for the rules under test.
pub fn sim() -> &'static Sim {
    static SIM: OnceLock<Sim> = OnceLock::new();
    SIM.get_or_init(|| {
        let rsa = || {
            let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
            RsaKeyPair::from_pkcs8(key.to_pkcs8_der().unwrap().as_bytes()).unwrap()
        };
        Sim {
            ark: rsa(),
            ask: rsa(),
            asvk: rsa(),
            vcek: ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            tdx_root: ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            chip: [0xc1; 64],
            tcb: [0x0a, 0, 0, 0, 0, 0, 0x19, 0xd4],
        }
    })
}

pub fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let rng = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).unwrap()
}

/// SubjectPublicKeyInfo of a point on a named curve.
pub fn ec_spki(curve: &str, point: &[u8]) -> Vec<u8> {
    seq(&[seq(&[oid("1.2.840.10045.2.1"), oid(curve)]), tlv(3, &[&[0], point].concat())])
}

pub fn marker() -> Ext {
    ext(SIMULATED_MARKER_OID, tlv(5, &[]))
}

fn rsa_spki(key: &RsaKeyPair) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend(key.public().as_ref());
    seq(&[seq(&[oid("1.2.840.113549.1.1.1"), tlv(5, &[])]), tlv(3, &bits)])
}

impl Sim {
    fn ca(&self, cn: &str, key: &RsaKeyPair, serial: u8) -> Cert {
        Cert {
            version: integer(2),
            serial: integer(serial),
            algorithm: pss(true),
            outer_algorithm: pss(true),
            issuer: name("ARK-SIM"),
            not_before: tlv(0x17, NOT_BEFORE.as_bytes()),
            not_after: tlv(0x18, b"20510101000000Z"),
            subject: name(cn),
            spki: rsa_spki(key),
            extensions: vec![marker()],
            extensions_tag: 0xa3,
            tail: Vec::new(),
        }
    }

    pub fn ark_cert(&self) -> Cert {
        self.ca("ARK-SIM", &self.ark, 1)
    }

    pub fn ask_cert(&self) -> Cert {
        self.ca("ASK-SIM", &self.ask, 2)
    }

    pub fn asvk_cert(&self) -> Cert {
        self.ca("ASVK-SIM", &self.asvk, 3)
    }

    pub fn tdx_root_cert(&self) -> Cert {
        Cert {
            algorithm: ecdsa_sha256(),
            outer_algorithm: ecdsa_sha256(),
            issuer: name("SGX-ROOT-SIM"),
            spki: ec_spki("1.2.840.10045.3.1.7", self.tdx_root.public_key().as_ref()),
            ..self.ca("SGX-ROOT-SIM", &self.ark, 4)
        }
    }

    /// The root file of these two authorities; its root of TDX is as it should be.
    pub fn bundle(&self, ark: &Cert, ask: &Cert) -> Vec<u8> {
        bundle(&ark.sign(&self.ark), &ask.sign(&self.ark), &self.tdx_root_cert().sign_p256(&self.tdx_root))
    }

    pub fn anchors(&self) -> Anchors {
        static ANCHORS: OnceLock<Anchors> = OnceLock::new();
        let make = || anchors(&self.bundle(&self.ark_cert(), &self.ask_cert())).unwrap();
        ANCHORS.get_or_init(make).clone()
    }

    pub fn leaf(&self) -> Cert {
        let spl = |n: usize, byte: u8| ext(&format!("{AMD}.3.{n}"), integer(byte));
        let t = self.tcb;
        Cert {
            version: integer(2),
            serial: integer(0),
            algorithm: pss(false),
            outer_algorithm: pss(false),
            issuer: name("ASK-SIM"),
            not_before: tlv(0x17, NOT_BEFORE.as_bytes()),
            not_after: tlv(0x17, NOT_AFTER.as_bytes()),
            subject: name("SEV-SIM"),
            spki: ec_spki("1.3.132.0.34", self.vcek.public_key().as_ref()),
            extensions: vec![
                ext(&format!("{AMD}.1"), integer(0)),
                ext(&format!("{AMD}.2"), tlv(0x16, b"Genoa")),
                spl(1, t[0]),
                spl(2, t[1]),
                spl(4, t[2]),
                spl(5, t[3]),
                spl(6, t[4]),
                spl(7, t[5]),
                spl(3, t[6]),
                spl(8, t[7]),
                ext(&format!("{AMD}.4"), self.chip.to_vec()),
                marker(),
            ],
            extensions_tag: 0xa3,
            tail: Vec::new(),
        }
    }

    /// A leaf of a loaded key: of a provider, not of a chip, under the ASVK.
    pub fn vlek(&self) -> Cert {
        let mut leaf = self.leaf();
        leaf.issuer = name("ASVK-SIM");
        leaf.subject = name("VLEK-SIM");
        leaf.drop_extension(&format!("{AMD}.4"));
        leaf.extensions.push(ext(&format!("{AMD}.5"), tlv(0x16, b"CN=cc.example.com")));
        leaf
    }

    pub fn crl(&self) -> Crl {
        Crl {
            version: integer(1),
            algorithm: pss(true),
            outer_algorithm: pss(true),
            issuer: name("ARK-SIM"),
            this_update: tlv(0x17, NOT_BEFORE.as_bytes()),
            next_update: tlv(0x17, NOT_AFTER.as_bytes()),
            revoked: vec![integer(9)],
            extensions: vec![ext("2.5.29.20", integer(7))],
            entry_tail: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// A version 5 report of this machine, not yet signed.
    pub fn report(&self) -> [u8; 1184] {
        let mut r = [0; 1184];
        r[0] = 5;
        r[0x8..0x10].copy_from_slice(&0x3_0000_u64.to_le_bytes());
        r[0x34] = 1;
        for tcb in [0x38, 0x180, 0x1e0, 0x1f0] {
            r[tcb..tcb + 8].copy_from_slice(&self.tcb);
        }
        r[0x40] = 0x25;
        r[0x50..0x90].fill(0xda);
        r[0x90..0xc0].fill(0x3e);
        r[0xc0..0xe0].fill(0x40);
        r[0x160..0x180].fill(0xff);
        r[0x188..0x18b].copy_from_slice(&[0x19, 0x11, 1]);
        r[0x1a0..0x1e0].copy_from_slice(&self.chip);
        r[0x1e8..0x1eb].copy_from_slice(&[43, 55, 1]);
        r[0x1ec..0x1ef].copy_from_slice(&[43, 55, 1]);
        r
    }

    pub fn sign_report(&self, mut report: [u8; 1184]) -> Vec<u8> {
        let signature = self.vcek.sign(&SystemRandom::new(), &report[..0x2a0]).unwrap();
        let (r, s) = signature.as_ref().split_at(48);
        for i in 0..48 {
            report[0x2a0 + i] = r[47 - i];
            report[0x2e8 + i] = s[47 - i];
        }
        report.to_vec()
    }

    /// Everything as it should be.
    pub fn good(&self) -> Genuine {
        Genuine {
            name: "simulated".to_owned(),
            report: self.sign_report(self.report()),
            leaf: self.leaf().sign(&self.ask),
            crl: self.crl().sign(&self.ark),
            asvk: Vec::new(),
        }
    }

    /// Everything as it should be, under a loaded key.
    pub fn good_vlek(&self) -> Genuine {
        let mut report = self.report();
        report[0x48] = 1 << 2;
        Genuine {
            name: "simulated, loaded key".to_owned(),
            report: self.sign_report(report),
            leaf: self.vlek().sign(&self.asvk),
            crl: self.crl().sign(&self.ark),
            asvk: self.asvk_cert().sign(&self.ark),
        }
    }

    /// A signed leaf of a loaded key with something changed first.
    pub fn with_vlek(&self, change: impl FnOnce(&mut Cert)) -> Genuine {
        let mut leaf = self.vlek();
        change(&mut leaf);
        Genuine { leaf: leaf.sign(&self.asvk), ..self.good_vlek() }
    }

    /// A signed authority of loaded keys with something changed first.
    pub fn with_asvk(&self, change: impl FnOnce(&mut Cert)) -> Genuine {
        let mut asvk = self.asvk_cert();
        change(&mut asvk);
        Genuine { asvk: asvk.sign(&self.ark), ..self.good_vlek() }
    }

    /// A signed report with something changed first.
    pub fn with_report(&self, change: impl FnOnce(&mut [u8; 1184])) -> Genuine {
        let mut report = self.report();
        change(&mut report);
        Genuine { report: self.sign_report(report), ..self.good() }
    }

    /// A signed leaf with something changed first.
    pub fn with_leaf(&self, change: impl FnOnce(&mut Cert)) -> Genuine {
        let mut leaf = self.leaf();
        change(&mut leaf);
        Genuine { leaf: leaf.sign(&self.ask), ..self.good() }
    }

    /// A signed revocation list with something changed first.
    pub fn with_crl(&self, change: impl FnOnce(&mut Crl)) -> Genuine {
        let mut crl = self.crl();
        change(&mut crl);
        Genuine { crl: crl.sign(&self.ark), ..self.good() }
    }
}

pub fn bundle(ark: &[u8], ask: &[u8], tdx_root: &[u8]) -> Vec<u8> {
    [ark, ask, tdx_root].map(pem).concat().into_bytes()
}

pub fn pem(der: &[u8]) -> String {
    der::Document::try_from(der).unwrap().to_pem("CERTIFICATE", der::pem::LineEnding::LF).unwrap()
}

pub fn anchors(bundle: &[u8]) -> Result<Anchors, VerifyError> {
    anchors_named(bundle, &lp::sha256(bundle))
}

pub fn anchors_named(bundle: &[u8], sha256: &[u8; 32]) -> Result<Anchors, VerifyError> {
    Anchors::simulated(bundle, sha256)
}
