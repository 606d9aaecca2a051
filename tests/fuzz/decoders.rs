//! Turns any bytes into one call of a decoder, with everything else as it should be: what the fuzz targets and the seeded
//! cases of `tests/tests/fuzz.rs` both run.
//! It does not say that a decoder is right: only that it neither panics nor accepts what the base's keys did not sign.
#![allow(dead_code, reason = "each target uses one of these")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic here is what is looked for"
)]

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, OnceLock},
};

use vouchsafe_attestation::{
    Anchors, Collateral, Ed25519Public, Evidence, EvidenceEnvelope, Mode, TdxCollateral, UnixTime, collateral,
    lp::sha256, verify,
};
use vouchsafe_oip::{Answer, Dtype, Encoding, Limits, Port, Ports, Request, Tensor, Wanted, inflate as inflate_body};
use vouchsafe_policies::{
    Policy,
    usage::{Callers, Credential, Inputs, Outputs, QuotaBook, UsagePolicy},
};
use vouchsafe_sealed::{SealedError, Shelf, Volume};

/// The committed base of each technology: accepted evidence whose keys exist no more.
pub const REPORT: &[u8] = include_bytes!("../vectors/evidence/sev-snp/base/report.bin");
pub const LEAF: &[u8] = include_bytes!("../vectors/evidence/sev-snp/base/leaf.der");
pub const CRL: &[u8] = include_bytes!("../vectors/evidence/sev-snp/base/crl.der");
pub const SNP_ROOT: &[u8] = include_bytes!("../vectors/evidence/sev-snp/base/root.pem");
pub const SNP_POLICY: &str = include_str!("../vectors/evidence/sev-snp/base/policy.toml");
pub const QUOTE: &[u8] = include_bytes!("../vectors/evidence/tdx/base/quote.bin");
pub const COLLATERAL: &[u8] = include_bytes!("../vectors/evidence/tdx/base/collateral.json");
pub const TDX_ROOT: &[u8] = include_bytes!("../vectors/evidence/tdx/base/root.pem");
pub const TDX_POLICY: &str = include_str!("../vectors/evidence/tdx/base/policy.toml");
/// A volume of two packages, and the key that signed both.
pub const VOLUME: &[u8] = include_bytes!("../vectors/volume/accept-two-models/volume.bin");
const VENDOR: &str = include_str!("../vectors/sealed/accept-small/vendor.pub");
/// A usage policy with every rule.
pub const USAGE_POLICY: &str = r#"{
  "version": 1, "model": "breast-cancer", "expires": "2027-01-01T00:00:00Z",
  "limits": {"max_batch": 16, "max_body_bytes": 65536},
  "inputs": [
    {"name": "x", "dtype": "FP32", "shape": [-1, 30], "finite": true, "range": {"min": -5, "max": 0.5}},
    {"name": "ids", "dtype": "INT64", "shape": [], "finite": false, "range": {"min": 0, "max": 100}}
  ],
  "outputs": [{"name": "p", "round": 2, "top_k": 3}, {"name": "label", "argmax_only": true}, {"name": "q"}],
  "callers": [
    {"key": "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", "role": "ward"},
    {"key": "ed25519:0202020202020202020202020202020202020202020202020202020202020202", "role": "lab-2"},
    {"key": "sha256:0303030303030303030303030303030303030303030303030303030303030303", "role": "ward"}
  ],
  "quotas": [{"role": "ward", "requests": 9, "per_s": 60}, {"role": "any", "requests": 1000, "per_s": 86400}]
}"#;
/// 2026-06-01T00:00:00Z, the time of the committed cases.
const AT: UnixTime = UnixTime(1_780_272_000);
/// Header and body of a version 4 quote: what its attestation key signs.
const SIGNED_QUOTE: usize = 48 + 584;

/// What became of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Something was read and accepted: only what says the same as the base may be.
    Accepted,
    Refused,
}

