//! Turns a report, a leaf and a revocation list into [`Authentic`], by thirteen numbered steps in a fixed order.
//! It does not say whether the evidence is wanted: steps 1 to 13 pass for every genuine machine in the world.
//!
//! Everything before step 10 works on bytes nobody vouches for; typed fields exist only after it.

use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::{
    LeafCache, Product, Report, SigningKey, SnpFacts,
    cache::Seen,
    chain, crl,
    layout::{self as at, Kind, REPORT_LAYOUT},
    leaf::{self, Leaf, LeafKind, Owner},
    report::{Frame, KeyInfo},
};
use crate::{
    Mode, UnixTime, VerifyError,
    anchors::Anchors,
    evidence::{MAX_CRL, MAX_LEAF},
    verify::{Authentic, Facts, Steps},
};

/// A report that the host, not the guest, asked for: AMD 56860 rev 1.58, SNP_HV_REPORT_REQ.
const VMPL_HOST: u32 = u32::MAX;

/// What came with a report, from anybody.
#[derive(Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) leaf: &'a [u8],
    pub(crate) crl: &'a [u8],
    /// Empty with a VCEK.
    pub(crate) asvk: &'a [u8],
}

/// The orchestrator for SEV-SNP. Without a cache, every signature is verified.
pub(crate) fn verify_snp(
    report: &[u8],
    received: Received<'_>,
    anchors: &Anchors,
    now: UnixTime,
    cache: Option<&LeafCache>,
) -> Result<Authentic, VerifyError> {
    let mut steps = Steps::new();
    let Received { leaf, crl, asvk } = received;

    // 1. Sizes: caps before any parsing.
    sizes(received)?;
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
    steps.passed("leaf", leaf_detail(&leaf));

    // 8. Chain: leaf under ASK or ASVK under ARK; ARK and ASK come from the anchors only, an ASVK is pinned by them.
    let roots = anchors.roots(product)?;
    let seen = Seen::look_up(cache, &received, anchors);
    let issuer = chain::issuer(leaf.kind, asvk, roots, &seen)?;
    chain::verify(&leaf, &issuer, roots, &seen, now)?;
    steps.passed("chain", chain_detail(anchors.mode(), &leaf));

    // 9. CRL: issued and signed by the ARK, in its window, without the leaf's issuer.
    let crl = crl::verify(crl, roots, leaf.kind, &issuer, &seen, now)?;
    steps.passed(
        "crl",
        format!(
            "number {}, from {} to {}, {} not revoked",
            crl.number,
            crl.this_update,
            crl.next_update,
            authority(leaf.kind)
        ),
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
    steps.passed(
        "identity",
        format!("{}, requested by the guest at VMPL {}", chip_detail(&report, leaf.kind), report.vmpl),
    );

    seen.remember();
    let (chip_id, csp) = match leaf.owner {
        Owner::Chip(chip_id) => (chip_id, None),
        Owner::Provider(name) => (report.chip_id, Some(name.to_owned())),
    };
    let facts = SnpFacts { product, leaf_kind: leaf.kind, csp, crl, report, chip_id };
    Ok(Authentic::new(anchors, now, Facts::SevSnp(Box::new(facts)), steps))
}

fn sizes(received: Received<'_>) -> Result<(), VerifyError> {
    match (received.leaf.len(), received.crl.len(), received.asvk.len()) {
        (0, _, _) => Err(VerifyError::LeafMissing),
        (_, 0, _) => Err(VerifyError::CrlMissing),
        (actual, _, _) if actual > MAX_LEAF => Err(VerifyError::LeafLength { actual }),
        (_, actual, _) if actual > MAX_CRL => Err(VerifyError::CrlLength { actual }),
        (_, _, actual) if actual > MAX_LEAF => Err(VerifyError::AsvkLength { actual }),
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

fn leaf_detail(leaf: &Leaf<'_>) -> String {
    let (kind, product) = (leaf.kind.as_str(), leaf.product);
    match leaf.owner {
        Owner::Chip(_) => format!("{kind} of {product}, P-384 key, of one chip"),
        Owner::Provider(name) => format!("{kind} of {product}, P-384 key, loaded by the provider {name}"),
    }
}

fn authority(kind: LeafKind) -> &'static str {
    match kind {
        LeafKind::Vcek => "ASK",
        LeafKind::Vlek => "ASVK",
    }
}

fn chain_detail(mode: Mode, leaf: &Leaf<'_>) -> String {
    let root = match mode {
        Mode::Hardware => "AMD's",
        Mode::Simulation => "the SIMULATED",
    };
    let (issuer, product, until) = (authority(leaf.kind), leaf.product, UnixTime(leaf.certificate.not_after));
    format!("leaf under {root} {issuer} and ARK of {product}, in force until {until}")
}

fn chip_detail(report: &Report, kind: LeafKind) -> &'static str {
    match (report.chip_id_masked(), kind) {
        (true, _) => "chip id masked by the host",
        (false, LeafKind::Vcek) => "chip id equals the leaf's",
        (false, LeafKind::Vlek) => "chip id by the report alone: a loaded key names no chip",
    }
}

/// Little-endian components become the fixed big-endian form. High values of s are genuine: firmware makes them.
fn signature(frame: Frame<'_>, key: &[u8]) -> Result<(), VerifyError> {
    let (r, s) = (frame.slice(at::SIGNATURE_R).iter().rev(), frame.slice(at::SIGNATURE_S).iter().rev());
    let mut fixed = [0; 96];
    for (to, from) in fixed.iter_mut().zip(r.chain(s)) {
        *to = *from;
    }
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key)
        .verify(frame.signed(), &fixed)
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

/// A loaded key belongs to a provider, who may use it on every one of its chips.
fn chip(report: &Report, owner: &Owner<'_>) -> Result<(), VerifyError> {
    match owner {
        Owner::Chip(chip_id) if !report.chip_id_masked() && report.chip_id != *chip_id => {
            Err(VerifyError::HwidMismatch)
        }
        Owner::Chip(_) | Owner::Provider(_) => Ok(()),
    }
}

fn identity(report: &Report, leaf: &Leaf<'_>) -> Result<(), VerifyError> {
    match report.vmpl {
        0..=3 => {}
        VMPL_HOST => return Err(VerifyError::HostRequested),
        _ => return Err(VerifyError::VmplRange),
    }
    chip(report, &leaf.owner)?;
    if !report.policy.migrate_ma() && report.report_id_ma != [0xff; 32] {
        return Err(VerifyError::ReportIdMa);
    }
    Ok(())
}
