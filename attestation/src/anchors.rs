//! Turns the certificates compiled into this program, or a simulated root named by a policy, into the anchors of a verdict.
//! It takes nothing from a peer: who may be an anchor is decided before any evidence arrives.

use std::sync::{Arc, OnceLock};

use der::{Document, asn1::ObjectIdentifier};

use crate::{
    Mode, VerifyError, lp,
    snp::{
        Product,
        chain::{Asvk, Ca, Roots},
        x509::Certificate,
    },
};

/// The extension that every certificate of a simulated root carries, and no certificate of a hardware root may carry.
///
/// An arc below 2.25 needs no registration when it is a UUID; this one is not a UUID and is **not registered** anywhere.
/// Its number is the first 28 bits of SHA-256("vouchsafe/1 simulated") (older ASN.1 readers refuse arcs of 2^28 and more). The extension is not critical, and its value
/// is not looked at (the simulator writes a DER NULL).
pub const SIMULATED_MARKER_OID: &str = "2.25.197655563";

pub(crate) const SIMULATED_MARKER: ObjectIdentifier = ObjectIdentifier::new_unwrap(SIMULATED_MARKER_OID);

/// Common name of a simulated root authority.
pub const SIMULATED_ARK_NAME: &str = "ARK-SIM";
/// Common name of a simulated signing authority.
pub const SIMULATED_ASK_NAME: &str = "ASK-SIM";
/// Common name of a simulated authority of loaded keys; its certificate comes with the evidence.
pub const SIMULATED_ASVK_NAME: &str = "ASVK-SIM";
/// Common name of a simulated leaf of a chip's own key.
pub const SIMULATED_LEAF_NAME: &str = "SEV-SIM";
/// Common name of a simulated leaf of a loaded key.
pub const SIMULATED_VLEK_NAME: &str = "VLEK-SIM";
/// Common name of a simulated root of TDX.
pub const SIMULATED_TDX_ROOT_NAME: &str = "SGX-ROOT-SIM";

/// Cap of a simulated root file: two RSA-4096 certificates and one of P-256 take 6 KiB.
const MAX_BUNDLE: usize = 32 * 1024;

/// A compiled-in authority and the SHA-256 of its DER.
struct Pinned {
    pem: &'static str,
    sha256: [u8; 32],
}

