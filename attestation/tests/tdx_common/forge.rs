//! Makes a simulated TDX platform, its collateral and its quotes, each with any one thing wrong.

use std::sync::OnceLock;

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use vouchsafe_attestation::{Anchors, TdxCollateral, lp};

use super::Case;
use crate::common::forge::{
    Cert, Ext, NOT_AFTER, NOT_BEFORE, anchors, bundle, ec_spki, ecdsa, ecdsa_sha256, ext, extensions, integer, marker,
    name, oid, pem, seq, sim, tlv,
};

pub const NOW: &str = "2026-06-01T00:00:00Z";
/// The window of everything that is issued often.
pub const ISSUED: &str = "2026-05-20T00:00:00Z";
pub const NEXT: &str = "2026-06-20T00:00:00Z";
const CRL_ISSUED: &str = "260520000000Z";
const CRL_NEXT: &str = "260620000000Z";

pub const SGX: &str = "1.2.840.113741.1.13.1";
pub const FMSPC: &str = "00806f050000";
const P256: &str = "1.2.840.10045.3.1.7";
const ZERO48: &str = "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";

/// The root of TDX, signed once: a second signature would be another certificate.
pub fn root() -> &'static [u8] {
    static ROOT: OnceLock<Vec<u8>> = OnceLock::new();
    ROOT.get_or_init(|| sim().tdx_root_cert().sign_p256(&sim().tdx_root))
}

/// The simulated root with [`root`] in it.
pub fn sim_anchors() -> Anchors {
    static ANCHORS: OnceLock<Anchors> = OnceLock::new();
    ANCHORS.get_or_init(|| anchors_with(root())).clone()
}

/// The same authorities of SEV-SNP, and this root of TDX.
pub fn anchors_with(root: &[u8]) -> Anchors {
    let sim = sim();
    anchors(&bundle(&sim.ark_cert().sign(&sim.ark), &sim.ask_cert().sign(&sim.ark), root)).unwrap()
}

/// Whose key signs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Root,
    Ca,
    Signer,
    QeSigner,
    Pck,
    /// Somebody else's.
    Other,
}

struct Keys {
    ca: EcdsaKeyPair,
    signer: EcdsaKeyPair,
    qe_signer: EcdsaKeyPair,
    pck: EcdsaKeyPair,
    attestation: EcdsaKeyPair,
    other: EcdsaKeyPair,
    statements: [EcdsaKeyPair; 2],
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let pair = || {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).unwrap();
        let [asn1, fixed] = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_FIXED_SIGNING]
            .map(|algorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).unwrap());
        (asn1, fixed)
    };
    KEYS.get_or_init(|| {
        let ((signer, fixed), (qe_signer, qe_fixed)) = (pair(), pair());
        Keys {
            ca: ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            signer,
            qe_signer,
            pck: ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            attestation: ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            other: ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            statements: [fixed, qe_fixed],
        }
    })
}

fn key(of: Key) -> &'static EcdsaKeyPair {
    match of {
        Key::Root => &sim().tdx_root,
        Key::Ca => &keys().ca,
        Key::Signer => &keys().signer,
        Key::QeSigner => &keys().qe_signer,
        Key::Pck => &keys().pck,
        Key::Other => &keys().other,
    }
}

/// A revocation list to be.
#[derive(Clone)]
pub struct Crl {
    pub version: Vec<u8>,
    pub issuer: Vec<u8>,
    pub this_update: &'static str,
    pub next_update: &'static str,
    pub revoked: Vec<Vec<u8>>,
    pub extensions: Vec<Ext>,
    /// After the last field of the signed content.
    pub tail: Vec<u8>,
    pub key: Key,
}

impl Crl {
    fn new(issuer: &str, key: Key) -> Self {
        Self {
            version: integer(1),
            issuer: name(issuer),
            this_update: CRL_ISSUED,
            next_update: CRL_NEXT,
            revoked: vec![integer(99)],
            extensions: vec![ext("2.5.29.20", integer(7))],
            tail: Vec::new(),
            key,
        }
    }

