//! Turns quotes into the cases of steps 1 to 4, 10, 11 and 13: what the quote says of itself and who signed it.
//! It does not judge them.

use vouchsafe_attestation::evidence::MAX_QUOTE;
use vouchsafe_simulator::{keys::EcKey, tdx::QuoteSpec};

use crate::{
    cases::{Cases, Files, refused},
    machine::Machine,
};

/// Where the quoting enclave's report begins in a version 4 quote: header, body, length, signature, key, type, length.
const QE_REPORT: usize = 48 + 584 + 4 + 64 + 64 + 2 + 4;

pub fn cases(cases: &mut Cases, machine: &Machine) {
    let mut one = |name: &str, what: &str, step, code, files: Files| {
        cases.case(&format!("quote-{name}"), what, refused(step, code), files);
    };
    let raw = |change: fn(&mut Vec<u8>)| machine.with_bytes(change);
    let spec = |change: fn(&mut QuoteSpec)| machine.with_quote(change);

    one("empty", "The quote is empty.", 1, "QUOTE_LENGTH", raw(Vec::clear));
    one("too-long", "The quote is one byte above the cap.", 1, "QUOTE_LENGTH", raw(|q| q.resize(MAX_QUOTE + 1, 0)));
    let other = refused(1, "COLLATERAL_KIND").with("collateral = \"sev-snp\"");

    one("header-cut", "The quote ends in its header.", 2, "QUOTE_TRUNCATED", raw(|q| q.truncate(47)));
    one("body-cut", "The quote ends in its body.", 3, "QUOTE_TRUNCATED", raw(|q| q.truncate(48 + 583)));
    one(
        "last-byte-missing",
        "The quote's last byte is missing.",
        4,
        "QUOTE_TRUNCATED",
        raw(|q| {
            q.pop();
        }),
    );
    one("trailing-byte", "A byte follows the quote.", 4, "QUOTE_TRAILING", raw(|q| q.push(0)));
    one("trailing-quote", "A second quote follows the quote.", 4, "QUOTE_TRAILING", raw(|q| q.extend_from_within(..)));

    one("version-3", "The quote says version 3.", 2, "QUOTE_VERSION", spec(|q| q.header.version = 3));
    one("version-6", "The quote says version 6.", 2, "QUOTE_VERSION", spec(|q| q.header.version = 6));
    one(
        "key-type",
        "The quote names ECDSA P-384 as its key type.",
        2,
        "QUOTE_KEY_TYPE",
        spec(|q| q.header.key_type = 3),
    );
    one("of-sgx", "The quote says that it is from SGX.", 2, "QUOTE_TEE_TYPE", spec(|q| q.header.tee_type = 0));
    one("reserved", "A reserved byte of the header is set.", 2, "QUOTE_RESERVED", spec(|q| q.header.reserved[3] = 1));
    one("vendor", "The quoting enclave is another vendor's.", 2, "QUOTE_VENDOR", spec(|q| q.header.vendor[0] ^= 1));
    one(
        "body-of-sgx",
        "A version 5 quote has a body of SGX.",
        3,
        "QUOTE_BODY_TYPE",
        spec(|q| {
            q.header.version = 5;
            q.body_type = 1;
        }),
    );
    one(
        "body-unknown",
        "A version 5 quote has a body of a type that does not exist.",
        3,
        "QUOTE_BODY_TYPE",
        spec(|q| {
            q.header.version = 5;
            q.body_type = 4;
        }),
    );
    let mut short = machine.with_quote(QuoteSpec::set_v5);
    if let Some(quote) = short.get_mut("quote.bin") {
        quote[50] = 0x48;
    }
    one("body-size", "A version 5 quote declares a TDX 1.5 body of the size of TDX 1.0.", 3, "QUOTE_BODY_SIZE", short);
    one(
        "cert-data-outer",
        "The certification data is a bare chain, without the quoting enclave's report.",
        4,
        "CERT_DATA_TYPE",
        spec(|q| q.outer_type = 5),
    );
    one(
        "cert-data-encrypted-ppid",
        "The certification data is an encrypted platform identifier instead of a chain.",
        4,
        "CERT_DATA_TYPE",
        spec(|q| q.cert_type = 3),
    );
    one(
        "cert-data-length",
        "The certification data declares one byte less than there is.",
        4,
        "CERT_DATA_LENGTH",
        machine.with_bytes(|q| q[QE_REPORT - 4] -= 1),
    );
    one(
        "qe-auth-data",
        "The quoting enclave's authentication data has 31 bytes.",
        4,
        "QE_AUTH_DATA",
        spec(|q| q.qe_auth.truncate(31)),
    );

    one(
        "td-reserved",
        "A reserved bit of the TD's attributes is set.",
        13,
        "TD_ATTRIBUTES_RESERVED",
        spec(|q| q.body.attributes |= 1 << 40),
    );
    one("td-migratable", "The TD can be migrated.", 13, "QUOTE_MIGRATABLE", spec(|q| q.body.attributes |= 1 << 29));
    one("td-sept-ve", "The TD does not set SEPT_VE_DISABLE.", 13, "SEPT_VE_DISABLE", spec(|q| q.body.attributes = 0));
    one(
        "td-tud",
        "A bit of the TD's attributes beside the debug bit is set.",
        13,
        "TD_ATTRIBUTES_RESERVED",
        spec(|q| q.body.attributes |= 2),
    );
    one(
        "td-servtd-ext",
        "The TD has service TDs, and its quote cannot say which.",
        13,
        "TD_SERVTD_EXT",
        spec(|q| q.body.attributes |= 1 << 17),
    );
    enclave(cases, machine);
    signature(cases, machine);
    cases.case("quote-with-collateral-of-snp", "The collateral is SEV-SNP's.", other, Files::new());
}

