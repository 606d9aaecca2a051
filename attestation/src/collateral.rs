//! Turns one collateral file into typed collateral and back: leaf, revocation lists, TCB info, identities and chains in one place.
//! Nothing in it is verified here, and no signature is looked at: [`crate::verify()`] judges what a file holds.

mod items;
mod sought;

use der::Document;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Collateral, EncodingError, Tee, encoding::serde_b64url, evidence::TdxCollateral};

pub use items::{About, Holder, Item, Unreadable, items};
pub use sought::{PckAuthority, SnpSought, SoughtError, TdxSought, sought_by_quote, sought_by_report};

/// A file longer than this is refused before it is parsed: nine items of 64 KiB in base64 take 770 KiB.
pub const MAX_BUNDLE: usize = 1024 * 1024;

const FILE: &str = "the collateral file";
const VERSION: u32 = 1;

/// What tells the forms apart.
#[derive(Deserialize)]
struct Head {
    v: Option<u32>,
    tee: Option<Tee>,
}

/// The file for SEV-SNP.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnpFile {
    v: u32,
    tee: Tee,
    #[serde(with = "serde_b64url")]
    leaf: Vec<u8>,
    #[serde(with = "serde_b64url")]
    crl: Vec<u8>,
    #[serde(with = "serde_b64url", default, skip_serializing_if = "Vec::is_empty")]
    asvk: Vec<u8>,
}

/// The file for TDX.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TdxFile {
    v: u32,
    tee: Tee,
    collateral: TdxCollateral,
}

/// The form of the crate `dcap-qvl`: byte strings in hex, no version.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HexFile {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
    /// Read and dropped: the chain that counts is the one inside the quote.
    #[serde(default, rename = "pck_certificate_chain")]
    _pck_certificate_chain: Option<String>,
}

/// Reads a collateral file: version 1 of this project's, or the JSON form of the crate `dcap-qvl` (TDX).
///
/// The sizes of single items are the verifier's to judge: it names the one that is too long.
///
/// # Errors
/// `ENCODING_*`.
pub fn parse(bytes: &[u8]) -> Result<Collateral, EncodingError> {
    if bytes.len() > MAX_BUNDLE {
        return Err(EncodingError::TooLarge(FILE, MAX_BUNDLE));
    }
    match read::<Head>(bytes)? {
        Head { v: None, tee: None } => hex_form(read(bytes)?),
        Head { v: Some(VERSION), tee: Some(Tee::SevSnp) } => {
            let SnpFile { leaf, crl, asvk, .. } = read(bytes)?;
            Ok(Collateral::SevSnp { leaf, crl, asvk })
        }
        Head { v: Some(VERSION), tee: Some(Tee::Tdx) } => {
            let TdxFile { collateral, .. } = read(bytes)?;
            Ok(Collateral::Tdx(collateral))
        }
        Head { v: Some(v), .. } if v != VERSION => Err(EncodingError::Version(FILE)),
        Head { .. } => Err(EncodingError::Json(FILE)),
    }
}

/// Writes a collateral file of version 1, one line of JSON.
#[must_use]
pub fn to_bytes(collateral: &Collateral) -> Vec<u8> {
    let text = match collateral.clone() {
        Collateral::SevSnp { leaf, crl, asvk } => {
            serde_json::to_vec(&SnpFile { v: VERSION, tee: Tee::SevSnp, leaf, crl, asvk })
        }
        Collateral::Tdx(collateral) => serde_json::to_vec(&TdxFile { v: VERSION, tee: Tee::Tdx, collateral }),
    };
    // Strings, numbers and bytes: nothing in these structures can fail to serialise.
    let mut bytes = text.unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The technology that the collateral is for.
#[must_use]
pub fn tee(collateral: &Collateral) -> Tee {
    match collateral {
        Collateral::SevSnp { .. } => Tee::SevSnp,
        Collateral::Tdx(_) => Tee::Tdx,
    }
}

/// In which form a certificate or revocation list stood in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Binary.
    Der,
    /// Base64 between `BEGIN` and `END` lines.
    Pem,
}