/// ARK and ASK of each product, as AMD's key distribution service publishes them (AMD 57230, `/vcek/v1/{product}/cert_chain`).
const HARDWARE: [(Product, Pinned, Pinned); 3] = [
    (
        Product::Milan,
        Pinned {
            pem: include_str!("../anchors/ark_milan.pem"),
            sha256: digest("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
        },
        Pinned {
            pem: include_str!("../anchors/ask_milan.pem"),
            sha256: digest("67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b"),
        },
    ),
    (
        Product::Genoa,
        Pinned {
            pem: include_str!("../anchors/ark_genoa.pem"),
            sha256: digest("4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
        },
        Pinned {
            pem: include_str!("../anchors/ask_genoa.pem"),
            sha256: digest("5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521"),
        },
    ),
    (
        Product::Turin,
        Pinned {
            pem: include_str!("../anchors/ark_turin.pem"),
            sha256: digest("1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
        },
        Pinned {
            pem: include_str!("../anchors/ask_turin.pem"),
            sha256: digest("5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185"),
        },
    ),
];

/// Intel's SGX root, which is TDX's too, as its provisioning service publishes it; the crate `dcap-qvl` carries the same.
const INTEL: Pinned = Pinned {
    pem: include_str!("../anchors/intel_sgx_root.pem"),
    sha256: digest("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"),
};

/// SHA-256 of the DER of each product's ASVK (AMD 57230, `/vlek/v1/{product}/cert_chain`). The certificate itself comes with the evidence.
const fn asvk(product: Product) -> [u8; 32] {
    match product {
        Product::Milan => digest("c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5"),
        Product::Genoa => digest("197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372"),
        Product::Turin => digest("104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c"),
    }
}

/// The roots that a relying party believes, all of one mode.
#[derive(Debug, Clone)]
pub struct Anchors {
    mode: Mode,
    id: [u8; 32],
    roots: Result<Arc<[Roots]>, VerifyError>,
    tdx: Result<Arc<[u8]>, VerifyError>,
}

impl Anchors {
    /// AMD's roots of Milan, Genoa and Turin, compiled in and compared with their pins once.
    ///
    /// Should a compiled-in certificate differ from its pin, every verification under these anchors fails (`ANCHOR_PIN`).
    #[must_use]
    pub fn hardware() -> Self {
        static HARDWARE_ANCHORS: OnceLock<Anchors> = OnceLock::new();
        HARDWARE_ANCHORS.get_or_init(Self::compiled_in).clone()
    }

    fn compiled_in() -> Self {
        let roots = HARDWARE.iter().map(|(product, ark, ask)| pinned(*product, ark, ask)).collect();
        let tdx = pinned_der(&INTEL).map(Into::into);
        let mut pins = lp::Transcript::<32>::new("vouchsafe/1 anchors").lp(&INTEL.sha256);
        for (product, ark, ask) in &HARDWARE {
            pins = pins.lp(&ark.sha256).lp(&ask.sha256).lp(&asvk(*product));
        }
        Self { mode: Mode::Hardware, id: pins.finish(), roots, tdx }
    }

    /// A simulated root: a file with three PEM certificates, ARK, ASK and the root of TDX, whose SHA-256 the policy names.
    ///
    /// # Errors
    /// `ANCHOR_DIGEST`, `ANCHOR_MALFORMED`, `ANCHOR_NAME`, `ANCHOR_MARKER` or `ANCHOR_SIGNATURE`.
    pub fn simulated(pem_bundle: &[u8], expected_sha256: &[u8; 32]) -> Result<Self, VerifyError> {
        if pem_bundle.len() > MAX_BUNDLE {
            return Err(VerifyError::AnchorMalformed);
        }
        if lp::sha256(pem_bundle) != *expected_sha256 {
            return Err(VerifyError::AnchorDigest);
        }
        let [ark, ask, tdx] = split_bundle(pem_bundle)?;
        let (ark, ask, tdx_root) = (parse(&ark)?, parse(&ask)?, parse(&tdx)?);
        let names = [SIMULATED_ARK_NAME, SIMULATED_ASK_NAME, SIMULATED_TDX_ROOT_NAME];
        for (certificate, name) in [&ark, &ask, &tdx_root].into_iter().zip(names) {
            if certificate.common_name() != Ok(name) {
                return Err(VerifyError::AnchorName);
            }
            if certificate.extension(SIMULATED_MARKER).is_none_or(|marker| marker.critical) {
                return Err(VerifyError::AnchorMarker);
            }
        }
        let roots = roots(Product::Genoa, &ark, &ask, Asvk::Simulated)?;
        self_signed_p256(&tdx_root)?;
        Ok(Self { mode: Mode::Simulation, id: *expected_sha256, roots: Ok(Arc::new([roots])), tdx: Ok(tdx.into()) })
    }

    /// Tells these anchors from others: SHA-256 over the pins compiled in, or of the simulated root's file.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// The root of TDX, DER.
    pub(crate) fn tdx_root(&self) -> Result<&[u8], VerifyError> {
        self.tdx.as_deref().map_err(|error| *error)
    }

    /// Which kind of roots these are.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The roots of one product.
    pub(crate) fn roots(&self, product: Product) -> Result<&Roots, VerifyError> {
        let roots = self.roots.as_ref().map_err(|error| *error)?;
        roots.iter().find(|r| r.product == product).ok_or(VerifyError::AnchorMissing { product })
    }
}

fn pinned_der(certificate: &Pinned) -> Result<Vec<u8>, VerifyError> {
    let der = pem(certificate.pem)?;
    if lp::sha256(&der) != certificate.sha256 {
        return Err(VerifyError::AnchorPin);
    }
    Ok(der)
}

fn pinned(product: Product, ark: &Pinned, ask: &Pinned) -> Result<Roots, VerifyError> {
    let (ark_der, ask_der) = (pinned_der(ark)?, pinned_der(ask)?);
    roots(product, &parse(&ark_der)?, &parse(&ask_der)?, Asvk::Pinned(asvk(product)))
}

/// ARK under itself, ASK under ARK.
fn roots(product: Product, ark: &Certificate<'_>, ask: &Certificate<'_>, asvk: Asvk) -> Result<Roots, VerifyError> {
    let malformed = |_| VerifyError::AnchorMalformed;
    let key = ark.rsa_key().map_err(malformed)?;
    for certificate in [ark, ask] {
        let issued = certificate.signed.is_pss_sha384() && certificate.issuer == ark.subject;
        if !issued || certificate.signed.verify(key).is_err() {
            return Err(VerifyError::AnchorSignature);
        }
    }
    Ok(Roots { product, ark: Ca::new(ark).map_err(malformed)?, ask: Ca::new(ask).map_err(malformed)?, asvk })
}

/// The simulated root of TDX under itself.
fn self_signed_p256(root: &Certificate<'_>) -> Result<(), VerifyError> {
    let key = root.p256_key().map_err(|_| VerifyError::AnchorMalformed)?;
    let issued = root.signed.is_ecdsa_sha256() && root.issuer == root.subject;
    if !issued || root.signed.verify_p256(key).is_err() {
        return Err(VerifyError::AnchorSignature);
    }
    Ok(())
}

fn parse(der: &[u8]) -> Result<Certificate<'_>, VerifyError> {
    let certificate = Certificate::parse(der).map_err(|_| VerifyError::AnchorMalformed)?;
    if certificate.has_duplicate_extension() {
        return Err(VerifyError::AnchorMalformed);
    }
    Ok(certificate)
}

/// Exactly three certificates and nothing but white space around them.
fn split_bundle(bundle: &[u8]) -> Result<[Vec<u8>; 3], VerifyError> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = core::str::from_utf8(bundle).map_err(|_| VerifyError::AnchorMalformed)?;
    let mut parts = text.split_inclusive(END);
    let mut next = || parts.next().ok_or(VerifyError::AnchorMalformed).and_then(|part| pem(part.trim()));
    let certificates = [next()?, next()?, next()?];
    if parts.any(|rest| !rest.trim().is_empty()) {
        return Err(VerifyError::AnchorMalformed);
    }
    Ok(certificates)
}

fn pem(text: &str) -> Result<Vec<u8>, VerifyError> {
    match Document::from_pem(text) {
        Ok(("CERTIFICATE", document)) => Ok(document.into_vec()),
        _ => Err(VerifyError::AnchorMalformed),
    }
}

/// 64 lower-case hex digits, at compile time.
const fn digest(hex: &str) -> [u8; 32] {
    const fn nibble(c: u8) -> u8 {
        match c {
            b'0'..=b'9' => c - b'0',
            b'a'..=b'f' => c - b'a' + 10,
            _ => panic!("not a lower-case hex digit"),
        }
    }
    let hex = hex.as_bytes();
    assert!(hex.len() == 64, "not 64 digits");
    let mut out = [0; 32];
    let mut i = 0;
    while i < 32 {
        out[i] = nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]);
        i += 1;
    }
    out
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests are about the anchors themselves")]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_in_has_its_pin_and_no_marker() {
        let anchors = Anchors::hardware();
        assert_eq!((anchors.mode(), anchors.tdx_root().is_ok()), (Mode::Hardware, true));
        for (product, ark, ask) in &HARDWARE {
            assert_eq!(anchors.roots(*product).unwrap().product, *product);
            for certificate in [ark, ask, &INTEL] {
                let der = pinned_der(certificate).unwrap();
                assert!(parse(&der).unwrap().extension(SIMULATED_MARKER).is_none());
            }
        }
    }

    #[test]
    fn a_certificate_that_differs_from_its_pin_is_none() {
        for (_, ark, ask) in &HARDWARE {
            for (certificate, other) in [(ark, ask), (ask, ark), (&INTEL, ark)] {
                let swapped = Pinned { pem: certificate.pem, sha256: other.sha256 };
                assert_eq!(pinned_der(&swapped), Err(VerifyError::AnchorPin));
            }
        }
    }
}