/// The quoting enclave's report.
fn enclave(cases: &mut Cases, machine: &Machine) {
    let mut one = |name: &str, what: &str, code, files: Files| {
        cases.case(&format!("qe-{name}"), what, refused(10, code), files);
    };
    let spec = |change: fn(&mut QuoteSpec)| machine.with_quote(change);
    one(
        "report-bit",
        "A bit of the quoting enclave's report is flipped after signing.",
        "QE_REPORT_SIGNATURE",
        machine.with_bytes(|q| q[QE_REPORT + 64] ^= 1),
    );
    one(
        "report-signature-bit",
        "A bit of the signature over the quoting enclave's report is flipped.",
        "QE_REPORT_SIGNATURE",
        machine.with_bytes(|q| q[QE_REPORT + 384] ^= 1),
    );
    let stranger = EcKey::generate().unwrap();
    let by_stranger = machine.quote().sign(&machine.pki.attestation, &stranger).unwrap();
    one(
        "report-by-a-stranger",
        "Another key than the platform's signed the quoting enclave's report.",
        "QE_REPORT_SIGNATURE",
        Files::from([("quote.bin", by_stranger)]),
    );
    one(
        "report-data",
        "The quoting enclave vouches for another key.",
        "QE_REPORT_DATA",
        spec(|q| {
            let mut vouched = [0; 64];
            vouched[..32].fill(7);
            q.qe.report_data = Some(vouched);
        }),
    );
    one(
        "auth-data-bit",
        "A bit of the authentication data is flipped after signing.",
        "QE_REPORT_DATA",
        machine.with_bytes(|q| q[QE_REPORT + 384 + 64 + 2] ^= 1),
    );
    one(
        "signer",
        "The quoting enclave has another signer than Intel's identity says.",
        "QE_IDENTITY_MISMATCH",
        spec(|q| q.qe.mr_signer[0] ^= 1),
    );
    one(
        "product",
        "The quoting enclave has another product number: it is Intel's, for something else.",
        "QE_IDENTITY_MISMATCH",
        spec(|q| q.qe.isv_prod_id = 1),
    );
    one(
        "misc-select",
        "The quoting enclave has another MISCSELECT.",
        "QE_IDENTITY_MISMATCH",
        spec(|q| q.qe.misc_select[0] = 1),
    );
    one(
        "attributes",
        "The quoting enclave lacks an attribute that Intel's identity demands.",
        "QE_IDENTITY_MISMATCH",
        spec(|q| q.qe.attributes[0] ^= 0x10),
    );
    one("debug", "The quoting enclave runs in debug mode.", "QE_IDENTITY_MISMATCH", spec(|q| q.qe.attributes[0] |= 2));
    let mut reserved = Vec::new();
    for (name, at) in
        [("reserved-020", 20_usize), ("reserved-096", 96), ("reserved-319", 319), ("report-data-tail", 383)]
    {
        let files = machine.with_bytes(|q| {
            q[QE_REPORT + at] = 1;
            let signature = machine.pki.pck.sign(&q[QE_REPORT..QE_REPORT + 384]).unwrap();
            q[QE_REPORT + 384..QE_REPORT + 448].copy_from_slice(&signature);
        });
        let what = format!("The reserved byte at {at} of the quoting enclave's report is set, under its signature.");
        reserved.push((name, what, files));
    }
    one(
        "level",
        "The quoting enclave is older than every level of Intel's identity.",
        "QE_LEVEL_NONE",
        spec(|q| q.qe.isv_svn = 1),
    );
    // The structure is looked at before any signature.
    for (name, what, files) in reserved {
        cases.case(&format!("qe-{name}"), &what, refused(4, "QE_RESERVED"), files);
    }
}

/// Header and body under the attestation key.
fn signature(cases: &mut Cases, machine: &Machine) {
    for (offset, field) in [
        (28_usize, "user data"),
        (48, "TEE_TCB_SVN"),
        (48 + 136, "MRTD"),
        (48 + 184, "MRCONFIGID"),
        (48 + 328, "RTMR0"),
        (48 + 520, "REPORTDATA"),
        (48 + 583, "the last byte of REPORTDATA"),
        (48 + 584 + 4, "R"),
    ] {
        let what = format!("A bit of {field} is flipped after signing.");
        let files = machine.with_bytes(|q| q[offset] ^= 1);
        cases.case(&format!("signature-{offset:03x}"), &what, refused(11, "QUOTE_SIGNATURE"), files);
    }
    let zero = machine.with_bytes(|q| q[636..700].fill(0));
    cases.case("signature-zero", "The signature is all zeros.", refused(11, "QUOTE_SIGNATURE"), zero);
    let stranger = EcKey::generate().unwrap();
    let honest = machine.base_quote.clone();
    let mut swapped = machine.quote().sign(&stranger, &machine.pki.pck).unwrap();
    // The stranger's signature with the honest key beside it.
    swapped[636 + 64..].copy_from_slice(&honest[636 + 64..636 + 64 + honest.len() - 700]);
    cases.case(
        "signature-by-a-stranger",
        "Another key than the one beside it made the signature.",
        refused(11, "QUOTE_SIGNATURE"),
        Files::from([("quote.bin", swapped)]),
    );
    let mut swapped = machine.base_quote.clone();
    let other = machine.quote().sign(&stranger, &machine.pki.pck).unwrap();
    // Signature and key of the stranger, the quoting enclave's word for the honest key.
    swapped[636..764].copy_from_slice(&other[636..764]);
    cases.case(
        "qe-swapped-key",
        "A stranger's key and signature stand in a quote whose quoting enclave vouches for another.",
        refused(10, "QE_REPORT_DATA"),
        Files::from([("quote.bin", swapped)]),
    );
}
