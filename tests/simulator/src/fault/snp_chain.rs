//! Turns names into wrong certificates and revocation lists around an honest SNP report.
//! The authorities of these faults are the simulated root's own, or keys that were made for one answer.

use vouchsafe_attestation::anchors::{SIMULATED_LEAF_NAME, SIMULATED_MARKER_OID};

use super::{Named, Result, snp, snp_bytes};
use crate::{
    der,
    keys::{Key, Scheme},
    snp::{
        SnpMaking,
        certificates::{ASK_SERIAL, BOOTLOADER_SPL, CSP_ID, HWID, PRODUCT_NAME},
        report::KEY_INFO_VLEK,
    },
    x509::{CertificateSpec, CrlSpec, Extension, Name},
};

const DAY: u64 = 86_400;
/// An extension that nobody knows.
const UNKNOWN: &str = "2.25.4711";
/// Delta CRL indicator: RFC 5280 section 5.2.4.
const DELTA: &str = "2.5.29.27";
const CSP: &str = "CN=cloud.invalid";

/// Faults of the collateral.
pub(super) const FAULTS: &[Named] = &[
    // ---- framing ----
    snp_bytes("leaf-missing", "no leaf", |e| e.leaf.clear()),
    snp_bytes("leaf-truncated", "a leaf without its last byte", |e| {
        e.leaf.pop();
    }),
    snp_bytes("leaf-trailing-byte", "a leaf with a byte more", |e| e.leaf.push(0)),
    snp_bytes("leaf-pem", "a leaf in PEM where DER belongs", |e| {
        e.leaf = der::certificate_pem(&e.leaf).unwrap_or_default().into_bytes();
    }),
    snp_bytes("leaf-flipped", "one bit of the leaf flipped after signing", |e| {
        // Inside the chip's identifier, which stands before marker and signature: the structure stays whole.
        let at = e.leaf.len().saturating_sub(600);
        if let Some(byte) = e.leaf.get_mut(at) {
            *byte ^= 1;
        }
    }),
    // ---- chain ----
    snp("chain-self-made", "a chain of somebody's own with the simulated root's names", |m| {
        let spec = m.vcek()?;
        m.leaf = spec.sign(&Key::rsa(2048)?)?;
        Ok(())
    }),
    snp("chain-self-made-amd", "a chain of somebody's own with AMD's names", amd),
    snp("leaf-genoa-under-milan", "the leaf of a Genoa, the report of a Milan", |m| {
        m.report.cpuid = [0x19, 0x01, 0x01];
        Ok(())
    }),
    snp("product-not-covered", "a Milan, for which the simulated root has no authority", |m| {
        m.report.cpuid = [0x19, 0x01, 0x01];
        m.certify()
    }),
    snp("leaf-is-ask", "the ASK's certificate as the leaf", |m| {
        let [_, ask, _] = m.root.certificates()?;
        m.leaf = ask;
        Ok(())
    }),
    snp("leaf-amd-name", "a simulated leaf with the name of AMD's", |m| leaf(m, |s| s.subject = Name::amd("SEV-VCEK"))),
    snp("leaf-issuer-other", "another issuer is named", |m| leaf(m, |s| s.issuer = Name::simulated("ARK-SIM"))),
    snp("leaf-signed-by-ark", "the root signed the leaf instead of its ASK", |m| {
        m.leaf = m.vcek()?.sign(m.root.ark()?)?;
        Ok(())
    }),
    snp("leaf-extension-twice", "one of AMD's extensions stands twice", |m| {
        leaf(m, |s| s.extensions.push(Extension::new(BOOTLOADER_SPL, der::integer(0x0a))))
    }),
    snp("leaf-extension-missing", "the chip's identifier is missing", |m| leaf(m, |s| s.remove(HWID))),
    snp("leaf-extension-padded", "an integer is not in its shortest form", |m| {
        leaf(m, |s| s.set(Extension::new(BOOTLOADER_SPL, der::tlv(der::INTEGER, &[0, 0x0a]))))
    }),
    snp("leaf-extension-critical", "a critical extension that nobody knows", |m| {
        leaf(m, |s| s.set(Extension::critical(UNKNOWN, der::tlv(der::NULL, &[]))))
    }),
    snp("leaf-csp-and-chip", "a leaf that names a chip and a cloud provider", |m| {
        leaf(m, |s| s.set(Extension::new(CSP_ID, der::tlv(der::IA5_STRING, CSP.as_bytes()))))
    }),
    snp("leaf-hwid-short", "an identifier of 8 bytes on a Genoa", |m| {
        leaf(m, |s| s.set(Extension::new(HWID, vec![7; 8])))
    }),
    snp("leaf-product-unknown", "a product that nobody knows", |m| {
        leaf(m, |s| s.set(Extension::new(PRODUCT_NAME, der::tlv(der::IA5_STRING, b"Venice-A0"))))
    }),
    snp("leaf-pss-salt", "RSASSA-PSS with a salt of 32 bytes, and named so", |m| {
        leaf(m, |s| s.scheme = Scheme::Pss384Salt32)
    }),
    snp("leaf-pss-hidden-salt", "a salt of 32 bytes under the name of 48", |m| {
        leaf(m, |s| s.scheme = Scheme::Pss384HiddenSalt32)
    }),
    snp("leaf-pss-sha256", "RSASSA-PSS with SHA-256", |m| leaf(m, |s| s.scheme = Scheme::Pss256)),
    snp("leaf-pkcs1", "RSASSA-PKCS1-v1_5", |m| leaf(m, |s| s.scheme = Scheme::Pkcs1Sha384)),
    snp("leaf-algorithm-inside", "another algorithm inside than outside", |m| {
        leaf(m, |s| s.inner_scheme = Some(Scheme::Pkcs1Sha384))
    }),
    snp("leaf-key-p256", "the leaf's key lies on another curve", |m| {
        let key = Key::p256()?.spki()?;
        leaf(m, |s| s.spki = key)
    }),
    snp("leaf-expired", "the leaf is past its end", |m| {
        let now = m.now;
        leaf(m, |s| s.not_after = now - DAY / 2)
    }),
    snp("leaf-not-yet", "the leaf is not yet in force", |m| {
        let now = m.now;
        leaf(m, |s| s.not_before = now + DAY)
    }),
    // ---- loaded keys ----
    snp("vlek-not-listed", "a loaded key of a cloud provider that no policy names", |m| m.load_key(CSP)),
    snp("vlek-as-vcek", "a loaded key's certificate under the name of a chip's", |m| {
        let mut spec = m.vlek(CSP)?;
        spec.subject = Name::simulated(SIMULATED_LEAF_NAME);
        spec.issuer = Name::simulated("ASK-SIM");
        m.leaf = spec.sign(m.root.ask()?)?;
        Ok(())
    }),
    snp("vlek-without-authority", "a loaded key without the certificate of its authority", |m| {
        m.load_key(CSP)?;
        m.asvk.clear();
        Ok(())
    }),
    snp("vlek-under-ask", "a loaded key whose authority is the ASK", |m| {
        m.report.key_info = KEY_INFO_VLEK;
        m.report.chip_id = [0; 64];
        let mut spec = m.vlek(CSP)?;
        spec.issuer = Name::simulated("ASK-SIM");
        m.leaf = spec.sign(m.root.ask()?)?;
        let authority = m.root.ask()?.spki()?;
        let mut asvk = m.vcek()?;
        (asvk.issuer, asvk.subject, asvk.spki) = (Name::simulated("ARK-SIM"), Name::simulated("ASK-SIM"), authority);
        m.asvk = asvk.sign(m.root.ark()?)?;
        Ok(())
    }),
    snp("asvk-unexpected", "an authority of loaded keys beside a chip's key", |m| {
        m.asvk.clone_from(&m.leaf);
        Ok(())
    }),
    // ---- revocation list ----
    snp_bytes("crl-missing", "no revocation list", |e| e.crl.clear()),
    snp_bytes("crl-truncated", "a revocation list without its last byte", |e| {
        e.crl.pop();
    }),
    snp("crl-expired", "a revocation list past its next update", |m| {
        let now = m.now;
        crl(m, |s| (s.this_update, s.next_update) = (now - 8 * DAY, Some(now - DAY)))
    }),
    snp("crl-not-yet", "a revocation list of tomorrow", |m| {
        let now = m.now;
        crl(m, |s| s.this_update = now + DAY)
    }),
    snp("crl-too-old", "a revocation list in force, older than the policy accepts", |m| {
        let now = m.now;
        crl(m, |s| s.this_update = now - 40 * DAY)
    }),
    snp("crl-number", "a revocation list with a number below the floor", |m| crl(m, |s| s.set_number(0))),
    snp("crl-revokes-ask", "the ASK is revoked", |m| crl(m, |s| s.revoked.push(ASK_SERIAL.to_vec()))),
    snp("crl-issuer-other", "another authority is named", |m| crl(m, |s| s.issuer = Name::simulated("ASK-SIM"))),
    snp("crl-signed-by-ask", "the ASK signed the list instead of the root", |m| {
        m.crl = m.crl_spec()?.sign(m.root.ask()?)?;
        Ok(())
    }),
    snp("crl-pkcs1", "RSASSA-PKCS1-v1_5", |m| crl(m, |s| s.scheme = Scheme::Pkcs1Sha384)),
    snp("crl-delta", "a list of changes only", |m| crl(m, |s| s.set(Extension::critical(DELTA, der::integer(1))))),
    // ---- simulation ----
    snp("hardware-as-simulated", "what looks like AMD's", amd),
    snp("marker-missing", "the leaf does not say that it is simulated", |m| {
        leaf(m, |s| s.remove(SIMULATED_MARKER_OID))
    }),
    snp("marker-critical", "the marker is critical, as it never is", |m| {
        leaf(m, |s| s.set(Extension { critical: true, ..Extension::marker() }))
    }),
];

/// AMD's names and no marker, under a key that is not AMD's: as near to genuine as this machine can come.
fn amd(making: &mut SnpMaking<'_>) -> Result<()> {
    let mut spec = making.vcek()?;
    (spec.issuer, spec.subject) = (Name::amd("SEV-Genoa"), Name::amd("SEV-VCEK"));
    spec.remove(SIMULATED_MARKER_OID);
    making.leaf = spec.sign(&Key::rsa(2048)?)?;
    Ok(())
}

/// Another leaf, signed by the ASK.
fn leaf(making: &mut SnpMaking<'_>, change: impl FnOnce(&mut CertificateSpec)) -> Result<()> {
    let mut spec = making.vcek()?;
    change(&mut spec);
    making.leaf = spec.sign(making.root.ask()?)?;
    Ok(())
}

/// Another revocation list, signed by the root.
fn crl(making: &mut SnpMaking<'_>, change: impl FnOnce(&mut CrlSpec)) -> Result<()> {
    let mut spec = making.crl_spec()?;
    change(&mut spec);
    making.crl = spec.sign(making.root.ark()?)?;
    Ok(())
}
