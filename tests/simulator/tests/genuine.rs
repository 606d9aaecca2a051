//! Turns the fields of genuine quotes and collateral into ours, and compares: the same bytes, the same shape.
//! It says nothing about hardware: the genuine ones come from public repositories and are not committed here.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use der_07::{Decode, oid::ObjectIdentifier};
use serde_json::Value;
use vouchsafe_simulator::{
    der,
    root::now,
    tdx::{
        CollateralSpec, Pki, QuoteSpec, TdFields,
        pki::{Platform, SGX_EXTENSION, SgxExtension},
    },
};
use x509_cert_02::{Certificate, crl::CertificateList, ext::Extension};

const QUOTES: [&str; 3] =
    ["tdx-v4-bt2-50806f000000-12b401a8", "tdx-v4-bt2-b0c06f000000-0c699dd4", "tdx-v5-bt3-90c06f000000-cf77a6e9"];
const COLLATERAL: &str = "tdx/90c06f000000_2026-06-29_eval19.json";
/// CRL distribution points: ours name no address.
const DISTRIBUTION: &str = "2.5.29.31";

fn vector(test: &str, name: &str) -> Option<Vec<u8>> {
    let folder = env::var_os("VOUCHSAFE_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"), PathBuf::from);
    match fs::read(folder.join(name)) {
        Ok(bytes) => Some(bytes),
        Err(_) if env::var_os("VOUCHSAFE_REQUIRE_VECTORS").is_some_and(|v| v == "1") => panic!("vectors missing"),
        Err(_) => {
            println!("NOT RUN: {test}: vectors missing");
            None
        }
    }
}

fn take<const N: usize>(bytes: &[u8], at: &mut usize) -> [u8; N] {
    let field = bytes[*at..*at + N].try_into().unwrap();
    *at += N;
    field
}

/// The fields of a genuine quote by a second reading of Intel's tables.
fn read(quote: &[u8], pki: &Pki) -> QuoteSpec {
    let mut spec = QuoteSpec::honest(pki, TdFields::honest([0; 48], [0; 32]));
    let version = u16::from_le_bytes(quote[..2].try_into().unwrap());
    if version == 5 {
        spec.set_v5();
    }
    let mut at = 8;
    spec.header.reserved = take(quote, &mut at);
    spec.header.vendor = take(quote, &mut at);
    spec.header.user_data = take(quote, &mut at);
    at = if version == 5 { 54 } else { 48 };
    let body = &mut spec.body;
    body.tee_tcb_svn = take(quote, &mut at);
    body.mr_seam = take(quote, &mut at);
    body.mr_signer_seam = take(quote, &mut at);
    body.seam_attributes = take(quote, &mut at);
    body.attributes = u64::from_le_bytes(take(quote, &mut at));
    body.xfam = u64::from_le_bytes(take(quote, &mut at));
    body.mr_td = take(quote, &mut at);
    body.mr_config_id = take(quote, &mut at);
    body.mr_owner = take(quote, &mut at);
    body.mr_owner_config = take(quote, &mut at);
    body.rtmr = [(); 4].map(|()| take(quote, &mut at));
    body.report_data = take(quote, &mut at);
    if version == 5 {
        body.tee_tcb_svn2 = take(quote, &mut at);
        body.mr_service_td = take(quote, &mut at);
    }
    spec
}

/// The certificates in a quote: leaf, PCK CA, root.
fn chain(quote: &[u8]) -> Vec<Certificate> {
    let text = String::from_utf8_lossy(quote).into_owned();
    certificates(&text[text.find("-----BEGIN").unwrap()..])
}

fn certificates(pem: &str) -> Vec<Certificate> {
    let ends = pem.split_inclusive("-----END CERTIFICATE-----\n").filter(|part| part.contains("BEGIN"));
    ends.map(|part| Certificate::from_der(&der_07::pem::decode_vec(part.as_bytes()).unwrap().1).unwrap()).collect()
}

#[test]
fn genuine_fields_give_genuine_bytes() {
    let pki = Pki::generate(Platform::new([1; 16]), now()).unwrap();
    for name in QUOTES {
        let Some(genuine) = vector("genuine_fields_give_genuine_bytes", &format!("tdx/{name}.quote.bin")) else {
            return;
        };
        let mut spec = read(&genuine, &pki);
        let signed = spec.signed_bytes();
        assert_eq!(signed, genuine[..signed.len()], "{name}: header and body");

        // With the genuine chain inside, the whole has the genuine length, and every length field is the genuine one.
        let pem = genuine.windows(10).position(|window| window == b"-----BEGIN").unwrap();
        spec.cert_data = genuine[pem..].to_vec();
        let quote = spec.sign(&pki.attestation, &pki.pck).unwrap();
        assert_eq!(quote.len(), genuine.len(), "{name}");
        let auth = signed.len();
        let same = |from: usize, len: usize| assert_eq!(quote[from..][..len], genuine[from..][..len], "{name} {from}");
        same(auth, 4); // length of the signature data
        same(auth + 132, 6); // type and length of the outer certification data
        let report = auth + 138;
        same(report + 16, 4); // MISCSELECT
        same(report + 20, 28); // reserved
        same(report + 48, 16); // ATTRIBUTES
        same(report + 96, 32); // reserved
        same(report + 160, 98); // reserved and ISVPRODID
        same(report + 260, 60); // reserved
        same(report + 352, 32); // the half of REPORTDATA that is zero
        same(report + 448, 2 + 32 + 6); // authentication data, type and length of the chain
    }
}