/// Takes the DER out of a PEM file with one certificate or revocation list; every other file is passed on as it is.
///
/// What the bytes mean is not looked at: a PEM file of something else is passed on, and refused by the rule that reads DER.
#[must_use]
pub fn der_of(bytes: Vec<u8>) -> (Vec<u8>, Form) {
    let text = core::str::from_utf8(&bytes).ok().map(str::trim).filter(|t| t.starts_with("-----BEGIN "));
    match text.map(Document::from_pem) {
        Some(Ok(("CERTIFICATE" | "X509 CRL", document))) => (document.into_vec(), Form::Pem),
        _ => (bytes, Form::Der),
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EncodingError> {
    serde_json::from_slice(bytes).map_err(|_| EncodingError::Json(FILE))
}

fn hex_form(file: HexFile) -> Result<Collateral, EncodingError> {
    // Intel's service writes lower case; both cases are read, since only the bytes count.
    let bytes = |text: &str, what| hex::decode(text).map_err(|_| EncodingError::Bytes(what));
    Ok(Collateral::Tdx(TdxCollateral {
        root_ca_crl: bytes(&file.root_ca_crl, "root_ca_crl")?,
        pck_crl: bytes(&file.pck_crl, "pck_crl")?,
        tcb_info_signature: bytes(&file.tcb_info_signature, "tcb_info_signature")?,
        qe_identity_signature: bytes(&file.qe_identity_signature, "qe_identity_signature")?,
        pck_crl_issuer_chain: file.pck_crl_issuer_chain,
        tcb_info_issuer_chain: file.tcb_info_issuer_chain,
        tcb_info: file.tcb_info,
        qe_identity_issuer_chain: file.qe_identity_issuer_chain,
        qe_identity: file.qe_identity,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tdx() -> TdxCollateral {
        TdxCollateral {
            pck_crl_issuer_chain: "a".to_owned(),
            root_ca_crl: vec![1],
            pck_crl: vec![2],
            tcb_info_issuer_chain: "b".to_owned(),
            tcb_info: "{}".to_owned(),
            tcb_info_signature: vec![3],
            qe_identity_issuer_chain: "c".to_owned(),
            qe_identity: "{}".to_owned(),
            qe_identity_signature: vec![4],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for collateral in [
            Collateral::SevSnp { leaf: vec![1], crl: vec![2, 3], asvk: vec![] },
            Collateral::SevSnp { leaf: vec![1], crl: vec![2, 3], asvk: vec![4] },
            Collateral::Tdx(tdx()),
        ] {
            assert_eq!(parse(&to_bytes(&collateral)).unwrap(), collateral);
        }
        let text = String::from_utf8(to_bytes(&Collateral::SevSnp { leaf: vec![1], crl: vec![2], asvk: vec![] }));
        assert_eq!(text.unwrap(), "{\"v\":1,\"tee\":\"sev-snp\",\"leaf\":\"AQ\",\"crl\":\"Ag\"}\n");
    }

    #[test]
    fn the_form_of_dcap_qvl_is_read() {
        let text = r#"{"pck_crl_issuer_chain":"a","root_ca_crl":"01","pck_crl":"02","tcb_info_issuer_chain":"b","tcb_info":"{}",
            "tcb_info_signature":"03","qe_identity_issuer_chain":"c","qe_identity":"{}","qe_identity_signature":"04"}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), Collateral::Tdx(tdx()));
        let more = text.replace("\"a\",", "\"a\",\"pck_certificate_chain\":\"d\",");
        assert_eq!(parse(more.as_bytes()).unwrap(), Collateral::Tdx(tdx()));
        let odd = text.replace("\"01\"", "\"0\"");
        assert_eq!(parse(odd.as_bytes()).unwrap_err(), EncodingError::Bytes("root_ca_crl"));
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, code) in [
            ("", "ENCODING_JSON"),
            ("[]", "ENCODING_JSON"),
            ("{}", "ENCODING_JSON"),
            (r#"{"v":1}"#, "ENCODING_JSON"),
            (r#"{"tee":"tdx"}"#, "ENCODING_JSON"),
            (r#"{"v":2,"tee":"tdx"}"#, "ENCODING_VERSION"),
            (r#"{"v":1,"tee":"sgx","leaf":"AQ","crl":"Ag"}"#, "ENCODING_JSON"),
            (r#"{"v":1,"tee":"sev-snp","leaf":"AQ","crl":"Ag","more":1}"#, "ENCODING_JSON"),
            (r#"{"v":1,"tee":"sev-snp","leaf":"AQ","leaf":"AQ","crl":"Ag"}"#, "ENCODING_JSON"),
            (r#"{"v":1,"v":1,"tee":"sev-snp","leaf":"AQ","crl":"Ag"}"#, "ENCODING_JSON"),
            (r#"{"v":1,"tee":"sev-snp","leaf":"A","crl":"Ag"}"#, "ENCODING_JSON"),
            (r#"{"v":1,"tee":"sev-snp","leaf":"AQ","crl":"Ag"} x"#, "ENCODING_JSON"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().code(), code, "{text}");
        }
        assert_eq!(parse(&vec![b' '; MAX_BUNDLE + 1]).unwrap_err().code(), "ENCODING_TOO_LARGE");
    }

    #[test]
    fn pem_is_opened_and_everything_else_passed_on() {
        let pem = b"\n-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_vec();
        assert_eq!(der_of(pem), (vec![0x30, 0x00], Form::Pem));
        let key = b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n".to_vec();
        for other in [key, vec![0x30, 0x00], b"-----BEGIN ".to_vec(), vec![]] {
            assert_eq!(der_of(other.clone()), (other, Form::Der));
        }
    }
}