fn snp_anchors() -> &'static Anchors {
    static ANCHORS: OnceLock<Anchors> = OnceLock::new();
    ANCHORS.get_or_init(|| Anchors::simulated(SNP_ROOT, &sha256(SNP_ROOT)).unwrap())
}

fn tdx_anchors() -> &'static Anchors {
    static ANCHORS: OnceLock<Anchors> = OnceLock::new();
    ANCHORS.get_or_init(|| Anchors::simulated(TDX_ROOT, &sha256(TDX_ROOT)).unwrap())
}

fn tdx_collateral() -> &'static TdxCollateral {
    static COLLATERAL_OF_BASE: OnceLock<TdxCollateral> = OnceLock::new();
    COLLATERAL_OF_BASE.get_or_init(|| serde_json::from_slice(COLLATERAL).unwrap())
}

fn snp(report: &[u8], leaf: &[u8], crl: &[u8]) -> Fate {
    let collateral = Collateral::SevSnp { leaf: leaf.to_vec(), crl: crl.to_vec(), asvk: Vec::new() };
    fate(&Evidence::SevSnp { report: report.to_vec() }, &collateral, snp_anchors())
}

fn tdx(quote: &[u8], collateral: &TdxCollateral) -> Fate {
    fate(&Evidence::Tdx { quote: quote.to_vec() }, &Collateral::Tdx(collateral.clone()), tdx_anchors())
}

fn fate(evidence: &Evidence, collateral: &Collateral, anchors: &Anchors) -> Fate {
    match verify(evidence, collateral, anchors, AT) {
        Ok(authentic) => {
            assert_eq!(authentic.mode(), Mode::Simulation);
            Fate::Accepted
        }
        Err(error) => {
            assert!(matches!(error.exit(), 2 | 3) && !error.to_string().is_empty());
            Fate::Refused
        }
    }
}

/// Only what says the same as the base may be accepted.
fn only_if(same: bool, fate: Fate) -> Fate {
    assert!(same || fate == Fate::Refused, "something that nobody signed was accepted");
    fate
}

/// An SEV-SNP report; also what a fetcher reads of it, which nobody signed.
pub fn report(bytes: &[u8]) -> Fate {
    let _ = collateral::sought_by_report(bytes, None);
    only_if(bytes == REPORT, snp(bytes, LEAF, CRL))
}

/// A TDX quote. The text of its chain may have other line ends; what is signed may not differ.
pub fn quote(bytes: &[u8]) -> Fate {
    let _ = collateral::sought_by_quote(bytes);
    only_if(bytes.get(..SIGNED_QUOTE) == QUOTE.get(..SIGNED_QUOTE), tdx(bytes, tdx_collateral()))
}

/// A leaf certificate, DER or PEM.
pub fn certificate(bytes: &[u8]) -> Fate {
    let _ = collateral::der_of(bytes.to_vec());
    only_if(bytes == LEAF, snp(REPORT, bytes, CRL))
}

/// A revocation list: AMD's form, and both of Intel's.
pub fn crl(bytes: &[u8]) -> Fate {
    let base = tdx_collateral();
    let root = TdxCollateral { root_ca_crl: bytes.to_vec(), ..base.clone() };
    let pck = TdxCollateral { pck_crl: bytes.to_vec(), ..base.clone() };
    let fates = [
        only_if(bytes == CRL, snp(REPORT, LEAF, bytes)),
        only_if(bytes == base.root_ca_crl, tdx(QUOTE, &root)),
        only_if(bytes == base.pck_crl, tdx(QUOTE, &pck)),
    ];
    if fates.contains(&Fate::Accepted) { Fate::Accepted } else { Fate::Refused }
}

