//! Turns a report, a leaf and a revocation list into [`Authentic`], by thirteen numbered steps in a fixed order.
//! It does not say whether the evidence is wanted: steps 1 to 13 pass for every genuine machine in the world.
//!
//! Everything before step 10 works on bytes nobody vouches for; typed fields exist only after it.

use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::{
    Product, Report, SigningKey, chain, crl,
    layout::{self as at, Kind, REPORT_LAYOUT},
    leaf::{self, Leaf, LeafKind},
    report::{Frame, KeyInfo},
};
use crate::{
    Mode, UnixTime, VerifyError,
    anchors::Anchors,
    evidence::{MAX_CRL, MAX_LEAF},
    verify::{Authentic, Step},
};

/// A report that the host, not the guest, asked for: AMD 56860 rev 1.58, SNP_HV_REPORT_REQ.
const VMPL_HOST: u32 = u32::MAX;

/// The orchestrator for SEV-SNP.
pub(crate) fn verify_snp(
    report: &[u8],
    leaf: &[u8],
    crl: &[u8],
    anchors: &Anchors,
    now: UnixTime,
) -> Result<Authentic, VerifyError> {
    let mut steps = Steps(Vec::with_capacity(13));

    // 1. Sizes: caps before any parsing.
    sizes(leaf, crl)?;
    steps.passed("sizes", format!("report {}, leaf {}, revocation list {} bytes", report.len(), leaf.len(), crl.len()));

    // 2. Frame: exactly 1184 bytes, AMD 56860 ATTESTATION_REPORT.
    let frame = Frame::new(report)?;
    steps.passed("frame", "exactly 1184 bytes".into());

    // 3. Version: offset 0x000.
    let version = frame.u32(at::VERSION);
    if !matches!(version, 2 | 3 | 5) {
        return Err(VerifyError::ReportVersion { actual: version });
    }
    steps.passed("version", format!("report version {version}"));

    // 4. Algorithm: offset 0x034, 1 = ECDSA P-384 with SHA-384.
    let actual = frame.u32(at::SIGNATURE_ALGO);
    if actual != 1 {
        return Err(VerifyError::SignatureAlgorithm { actual });
    }
    steps.passed("algorithm", "ECDSA P-384 with SHA-384".into());

    // 5. Reserved: every reserved or padding byte, signed or not, and the reserved bits of POLICY and of offset 0x048.
    reserved(frame, version)?;
    steps.passed("reserved", "every reserved and padding byte is zero".into());

    // 6. Product: offsets 0x188 and 0x189; version 2 has none and takes the leaf's.
    let product = product(frame, version)?;
    steps.passed("product", product.map_or_else(|| "version 2 names none".into(), |p| format!("{p}, by CPUID")));

    // 7. Leaf: AMD 57230, every rule that needs no other certificate.
    let leaf = leaf::read(leaf, anchors.mode(), product)?;
    let product = leaf.product;
    steps.passed(
        "leaf",
        format!("{} of {product}, P-384 key, {}-byte hardware id", leaf.kind.as_str(), leaf.hwid.len()),
    );

    // 8. Chain: leaf under ASK under ARK; both authorities come from the anchors only.
    let roots = anchors.roots(product)?;
    chain::verify(&leaf.certificate, roots, now)?;
    steps.passed("chain", chain_detail(anchors.mode(), product, leaf.certificate.not_after));

    // 9. CRL: issued and signed by the ARK, in its window, without the ASK.
    let crl = crl::verify(crl, roots, now)?;
    steps.passed(
        "crl",
        format!("number {}, from {} to {}, ASK not revoked", crl.number, crl.this_update, crl.next_update),
    );

    // 10. Signature: over bytes 0x000 to 0x29F as received, R at 0x2A0, S at 0x2E8.
    signature(frame, leaf.key)?;
    steps.passed("signature", "verified over the received bytes 0x000 to 0x29f".into());

    // From here on the fields are the processor's own words.
    // 11. Signer: offset 0x048, which key signed; AUTHOR_KEY_EN against AUTHOR_KEY_DIGEST.
    signer(frame, leaf.kind)?;
    steps.passed("signer", format!("SIGNING_KEY says {}", leaf.kind.as_str()));

    // 12. TCB: the leaf's SPL extensions equal REPORTED_TCB (0x180), in the product's byte order.
    tcb(frame, &leaf)?;
    let report = Report::read(frame, product)?;
    steps.passed("tcb", format!("leaf issued for the reported {}", report.reported_tcb));

    // 13. Identity: which chip (0x1A0), who asked (0x030), which migration agent (0x160).
    identity(&report, &leaf)?;
    let chip = if report.chip_id_masked() { "chip id masked by the host" } else { "chip id equals the leaf's" };
    steps.passed("identity", format!("{chip}, requested by the guest at VMPL {}", report.vmpl));

    let chip_id = match leaf.kind {
        LeafKind::Vcek => leaf.chip_id(),
        LeafKind::Vlek => report.chip_id,
    };
    Ok(Authentic::new(anchors.mode(), product, leaf.kind, None, crl, report, chip_id, steps.0))
}

