//! Turns a family of processors into the addresses of Intel's provisioning service (version 4), and the answers into collateral.
//! It does not verify the answers: the signed texts are kept byte for byte for those who do.

use serde::Deserialize;
use serde_json::value::RawValue;
use vouchsafe_attestation::{
    Collateral, TdxCollateral,
    collateral::{TdxSought, sought_by_quote},
};

use super::{
    Args, authority,
    http::{Answer, Client, malformed},
};
use crate::{failure::Failure, files};

/// From a quote, or from the options that say the same.
pub fn wanted(args: &Args) -> Result<TdxSought, Failure> {
    if let Some(path) = &args.evidence {
        let quote = files::read_input(path, 1 << 20)?;
        return sought_by_quote(&quote)
            .map_err(|e| Failure::usage(format!("--evidence: {e}"), "name the rest with --fmspc and --ca"));
    }
    let (Some(fmspc), Some(ca)) = (&args.fmspc, &args.ca) else {
        return Err(Failure::usage("what shall be fetched?", "give --evidence, or --fmspc and --ca"));
    };
    let mut bytes = [0; 6];
    hex::decode_to_slice(fmspc, &mut bytes)
        .map_err(|_| Failure::usage("--fmspc is not 12 hex digits", "`vouchsafe evidence verify` prints it"))?;
    Ok(TdxSought { fmspc: bytes, authority: authority(ca) })
}

/// `{"tcbInfo": …, "signature": …}`: the signature covers the exact text of the first value.
#[derive(Deserialize)]
struct TcbAnswer<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    signed: &'a RawValue,
    signature: String,
}

/// `{"enclaveIdentity": …, "signature": …}`.
#[derive(Deserialize)]
struct IdentityAnswer<'a> {
    #[serde(borrow, rename = "enclaveIdentity")]
    signed: &'a RawValue,
    signature: String,
}

/// Both lists, both signed texts, and the chains that come in headers.
pub fn fetch(
    client: &Client,
    base: &str,
    root_crl_url: &str,
    wanted: &TdxSought,
    early: bool,
) -> Result<Collateral, Failure> {
    let update = if early { "update=early" } else { "update=standard" };
    let get = |what, path: String, headers: &[&str]| client.get(what, &format!("{base}{path}"), headers);
    let tcb = "the TCB info";
    let path = format!("/tdx/certification/v4/tcb?fmspc={}&{update}", hex::encode(wanted.fmspc));
    let tcb_answer = get(tcb, path, &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"])?;
    let identity = "the identity of the quoting enclave";
    let identity_answer =
        get(identity, format!("/tdx/certification/v4/qe/identity?{update}"), &["SGX-Enclave-Identity-Issuer-Chain"])?;
    let pck = "the PCK revocation list";
    let path = format!("/sgx/certification/v4/pckcrl?ca={}&encoding=der", wanted.authority.as_str());
    let pck_answer = get(pck, path, &["SGX-PCK-CRL-Issuer-Chain"])?;
    let root_answer = client.get("the root's revocation list", root_crl_url, &[])?;

    let tcb_text: TcbAnswer<'_> = serde_json::from_slice(&tcb_answer.body).map_err(|_| malformed(tcb))?;
    let identity_text: IdentityAnswer<'_> =
        serde_json::from_slice(&identity_answer.body).map_err(|_| malformed(identity))?;
    Ok(Collateral::Tdx(TdxCollateral {
        tcb_info: tcb_text.signed.get().to_owned(),
        tcb_info_signature: hex::decode(&tcb_text.signature).map_err(|_| malformed(tcb))?,
        tcb_info_issuer_chain: chain(&tcb_answer, tcb)?,
        qe_identity: identity_text.signed.get().to_owned(),
        qe_identity_signature: hex::decode(&identity_text.signature).map_err(|_| malformed(identity))?,
        qe_identity_issuer_chain: chain(&identity_answer, identity)?,
        pck_crl_issuer_chain: chain(&pck_answer, pck)?,
        pck_crl: list(pck_answer.body),
        root_ca_crl: list(root_answer.body),
    }))
}

/// Caches of the provisioning service answer with hex where Intel's answers with DER.
fn list(body: Vec<u8>) -> Vec<u8> {
    hex::decode(body.trim_ascii()).unwrap_or(body)
}

/// PEM, percent-encoded in a header.
fn chain(answer: &Answer, what: &'static str) -> Result<String, Failure> {
    answer.header.as_deref().and_then(percent_decoded).ok_or_else(|| malformed(what))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let pair = [rest.next()?, rest.next()?];
            let mut decoded = [0];
            hex::decode_to_slice(pair, &mut decoded).ok()?;
            bytes.extend(decoded);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_decoded() {
        assert_eq!(percent_decoded("-----BEGIN%20X-----%0AMA+%2B%3D"), Some("-----BEGIN X-----\nMA++=".to_owned()));
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(percent_decoded(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_signed_text_is_kept_byte_for_byte() {
        let text = br#"{"tcbInfo": {"b" : 1,"a":[ ]} ,"signature":"00"}"#;
        let answer: TcbAnswer<'_> = serde_json::from_slice(text).unwrap();
        assert_eq!(answer.signed.get(), r#"{"b" : 1,"a":[ ]}"#);
    }

    #[test]
    fn lists_in_hex_are_lists_too() {
        assert_eq!(list(b"3000\n".to_vec()), [0x30, 0]);
        assert_eq!(list(vec![0x30, 0]), [0x30, 0]);
    }
}