/// The JSON of TDX collateral, as it travels and as a file. Chains may have other line ends; nothing signed may differ.
pub fn collateral_json(bytes: &[u8]) -> Fate {
    if let Ok(collateral) = serde_json::from_slice::<TdxCollateral>(bytes) {
        return tdx_collateral_of(&collateral);
    }
    let Ok(file) = collateral::parse(bytes) else { return Fate::Refused };
    if let Ok(items) = collateral::items(&file) {
        assert!(!items.is_empty());
    }
    assert_eq!(collateral::parse(&collateral::to_bytes(&file)).unwrap(), file);
    match &file {
        Collateral::Tdx(collateral) => tdx_collateral_of(collateral),
        Collateral::SevSnp { leaf, crl, .. } => only_if(leaf == LEAF && crl == CRL, snp(REPORT, leaf, crl)),
    }
}

fn tdx_collateral_of(collateral: &TdxCollateral) -> Fate {
    only_if(signed_parts(collateral) == signed_parts(tdx_collateral()), tdx(QUOTE, collateral))
}

/// Both bases as collateral files.
pub fn collateral_files() -> [Vec<u8>; 2] {
    let snp = Collateral::SevSnp { leaf: LEAF.to_vec(), crl: CRL.to_vec(), asvk: Vec::new() };
    [snp, Collateral::Tdx(tdx_collateral().clone())].map(|file| collateral::to_bytes(&file))
}

fn signed_parts(c: &TdxCollateral) -> [&[u8]; 6] {
    [
        &c.root_ca_crl,
        &c.pck_crl,
        c.tcb_info.as_bytes(),
        &c.tcb_info_signature,
        c.qe_identity.as_bytes(),
        &c.qe_identity_signature,
    ]
}

/// A policy file. Whatever is read has anchors of its own mode, and a simulated root has the digest that the text names.
pub fn policy(bytes: &[u8]) -> Fate {
    let Ok(text) = core::str::from_utf8(bytes) else { return Fate::Refused };
    let read = |name: &str| match name {
        "root.pem" => Ok(SNP_ROOT.to_vec()),
        "other-root.pem" => Ok(TDX_ROOT.to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    match Policy::parse(text, &read) {
        Ok(policy) => {
            assert_eq!(policy.mode(), policy.anchors().mode());
            assert_eq!(policy.digest(), sha256(bytes));
            assert!(!policy.tee_accepted().is_empty());
            let roots = [sha256(SNP_ROOT), sha256(TDX_ROOT)];
            assert!(policy.mode() == Mode::Hardware || roots.contains(&policy.anchors().id()));
            Fate::Accepted
        }
        Err(error) => {
            assert!(!error.code().is_empty() && !error.to_string().is_empty());
            Fate::Refused
        }
    }
}

/// A vendor's usage policy. Whatever is read means what its words say: roles, quotas, ranges, and forms of outputs.
pub fn usage_policy(bytes: &[u8]) -> Fate {
    let policy = match UsagePolicy::parse(bytes) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(matches!(error.exit(), 4 | 6) && !error.to_string().is_empty());
            return Fate::Refused;
        }
    };
    assert_eq!(policy.digest(), sha256(bytes));
    assert_eq!(policy.authenticate_key(&Ed25519Public([0xa5; 32])).is_ok(), policy.is_open());
    assert_eq!(policy.authenticate_api_key("no policy lists the digest of me").is_ok(), policy.is_open());
    if let Callers::Listed(callers) = policy.callers() {
        for caller in callers {
            if let Credential::Key(key) = &caller.credential {
                assert_eq!(policy.authenticate_key(key).as_ref(), Ok(&caller.role));
            }
        }
    }
    if let Some(quota) = policy.quotas().first() {
        let mut book = QuotaBook::new();
        let passed = (0..100).filter(|_| book.take(&policy, &quota.role, 7).is_ok()).count();
        assert!((1..=quota.requests).contains(&(passed as u64)));
    }
    assert!(policy.covered(0).is_ok());
    if let Inputs::Only(rules) = policy.inputs() {
        assert!(rules.iter().filter_map(|rule| rule.range).all(|range| range.min() <= range.max()));
    }
    if let Outputs::Only(rules) = policy.outputs() {
        for rule in rules {
            assert!(policy.lets_out(&rule.name));
            let mut data = [0.25_f32, f32::NAN, -0.0, 3.5e7].map(f32::to_le_bytes).concat();
            let (dtype, shape) = rule.shape("FP32", &[2, 2], &mut data).unwrap();
            let size = if dtype == "INT64" { 8 } else { 4 };
            assert_eq!(data.len(), size * shape.iter().product::<usize>());
        }
    }
    Fate::Accepted
}