#[test]
fn genuine_platforms_give_the_genuine_extension() {
    let test = "genuine_platforms_give_the_genuine_extension";
    let pki = Pki::generate(Platform::new([1; 16]), now()).unwrap();
    let Some(genuine) = vector(test, "tdx/tdx-v5-bt3-90c06f000000-cf77a6e9.quote.bin") else {
        return;
    };
    let genuine = chain(&genuine);
    let oid = ObjectIdentifier::new(SGX_EXTENSION).unwrap();
    let leaf = genuine[0].tbs_certificate.extensions.as_ref().unwrap();
    let extension = leaf.iter().find(|e| e.extn_id == oid).unwrap().extn_value.as_bytes();
    let sgx = SgxExtension {
        ppid: hex::decode("2734b654f553596897eaadfb5667a954").unwrap(),
        fmspc: hex::decode("90c06f000000").unwrap(),
        platform_instance: Some(hex::decode("056d0350250988808a9d09103f3e54d5").unwrap()),
        configuration: Some([true; 3]),
        ..SgxExtension::honest(&pki.platform)
    };
    assert_eq!(sgx.to_extension().unwrap().value, extension);

    // Leaf, PCK CA and root have the genuine extensions, but for addresses, and the marker.
    let shape = |certificate: &Certificate| -> BTreeSet<(String, bool)> {
        let extensions: &[Extension] = certificate.tbs_certificate.extensions.as_deref().unwrap();
        extensions.iter().map(|e| (e.extn_id.to_string(), e.critical)).filter(|(o, _)| o != DISTRIBUTION).collect()
    };
    let ours = certificates(&pki.pck_chain);
    assert_eq!((ours.len(), genuine.len()), (3, 3));
    for (ours, genuine) in ours.iter().zip(&genuine) {
        let (ours, mut genuine) = (shape(ours), shape(genuine));
        let marker = vouchsafe_simulator::x509::Extension::marker();
        genuine.insert((marker.oid, marker.critical));
        // Intel's root names no authority but itself, by leaving the identifier out or in.
        let authority = ("2.5.29.35".to_owned(), false);
        assert_eq!(ours.difference(&genuine).filter(|e| **e != authority).count(), 0);
        assert_eq!(genuine.difference(&ours).filter(|e| **e != authority).count(), 0);
    }
}

/// Every path to a value, with arrays merged.
fn paths(value: &Value, at: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| paths(value, &format!("{at}.{key}"), out)),
        Value::Array(list) => list.iter().for_each(|value| paths(value, &format!("{at}[]"), out)),
        Value::String(text) => drop(out.insert(format!("{at}: text of {}", text.len().min(17)))),
        Value::Number(_) => drop(out.insert(format!("{at}: number"))),
        other => drop(out.insert(format!("{at}: {other}"))),
    }
}

#[test]
fn collateral_has_the_genuine_shape() {
    let Some(genuine) = vector("collateral_has_the_genuine_shape", COLLATERAL) else { return };
    let genuine: Value = serde_json::from_slice(&genuine).unwrap();
    let pki = Pki::generate(Platform::new([1; 16]), now()).unwrap();
    let ours = CollateralSpec::honest(&pki, now()).unwrap().sign(&pki).unwrap();
    for (name, ours) in [("tcb_info", &ours.tcb_info), ("qe_identity", &ours.qe_identity)] {
        let genuine = genuine[name].as_str().unwrap();
        let shape = |text: &str| {
            let mut out = BTreeSet::new();
            paths(&serde_json::from_str(text).unwrap(), "", &mut out);
            out.retain(|path| !["tcbStatus", "advisoryIDs", "category", "type"].iter().any(|n| path.contains(n)));
            out
        };
        assert_eq!(shape(ours), shape(genuine), "{name}");
        // Intel's order: the keys of the outermost object.
        let order = |text: &str| {
            let mut keys: Vec<String> = serde_json::from_str::<serde_json::Map<_, _>>(text)
                .unwrap()
                .into_iter()
                .map(|(k, _): (String, Value)| k)
                .collect();
            keys.sort_by_key(|key| text.find(&format!("\"{key}\":")).unwrap());
            keys
        };
        assert_eq!(order(ours), order(genuine), "{name}");
    }
    let list = CertificateList::from_der(&ours.pck_crl).unwrap().tbs_cert_list;
    assert_eq!(list.revoked_certificates.unwrap().len(), 1);
    assert!(CertificateList::from_der(&ours.root_ca_crl).unwrap().tbs_cert_list.revoked_certificates.is_none());
    assert!(der::certificate_pem(&pki.root_der).unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));
}