    fn sign(&self) -> Vec<u8> {
        let entry = |serial: &Vec<u8>| seq(&[serial.clone(), tlv(0x17, CRL_ISSUED.as_bytes())]);
        let content = seq(&[
            self.version.clone(),
            ecdsa_sha256(),
            self.issuer.clone(),
            tlv(0x17, self.this_update.as_bytes()),
            tlv(0x17, self.next_update.as_bytes()),
            seq(&self.revoked.iter().map(entry).collect::<Vec<_>>()),
            tlv(0xa0, &extensions(&self.extensions)),
            self.tail.clone(),
        ]);
        let signature = key(self.key).sign(&SystemRandom::new(), &content).unwrap();
        seq(&[content, ecdsa_sha256(), tlv(3, &[&[0], signature.as_ref()].concat())])
    }
}

/// A member of the SGX extension: the end of its identifier, and its value.
pub type Member = (String, Vec<u8>);

/// Everything of which a quote and its collateral are made.
#[derive(Clone)]
pub struct Parts {
    pub root: Vec<u8>,
    pub tcb_signer: (Cert, Key),
    pub qe_signer: (Cert, Key),
    pub ca: (Cert, Key),
    pub pck: (Cert, Key),
    pub root_crl: Crl,
    pub pck_crl: Crl,
    pub sgx: Vec<Member>,
    pub sgx_tcb: Vec<Member>,
    pub sgx_flags: Vec<Member>,
    pub tcb_info: Value,
    pub qe_identity: Value,
    pub header: [u8; 48],
    pub descriptor: Option<(u16, u32)>,
    pub body: Vec<u8>,
    pub qe_report: [u8; 384],
    /// Whether the quoting enclave vouches for the attestation key.
    pub bind: bool,
    pub auth_data: Vec<u8>,
    pub cert_types: (u16, u16),
    /// How many of the three certificates the quote brings.
    pub chain_len: usize,
}

fn certificate(subject: &str, issuer: &str, serial: u8, of: Key, ca: bool) -> Cert {
    let mut constraints = ext("2.5.29.19", if ca { seq(&[tlv(1, &[0xff]), tlv(2, &[0])]) } else { seq(&[]) });
    constraints.critical = true;
    // digitalSignature and nonRepudiation, or keyCertSign and cRLSign.
    let mut usage = ext("2.5.29.15", tlv(3, if ca { &[1, 0x06] } else { &[6, 0xc0] }));
    usage.critical = true;
    Cert {
        serial: integer(serial),
        issuer: name(issuer),
        not_before: tlv(0x17, NOT_BEFORE.as_bytes()),
        not_after: tlv(0x17, NOT_AFTER.as_bytes()),
        subject: name(subject),
        spki: ec_spki(P256, key(of).public_key().as_ref()),
        extensions: vec![usage, constraints, marker()],
        ..sim().tdx_root_cert()
    }
}

fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(4, bytes)
}

pub fn level(sgx: u8, pce: u16, tdx: u8, status: &str, advisories: &[&str]) -> Value {
    let components = |first: u8| {
        let mut list = vec![json!({"svn": 0}); 16];
        list[0] = json!({"svn": first, "category": "BIOS", "type": "Early Microcode Update"});
        list
    };
    json!({
        "tcb": {"sgxtcbcomponents": components(sgx), "pcesvn": pce, "tdxtcbcomponents": components(tdx)},
        "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories,
    })
}