/// Three inputs, one of each kind that is read in its own way, or one alone, which the raw form needs.
fn ports() -> &'static [Ports; 2] {
    static PORTS: OnceLock<[Ports; 2]> = OnceLock::new();
    PORTS.get_or_init(|| {
        let port = |name: &str, dtype, shape: &[i64]| Port { name: name.into(), dtype, shape: shape.to_vec() };
        let x = port("x", Dtype::F32, &[-1, 2]);
        let inputs = vec![x.clone(), port("ids", Dtype::I64, &[-1]), port("s", Dtype::Bytes, &[-1, 1])];
        [
            Ports { outputs: inputs.clone(), inputs },
            Ports { inputs: vec![x], outputs: vec![port("y", Dtype::Bool, &[])] },
        ]
    })
}

/// An inference request: four bytes say how long its JSON part is (the largest number: nothing said so), the rest is the body.
/// Whatever is read fits the model, and is the same when it is sent again in the other form.
pub fn infer(bytes: &[u8]) -> Fate {
    let Some((length, body)) = bytes.split_first_chunk() else { return Fate::Refused };
    let length = Some(u32::from_le_bytes(*length)).filter(|length| *length != u32::MAX).map(u64::from);
    let limits = Limits { max_input_bytes: 64 * 1024 };
    let mut fate = Fate::Refused;
    for ports in ports() {
        match Request::decode(&body.to_vec().into(), length, ports, &limits) {
            Ok(request) => {
                fate = Fate::Accepted;
                assert!(request.inputs.iter().map(|t| t.data.len()).sum::<usize>() <= limits.max_input_bytes);
                assert_eq!(request.inputs.len(), ports.inputs.len());
                for tensor in &request.inputs {
                    let port = ports.inputs.iter().find(|port| port.name == tensor.name).unwrap();
                    assert!(tensor.is_sound() && port.dtype == tensor.dtype && port.fits(&tensor.shape));
                }
                assert!(request.outputs.iter().all(|w| ports.outputs.iter().any(|port| port.name == w.name)));
                sent_again(request, ports);
            }
            Err(error) => assert!(error.exit() == 8 && !error.code().is_empty() && !error.to_string().is_empty()),
        }
    }
    fate
}

/// The inputs as an answer, and that as a request.
fn sent_again(request: Request, ports: &Ports) {
    let limits = Limits { max_input_bytes: usize::MAX };
    for binary in [true, false] {
        let wants = |tensor: &Tensor| Wanted { name: tensor.name.clone(), binary };
        let outputs = request.inputs.iter().map(wants).collect();
        let echo = Request { id: None, called: Default::default(), inputs: vec![], outputs };
        let Ok(answer) = Answer::encode("m", "1", &echo, &request.inputs, Some(64)) else {
            let text = |t: &Tensor| t.dtype != Dtype::Bytes || core::str::from_utf8(&t.data).is_ok();
            assert!(!binary && !request.inputs.iter().all(|t| t.is_finite() && text(t)), "it can be answered");
            continue;
        };
        assert_eq!(answer.body.len() % 64, 0);
        let at = if binary { usize::try_from(answer.header_len).unwrap() } else { answer.body.len() };
        let (head, tail) = answer.body.split_at(at);
        let mut head: serde_json::Value = serde_json::from_slice(head).unwrap();
        let head = serde_json::json!({ "inputs": head["outputs"].take() }).to_string();
        let body = [head.as_bytes(), tail].concat();
        let again = Request::decode(&body.into(), Some(head.len() as u64), ports, &limits).unwrap();
        assert_eq!(again.inputs, request.inputs);
    }
}