/// The steps that passed, numbered in the order in which they are recorded.
struct Steps(Vec<Step>);

impl Steps {
    fn passed(&mut self, name: &'static str, detail: String) {
        let number = u8::try_from(self.0.len() + 1).unwrap_or(u8::MAX);
        self.0.push(Step { number, name, detail });
    }
}

fn sizes(leaf: &[u8], crl: &[u8]) -> Result<(), VerifyError> {
    match (leaf.len(), crl.len()) {
        (0, _) => Err(VerifyError::LeafMissing),
        (_, 0) => Err(VerifyError::CrlMissing),
        (actual, _) if actual > MAX_LEAF => Err(VerifyError::LeafLength { actual }),
        (_, actual) if actual > MAX_CRL => Err(VerifyError::CrlLength { actual }),
        _ => Ok(()),
    }
}

fn reserved(frame: Frame<'_>, version: u32) -> Result<(), VerifyError> {
    for field in REPORT_LAYOUT {
        let unsigned = match field.kind {
            Kind::Padding => true,
            Kind::Reserved => false,
            Kind::Value if version < field.since => false,
            Kind::Value | Kind::Signature => continue,
        };
        if let Some(i) = frame.slice(*field).iter().position(|b| *b != 0) {
            let offset = field.offset + i;
            return Err(if unsigned {
                VerifyError::SignaturePadding { offset }
            } else {
                VerifyError::ReportReserved { offset }
            });
        }
    }
    let policy = frame.u64(at::POLICY);
    if policy & at::POLICY_MUST_BE_ONE == 0 || policy & at::POLICY_MUST_BE_ZERO != 0 {
        return Err(VerifyError::ReportReserved { offset: at::POLICY.offset });
    }
    if frame.u32(at::KEY_INFO) & at::KEY_INFO_MUST_BE_ZERO != 0 {
        return Err(VerifyError::ReportReserved { offset: at::KEY_INFO.offset });
    }
    Ok(())
}

fn product(frame: Frame<'_>, version: u32) -> Result<Option<Product>, VerifyError> {
    if version < at::CPUID_FAM_ID.since {
        return Ok(None);
    }
    let (family, model) = (frame.u8(at::CPUID_FAM_ID), frame.u8(at::CPUID_MOD_ID));
    Product::from_cpuid(family, model).map(Some).ok_or(VerifyError::ProductUnknown { family, model })
}

fn chain_detail(mode: Mode, product: Product, not_after: u64) -> String {
    let root = match mode {
        Mode::Hardware => "AMD's",
        Mode::Simulation => "the SIMULATED",
    };
    format!("leaf under {root} ASK and ARK of {product}, in force until {}", UnixTime(not_after))
}

/// Little-endian components become the fixed big-endian form. High values of s are genuine: firmware makes them.
fn signature(frame: Frame<'_>, key: &[u8]) -> Result<(), VerifyError> {
    let mut r: [u8; 48] = frame.array(at::SIGNATURE_R);
    let mut s: [u8; 48] = frame.array(at::SIGNATURE_S);
    r.reverse();
    s.reverse();
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key)
        .verify(frame.signed(), &[r, s].concat())
        .map_err(|_| VerifyError::SignatureInvalid)
}

fn signer(frame: Frame<'_>, kind: LeafKind) -> Result<(), VerifyError> {
    let info = KeyInfo(frame.u32(at::KEY_INFO));
    match (info.signing_key(), kind) {
        (SigningKey::Vcek, LeafKind::Vcek) | (SigningKey::Vlek, LeafKind::Vlek) => {}
        _ => return Err(VerifyError::SignerKey { actual: info.signing_key_bits() }),
    }
    if info.mask_chip_key() && kind == LeafKind::Vcek {
        return Err(VerifyError::SignerMasked);
    }
    let has_digest = frame.slice(at::AUTHOR_KEY_DIGEST).iter().any(|b| *b != 0);
    if info.author_key_en() != has_digest {
        return Err(VerifyError::SignerAuthorKey);
    }
    Ok(())
}

fn tcb(frame: Frame<'_>, leaf: &Leaf<'_>) -> Result<(), VerifyError> {
    let reported: [u8; 8] = frame.array(at::REPORTED_TCB);
    let order = super::Tcb::order(leaf.product);
    match (0..8).find(|i| reported.get(*i) != leaf.tcb.get(*i)).and_then(|i: usize| order.get(i)) {
        None => Ok(()),
        Some(component) => Err(VerifyError::TcbMismatch { component: *component }),
    }
}

fn identity(report: &Report, leaf: &Leaf<'_>) -> Result<(), VerifyError> {
    match report.vmpl {
        0..=3 => {}
        VMPL_HOST => return Err(VerifyError::HostRequested),
        _ => return Err(VerifyError::VmplRange),
    }
    if leaf.kind == LeafKind::Vcek && !report.chip_id_masked() && report.chip_id != leaf.chip_id() {
        return Err(VerifyError::HwidMismatch);
    }
    if !report.policy.migrate_ma() && report.report_id_ma != [0xff; 32] {
        return Err(VerifyError::ReportIdMa);
    }
    Ok(())
}