impl Parts {
    /// Everything as it should be: version 4, TDX 1.0.
    pub fn v4() -> Self {
        let flag = |n: u8, yes: bool| (format!("7.{n}"), tlv(1, &[if yes { 0xff } else { 0 }]));
        let mut tcb: Vec<Member> = (1..=16).map(|n| (format!("2.{n}"), integer(CPU_SVN[n - 1]))).collect();
        tcb.push(("2.17".into(), integer(13)));
        tcb.push(("2.18".into(), octets(&CPU_SVN)));
        let mut header = [0; 48];
        header[..8].copy_from_slice(&[4, 0, 2, 0, 0x81, 0, 0, 0]);
        header[12..28].copy_from_slice(&hex::decode("939a7233f79c4ca9940a0db3957f0607").unwrap());
        header[28..48].fill(0x1d);
        let mut body = vec![0; 584];
        body[..16].copy_from_slice(&[5, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        body[16..64].fill(0x5e);
        body[123] = 0x10;
        body[128..136].copy_from_slice(&0x61ae7_u64.to_le_bytes());
        for (i, start) in (136..520).step_by(48).enumerate() {
            body[start..start + 48].fill(0xa0 + i as u8);
        }
        body[520..584].fill(0xda);
        let mut qe_report = [0; 384];
        qe_report[48] = 0x11;
        qe_report[64..96].fill(0xec);
        qe_report[128..160].copy_from_slice(&[0xdc; 32]);
        qe_report[256] = 2;
        qe_report[258] = 4;
        Self {
            root: root().to_vec(),
            tcb_signer: (certificate("SGX-TCB-SIGNING-SIM", "SGX-ROOT-SIM", 11, Key::Signer, false), Key::Root),
            qe_signer: (certificate("SGX-QE-SIGNING-SIM", "SGX-ROOT-SIM", 12, Key::QeSigner, false), Key::Root),
            ca: (certificate("SGX-PCK-CA-SIM", "SGX-ROOT-SIM", 13, Key::Ca, true), Key::Root),
            pck: (certificate("SGX-PCK-SIM", "SGX-PCK-CA-SIM", 14, Key::Pck, false), Key::Ca),
            root_crl: Crl::new("SGX-ROOT-SIM", Key::Root),
            pck_crl: Crl::new("SGX-PCK-CA-SIM", Key::Ca),
            sgx: vec![
                ("1".into(), octets(&[0xa5; 16])),
                ("3".into(), octets(&[0, 0])),
                ("4".into(), octets(&hex::decode(FMSPC).unwrap())),
                ("5".into(), tlv(0x0a, &[1])),
                ("6".into(), octets(&[0xb6; 16])),
            ],
            sgx_tcb: tcb,
            sgx_flags: vec![flag(1, true), flag(2, false), flag(3, true)],
            tcb_info: json!({
                "id": "TDX", "version": 3, "issueDate": ISSUED, "nextUpdate": NEXT, "fmspc": FMSPC, "pceId": "0000",
                "tcbType": 0, "tcbEvaluationDataNumber": 20,
                "tdxModule": {"mrsigner": ZERO48, "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF"},
                "tdxModuleIdentities": [{
                    "id": "TDX_01", "mrsigner": ZERO48, "attributes": "0000000000000000",
                    "attributesMask": "FFFFFFFFFFFFFFFF",
                    "tcbLevels": [
                        {"tcb": {"isvsvn": 5}, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": "UpToDate"},
                        {"tcb": {"isvsvn": 3}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "OutOfDate",
                         "advisoryIDs": ["INTEL-SA-01036"]},
                        {"tcb": {"isvsvn": 2}, "tcbDate": "2023-03-13T00:00:00Z", "tcbStatus": "Revoked"},
                    ],
                }],
                "tcbLevels": [
                    level(6, 13, 5, "UpToDate", &[]),
                    level(5, 13, 5, "OutOfDate", &["INTEL-SA-01079"]),
                    level(4, 13, 5, "Revoked", &[]),
                ],
            }),
            qe_identity: json!({
                "id": "TD_QE", "version": 2, "issueDate": ISSUED, "nextUpdate": NEXT, "tcbEvaluationDataNumber": 19,
                "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
                "attributes": "11000000000000000000000000000000",
                "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
                "mrsigner": "dc".repeat(32), "isvprodid": 2,
                "tcbLevels": [
                    {"tcb": {"isvsvn": 4}, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": "UpToDate"},
                    {"tcb": {"isvsvn": 3}, "tcbDate": "2024-05-14T00:00:00Z", "tcbStatus": "OutOfDate",
                     "advisoryIDs": ["INTEL-SA-00615"]},
                    {"tcb": {"isvsvn": 2}, "tcbDate": "2023-05-14T00:00:00Z", "tcbStatus": "Revoked"},
                ],
            }),
            header,
            descriptor: None,
            body,
            qe_report,
            bind: true,
            auth_data: (0..32).collect(),
            cert_types: (6, 5),
            chain_len: 3,
        }
    }

    /// Version 5, TDX 1.0.
    pub fn v5() -> Self {
        let mut parts = Self::v4();
        parts.header[0] = 5;
        parts.descriptor = Some((2, 584));
        parts
    }

    /// Version 5, TDX 1.5.
    pub fn v15() -> Self {
        let mut parts = Self::v5();
        parts.descriptor = Some((3, 648));
        parts.body.extend([5, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        parts.body.extend([0; 48]);
        parts
    }

    /// The offset of the body.
    pub fn body_start(&self) -> usize {
        if self.descriptor.is_some() { 54 } else { 48 }
    }

    fn pck_certificate(&self) -> Vec<u8> {
        let member = |(id, value): &Member| seq(&[oid(&format!("{SGX}.{id}")), value.clone()]);
        let members = |list: &[Member]| seq(&list.iter().map(member).collect::<Vec<_>>());
        let mut all = self.sgx.clone();
        if !self.sgx_tcb.is_empty() {
            all.push(("2".into(), members(&self.sgx_tcb)));
        }
        if !self.sgx_flags.is_empty() {
            all.push(("7".into(), members(&self.sgx_flags)));
        }
        let mut certificate = self.pck.0.clone();
        if !all.is_empty() {
            certificate.extensions.push(ext(SGX, members(&all)));
        }
        certificate.sign_p256(key(self.pck.1))
    }

    pub fn collateral(&self) -> TdxCollateral {
        let chain = |der: &[u8]| format!("{}{}", pem(der), pem(&self.root));
        let sign = |text: &str, i: usize| {
            keys().statements[i].sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
        };
        let (tcb_info, qe_identity) = (self.tcb_info.to_string(), self.qe_identity.to_string());
        TdxCollateral {
            pck_crl_issuer_chain: chain(&self.ca.0.sign_p256(key(self.ca.1))),
            root_ca_crl: self.root_crl.sign(),
            pck_crl: self.pck_crl.sign(),
            tcb_info_issuer_chain: chain(&self.tcb_signer.0.sign_p256(key(self.tcb_signer.1))),
            tcb_info_signature: sign(&tcb_info, 0),
            tcb_info,
            qe_identity_issuer_chain: chain(&self.qe_signer.0.sign_p256(key(self.qe_signer.1))),
            qe_identity_signature: sign(&qe_identity, 1),
            qe_identity,
        }
    }

    pub fn quote(&self) -> Vec<u8> {
        let (rng, keys) = (SystemRandom::new(), keys());
        let mut quote = self.header.to_vec();
        if let Some((kind, size)) = self.descriptor {
            quote.extend(kind.to_le_bytes());
            quote.extend(size.to_le_bytes());
        }
        quote.extend(&self.body);
        let signature = keys.attestation.sign(&rng, &quote).unwrap();
        let attestation = &keys.attestation.public_key().as_ref()[1..];

        let mut report = self.qe_report;
        if self.bind {
            report[320..352].copy_from_slice(&lp::sha256(&[attestation, &self.auth_data].concat()));
        }
        let chain = [&self.pck_certificate()[..], &self.ca.0.sign_p256(key(self.ca.1)), &self.root].map(pem);
        let chain = chain[..self.chain_len].concat();
        let mut data = report.to_vec();
        data.extend(keys.pck.sign(&rng, &report).unwrap().as_ref());
        data.extend((self.auth_data.len() as u16).to_le_bytes());
        data.extend(&self.auth_data);
        data.extend(self.cert_types.1.to_le_bytes());
        data.extend((chain.len() as u32 + 1).to_le_bytes());
        data.extend(chain.as_bytes());
        data.push(0);

        quote.extend((data.len() as u32 + 134).to_le_bytes());
        quote.extend(signature.as_ref());
        quote.extend(attestation);
        quote.extend(self.cert_types.0.to_le_bytes());
        quote.extend((data.len() as u32).to_le_bytes());
        quote.extend(&data);
        quote
    }

    pub fn case(&self) -> Case {
        Case { name: "simulated".into(), quote: self.quote(), collateral: self.collateral() }
    }
}

pub const CPU_SVN: [u8; 16] = [6, 6, 2, 2, 3, 1, 0, 200, 0, 0, 0, 0, 0, 0, 0, 0];