/// Requests in every form.
pub fn requests() -> [Vec<u8>; 4] {
    let framed = |length: u32, body: &[u8]| [&length.to_le_bytes(), body].concat();
    let json =
        br#"{"id":"7","inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[[0.5,-1e-3],[3,123456.789]]},
        {"name":"ids","datatype":"INT64","shape":[3],"data":[1,-2,9007199254740993]},
        {"name":"s","datatype":"BYTES","shape":[2,1],"data":["a\u00e9\n",""]}],
        "outputs":[{"name":"s","parameters":{"binary_data":true}},{"name":"x"}],"parameters":{"priority":0}}"#;
    let head = br#"{"inputs":[{"name":"s","datatype":"BYTES","shape":[1,1],"parameters":{"binary_data_size":6}},
        {"name":"ids","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}},
        {"name":"x","datatype":"FP32","shape":[1,2],"data":[0.1,0.2]}],"parameters":{"binary_data_output":true}}"#;
    let tail = [2, 0, 0, 0, b'h', b'i', 1, 2, 3, 4, 5, 6, 7, 8];
    let long = format!(
        r#"{{"inputs":[{{"data":{:?},"shape":[100,2],"name":"x","datatype":"FP32"}}]}}"#,
        [0.123_456_79_f32; 200]
    );
    [
        framed(u32::MAX, json),
        framed(u32::try_from(head.len()).unwrap(), &[&head[..], &tail].concat()),
        framed(0, &[0.5_f32, 1.5, 2.5, f32::INFINITY].map(f32::to_le_bytes).concat()),
        framed(u32::MAX, long.as_bytes()),
    ]
}

/// Three small requests in a row, compressed: gzip, and zlib.
pub const GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0xab, 0x56, 0xca, 0xcc, 0x2b, 0x28, 0x2d, 0x29, 0x56,
    0xb2, 0x8a, 0xae, 0x56, 0xca, 0x4b, 0xcc, 0x4d, 0x55, 0xb2, 0x52, 0xaa, 0x50, 0xd2, 0x51, 0x4a, 0x49, 0x2c, 0x49,
    0x2c, 0xa9, 0x2c, 0x00, 0x71, 0xdd, 0x02, 0x8c, 0x8d, 0x80, 0x22, 0xc5, 0x19, 0x89, 0x20, 0x6e, 0xb4, 0xa1, 0x8e,
    0x51, 0x2c, 0x44, 0x1e, 0xc8, 0x31, 0xd0, 0x33, 0xd5, 0x31, 0x8c, 0xad, 0x8d, 0xad, 0xad, 0x1e, 0x64, 0xe6, 0x00,
    0x00, 0xbe, 0x97, 0xb6, 0x58, 0xd8, 0x00, 0x00, 0x00,
];
pub const ZLIB: &[u8] = &[
    0x78, 0xda, 0xab, 0x56, 0xca, 0xcc, 0x2b, 0x28, 0x2d, 0x29, 0x56, 0xb2, 0x8a, 0xae, 0x56, 0xca, 0x4b, 0xcc, 0x4d,
    0x55, 0xb2, 0x52, 0xaa, 0x50, 0xd2, 0x51, 0x4a, 0x49, 0x2c, 0x49, 0x2c, 0xa9, 0x2c, 0x00, 0x71, 0xdd, 0x02, 0x8c,
    0x8d, 0x80, 0x22, 0xc5, 0x19, 0x89, 0x20, 0x6e, 0xb4, 0xa1, 0x8e, 0x51, 0x2c, 0x44, 0x1e, 0xc8, 0x31, 0xd0, 0x33,
    0xd5, 0x31, 0x8c, 0xad, 0x8d, 0xad, 0xad, 0x1e, 0x64, 0xe6, 0x00, 0x00, 0x24, 0xcb, 0x41, 0x86,
];

/// A compressed body, as gzip and as zlib. Whatever is read is no longer than the limit, and refused under any lower one.
pub fn inflate(bytes: &[u8]) -> Fate {
    const LIMIT: usize = 64 * 1024;
    let mut fate = Fate::Refused;
    for encoding in [Encoding::Gzip, Encoding::Deflate] {
        match inflate_body(encoding, bytes, LIMIT) {
            Ok(body) => {
                fate = Fate::Accepted;
                assert!(body.len() <= LIMIT);
                assert_eq!(inflate_body(encoding, bytes, body.len()).as_ref(), Ok(&body));
                if let Some(less) = body.len().checked_sub(1) {
                    assert_eq!(inflate_body(encoding, bytes, less).unwrap_err().code(), "BODY_TOO_LARGE");
                }
            }
            Err(error) => assert!(matches!(error.code(), "BODY_TOO_LARGE" | "CONTENT_DAMAGED")),
        }
    }
    fate
}

/// Evidence as it travels: JSON, caps, verification.
pub fn evidence_envelope(bytes: &[u8]) -> Fate {
    let Ok(envelope) = serde_json::from_slice::<EvidenceEnvelope>(bytes) else { return Fate::Refused };
    let Ok((evidence, collateral)) = envelope.into_parts() else { return Fate::Refused };
    let (same, anchors) = match &evidence {
        Evidence::SevSnp { report } => (report == REPORT, snp_anchors()),
        Evidence::Tdx { quote } => (quote.get(..SIGNED_QUOTE) == QUOTE.get(..SIGNED_QUOTE), tdx_anchors()),
    };
    only_if(same, fate(&evidence, &collateral, anchors))
}

/// Both envelopes of the base.
pub fn envelopes() -> [Vec<u8>; 2] {
    let snp = EvidenceEnvelope::sev_snp(REPORT.to_vec(), LEAF.to_vec(), CRL.to_vec());
    let tdx = EvidenceEnvelope::tdx(QUOTE.to_vec(), tdx_collateral().clone());
    [snp, tdx].map(|envelope| serde_json::to_vec(&envelope).unwrap())
}

/// A volume, one package on it, and that package's blobs: as these bytes, and with these bytes as the index of the base.
pub fn volume(bytes: &[u8]) -> Fate {
    let fates = [volume_of(bytes), volume_of(&with_index(bytes))];
    if fates.contains(&Fate::Accepted) { Fate::Accepted } else { Fate::Refused }
}

/// Which of the vendor's packages stands where is the host's to say.
fn volume_of(bytes: &[u8]) -> Fate {
    static PACKAGES_OF_BASE: OnceLock<[[u8; 32]; 2]> = OnceLock::new();
    let base = PACKAGES_OF_BASE.get_or_init(|| ["empty", "vector"].map(|id| package(VOLUME, id).unwrap()));
    match package(bytes, "vector") {
        Ok(manifest) => only_if(base.contains(&manifest), Fate::Accepted),
        Err(error) => {
            assert!(matches!(error.exit(), 2 | 6 | 9) && !error.to_string().is_empty());
            Fate::Refused
        }
    }
}

/// The manifest digest of a package whose every blob was compared.
fn package(volume: &[u8], id: &str) -> Result<[u8; 32], SealedError> {
    let device = File::from(rustix::fs::memfd_create("volume", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    device.write_all_at(volume, 0).unwrap();
    let shelf = Shelf::Volume(Arc::new(Volume::open(device)?));
    let package = shelf.package(id, &[VENDOR.trim().parse().unwrap()])?;
    package.verify_blobs(&mut |_, _| {})?;
    Ok(package.manifest_digest())
}

/// The index of the base.
pub fn volume_index() -> &'static [u8] {
    let length = u64::from_be_bytes(VOLUME[32..40].try_into().unwrap());
    &VOLUME[40..40 + usize::try_from(length).unwrap()]
}

fn with_index(index: &[u8]) -> Vec<u8> {
    let mut head = [&VOLUME[..32], &(index.len() as u64).to_be_bytes(), index].concat();
    head.resize(head.len().next_multiple_of(4096), 0);
    let rest = VOLUME.get(head.len()..).unwrap_or_default();
    [&head, rest].concat()
}
