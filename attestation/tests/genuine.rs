//! Genuine evidence must verify; what `sev` reads from it must be what we read.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{collections::BTreeMap, fs};

use common::{
    IN_FORCE, STALE, VLEK_IN_FORCE, at,
    forge::{AMD, ext, integer, name, sim, tlv},
    genuine, hardware, sev_dir, snp, vectors,
};
use der::{Decode, Encode};
use sev::{
    certs::snp::{Certificate, Chain, Verifiable, builtin, ca},
    firmware::guest::AttestationReport,
    parser::ByteParser,
};
use vouchsafe_attestation::{
    Mode, Tee,
    anchors::SIMULATED_MARKER_OID,
    lp::sha256,
    snp::{LeafKind, Product, SigningKey, Tcb},
};

/// What the index says of a row, beside its name: product and CPUID, version, key, policy, VMPL, PLATFORM_INFO,
/// REPORTED_TCB, firmware, and the words of the default hardware policy.
struct Row(Vec<String>);

impl Row {
    /// Verification has one of those words for itself; all others are the policy's.
    fn expected(&self) -> &'static str {
        if self.0[9].split(", ").any(|word| word == "VekExpired") { "LEAF_EXPIRED" } else { "AUTHENTIC" }
    }

    fn number(&self, column: usize) -> u64 {
        let text = &self.0[column];
        text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16)).unwrap()
    }
}

/// The SNP table of the index, which must name every report in the directory and nothing else.
fn index(vectors: &std::path::Path) -> BTreeMap<String, Row> {
    let text = fs::read_to_string(vectors.join("INDEX.md")).unwrap();
    let table = text.split("\n## ").find(|section| section.starts_with("SNP")).unwrap();
    let row = |line: &str| {
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        (cells[1].clone(), Row(cells[1..].to_vec()))
    };
    let rows: BTreeMap<_, _> = table.lines().filter(|l| l.starts_with("| ")).skip(1).map(row).collect();
    let names: Vec<_> = genuine(vectors).into_iter().map(|case| case.name).collect();
    assert_eq!(rows.keys().cloned().collect::<Vec<_>>(), names);
    rows
}

#[test]
fn every_row_of_the_index_has_its_verdict() {
    let Some(dir) = vectors("every_row_of_the_index_has_its_verdict") else { return };
    let rows = index(&dir);
    let mut seen = BTreeMap::new();
    for case in genuine(&dir) {
        let code = case.code(&hardware(), at(IN_FORCE));
        assert_eq!(code, rows[&case.name].expected(), "{}", case.name);
        *seen.entry(code).or_insert(0) += 1;
        println!("{IN_FORCE} {:24} {code}", case.name);
    }
    assert_eq!(seen, BTreeMap::from([("AUTHENTIC", 9), ("LEAF_EXPIRED", 1)]));
}

#[test]
fn every_row_of_the_index_is_stale_later() {
    let Some(dir) = vectors("every_row_of_the_index_is_stale_later") else { return };
    for case in genuine(&dir) {
        let error = case.verify(&hardware(), at(STALE)).unwrap_err();
        let expected = if case.name.contains("vlek") { (8, "LEAF_EXPIRED", 3) } else { (9, "CRL_EXPIRED", 3) };
        assert_eq!((error.step(), error.code(), error.exit()), expected, "{}", case.name);
        println!("{STALE} {:24} {}", case.name, error.code());
    }
}

#[test]
fn every_column_of_the_index_is_what_was_verified() {
    let Some(dir) = vectors("every_column_of_the_index_is_what_was_verified") else { return };
    let rows = index(&dir);
    for case in genuine(&dir) {
        let now = if case.name.contains("vlek") { VLEK_IN_FORCE } else { IN_FORCE };
        let authentic = case.verify(&hardware(), at(now)).unwrap();
        let (facts, report, row) = (snp(&authentic), &snp(&authentic).report, &rows[&case.name]);
        let cpuid = report.cpuid.map_or([0; 3], |c| [c.family, c.model, c.stepping]);
        assert_eq!(format!("{} {}", facts.product, hex::encode(cpuid)), row.0[1], "{}", case.name);
        assert_eq!(u64::from(report.version), row.number(2));
        let key = row.0[3].split_whitespace().next().unwrap();
        assert_eq!(facts.leaf_kind.as_str(), key);
        assert_eq!(facts.csp.is_some(), key == "vlek");
        assert!(facts.csp.as_ref().is_none_or(|csp| row.0[3].contains(&format!("CN={csp}"))));
        assert_eq!((report.policy.0, u64::from(report.vmpl)), (row.number(4), row.number(5)));
        assert_eq!(report.platform_info.0, row.number(6));
        assert_eq!(hex::encode(&case.report[0x180..0x188]), row.0[7]);
        assert_eq!(format!("{}/{}", report.current, report.committed), row.0[8]);
        // Only Turin sets bit 6, which revision 1.58 reserves.
        assert_eq!(report.platform_info.0 >> 6 & 1 == 1, facts.product == Product::Turin);
        assert!(!report.platform_info.tio_en());
        assert_eq!(report.policy.debug(), row.0[9].contains("DebugAllowed"));
        assert_eq!(report.platform_info.alias_check_complete(), !row.0[9].contains("AliasCheckIncomplete"));
    }
}

#[test]
fn the_verdict_names_what_was_found() {
    let Some(dir) = vectors("the_verdict_names_what_was_found") else { return };
    for case in genuine(&dir).into_iter().filter(|c| !c.name.contains("vlek")) {
        let authentic = case.verify(&hardware(), at(IN_FORCE)).unwrap();
        let product = match case.product() {
            "milan" => Product::Milan,
            "genoa" => Product::Genoa,
            _ => Product::Turin,
        };
        assert_eq!(
            (authentic.mode(), authentic.tee(), snp(&authentic).product),
            (Mode::Hardware, Tee::SevSnp, product)
        );
        assert_eq!((snp(&authentic).leaf_kind, snp(&authentic).csp.as_deref()), (LeafKind::Vcek, None));
        assert_eq!(snp(&authentic).report.key_info.signing_key(), SigningKey::Vcek);
        assert_eq!(authentic.report_data().as_slice(), &case.report[0x50..0x90]);
        assert_eq!(authentic.measurement().as_slice(), &case.report[0x90..0xc0]);
        assert_eq!(authentic.config_digest().as_slice(), &case.report[0xc0..0xe0]);
        assert_eq!(snp(&authentic).report.cpuid.is_some(), snp(&authentic).report.version >= 3);
        assert_eq!(snp(&authentic).report.launch_mit_vector.is_some(), snp(&authentic).report.version >= 5);
        let numbers: Vec<u8> = authentic.steps().iter().map(|s| s.number).collect();
        assert_eq!(numbers, (1..=13).collect::<Vec<_>>());
        assert_eq!(snp(&authentic).crl.number, [6, 5, 2][product as usize]);
    }
    // The columns of the index: Turin's byte order, and Siena's low microcode.
    let tcb = |name: &str| {
        let case = genuine(&dir).into_iter().find(|c| c.name == name).unwrap();
        snp(&case.verify(&hardware(), at(IN_FORCE)).unwrap()).report.reported_tcb
    };
    let turin = Tcb { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x51 };
    assert_eq!(tcb("turin-v5-vcek-85da705e"), turin);
    let siena = Tcb { fmc: None, bootloader: 0x0a, tee: 0, snp: 0x1b, microcode: 0x1b };
    assert_eq!(tcb("genoa-v5-vcek-7ea4daeb"), siena);
}

#[test]
fn a_high_s_is_accepted() {
    let Some(dir) = vectors("a_high_s_is_accepted") else { return };
    for mut case in genuine(&dir).into_iter().filter(|c| !c.name.contains("vlek")) {
        negate_s(&mut case.report);
        assert_eq!(case.code(&hardware(), at(IN_FORCE)), "AUTHENTIC", "{}", case.name);
    }
}

/// s becomes n - s, little-endian at 0x2E8: one of the two is high.
fn negate_s(report: &mut [u8]) {
    const ORDER: &str =
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    let order = hex::decode(ORDER).unwrap();
    let mut borrow = 0;
    for i in 0..48 {
        let difference = i16::from(order[47 - i]) - i16::from(report[0x2e8 + i]) - borrow;
        borrow = i16::from(difference < 0);
        report[0x2e8 + i] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    assert_eq!(borrow, 0);
}

#[test]
fn another_products_collateral_is_refused() {
    let Some(dir) = vectors("another_products_collateral_is_refused") else { return };
    let all = genuine(&dir);
    let find = |name: &str| all.iter().find(|c| c.name.starts_with(name)).unwrap();
    let (milan, genoa) = (find("milan-v3-vcek"), find("genoa"));
    let swapped = common::Genuine { crl: milan.crl.clone(), ..genoa.clone() };
    assert_eq!(swapped.code(&hardware(), at(IN_FORCE)), "CRL_ISSUER");
    let swapped = common::Genuine { leaf: milan.leaf.clone(), ..genoa.clone() };
    assert_eq!(swapped.code(&hardware(), at(IN_FORCE)), "LEAF_PRODUCT");
    // Another chip of the same product: the key does not fit before the identifier is even looked at.
    let swapped =
        common::Genuine { leaf: find("genoa-v5-vcek-7ea4").leaf.clone(), ..find("genoa-v5-vcek-6d1c").clone() };
    assert_eq!(swapped.code(&hardware(), at(IN_FORCE)), "SIGNATURE_INVALID");
}

#[test]
fn the_anchors_are_those_of_sev_and_of_amd() {
    let pem = |text: &[u8]| der::Document::from_pem(std::str::from_utf8(text).unwrap()).unwrap().1.into_vec();
    let ours = |name: &str| pem(&fs::read(format!("{}/anchors/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap());
    for (name, theirs) in [
        ("ark_milan", builtin::milan::ARK),
        ("ask_milan", builtin::milan::ASK),
        ("ark_genoa", builtin::genoa::ARK),
        ("ask_genoa", builtin::genoa::ASK),
        ("ark_turin", builtin::turin::ARK),
        ("ask_turin", builtin::turin::ASK),
    ] {
        assert_eq!(sha256(&ours(name)), sha256(&pem(theirs)), "{name}");
    }
    let Some(dir) = vectors("the_anchors_are_those_of_sev_and_of_amd (second half)") else { return };
    for product in ["milan", "genoa", "turin"] {
        for ca in ["ark", "ask"] {
            let published = fs::read(dir.join(format!("amd-ca/{product}_{ca}.der"))).unwrap();
            assert_eq!(ours(&format!("{ca}_{product}")), published);
        }
    }
}

#[test]
fn sev_agrees_on_every_field() {
    let Some(dir) = vectors("sev_agrees_on_every_field") else { return };
    for case in genuine(&dir) {
        let now = if case.name.contains("vlek") { VLEK_IN_FORCE } else { IN_FORCE };
        let authentic = case.verify(&hardware(), at(now)).unwrap();
        let bytes: [u8; 1184] = case.report.clone().try_into().unwrap();
        let theirs = AttestationReport::from_bytes(&bytes).unwrap();
        sev_verifies(&case, &theirs, snp(&authentic).product);
        compare(&snp(&authentic).report, &theirs);
    }
}

/// By its own roots; it has no ASVK of its own, so a loaded key's comes from the vectors in the place of the ASK.
fn sev_verifies(case: &common::Genuine, report: &AttestationReport, product: Product) {
    let (ark, ask) = match product {
        Product::Milan => (builtin::milan::ark(), builtin::milan::ask()),
        Product::Genoa => (builtin::genoa::ark(), builtin::genoa::ask()),
        Product::Turin => (builtin::turin::ark(), builtin::turin::ask()),
    };
    let ask = if case.asvk.is_empty() { ask.unwrap() } else { Certificate::from_der(&case.asvk).unwrap() };
    let chain = Chain { ca: ca::Chain { ark: ark.unwrap(), ask }, vek: Certificate::from_der(&case.leaf).unwrap() };
    (&chain, report).verify().unwrap();
}

fn compare(ours: &vouchsafe_attestation::snp::Report, theirs: &AttestationReport) {
    assert_eq!(ours.version, theirs.version);
    assert_eq!(ours.guest_svn, theirs.guest_svn);
    assert_eq!(ours.policy.smt(), theirs.policy.smt_allowed());
    assert_eq!(ours.policy.migrate_ma(), theirs.policy.migrate_ma_allowed());
    assert_eq!(ours.policy.debug(), theirs.policy.debug_allowed());
    assert_eq!(ours.policy.single_socket(), theirs.policy.single_socket_required());
    assert_eq!(ours.policy.cxl_allow(), theirs.policy.cxl_allowed());
    assert_eq!(ours.policy.mem_aes_256_xts(), theirs.policy.mem_aes_256_xts());
    assert_eq!(ours.policy.rapl_dis(), theirs.policy.rapl_dis());
    assert_eq!(ours.policy.ciphertext_hiding(), theirs.policy.ciphertext_hiding());
    assert_eq!(ours.policy.page_swap_disable(), theirs.policy.page_swap_disabled());
    assert_eq!(u64::from(ours.policy.abi_major()), theirs.policy.abi_major());
    assert_eq!(u64::from(ours.policy.abi_minor()), theirs.policy.abi_minor());
    assert_eq!(ours.family_id, theirs.family_id);
    assert_eq!(ours.image_id, theirs.image_id);
    assert_eq!(ours.vmpl, theirs.vmpl);
    assert_eq!(ours.signature_algo, theirs.sig_algo);
    assert_eq!(ours.platform_info.smt_en(), theirs.plat_info.smt_enabled());
    assert_eq!(ours.platform_info.tsme_en(), theirs.plat_info.tsme_enabled());
    assert_eq!(ours.platform_info.ecc_en(), theirs.plat_info.ecc_enabled());
    assert_eq!(ours.platform_info.rapl_dis(), theirs.plat_info.rapl_disabled());
    assert_eq!(ours.platform_info.ciphertext_hiding_dram_en(), theirs.plat_info.ciphertext_hiding_enabled());
    assert_eq!(ours.platform_info.alias_check_complete(), theirs.plat_info.alias_check_complete());
    assert_eq!(ours.platform_info.tio_en(), theirs.plat_info.tio_enabled());
    assert_eq!(ours.key_info.author_key_en(), theirs.key_info.author_key_en());
    assert_eq!(ours.key_info.mask_chip_key(), theirs.key_info.mask_chip_key());
    assert_eq!(ours.report_data, theirs.report_data);
    assert_eq!(ours.measurement, theirs.measurement);
    assert_eq!(ours.host_data, theirs.host_data);
    assert_eq!(ours.id_key_digest, theirs.id_key_digest);
    assert_eq!(ours.author_key_digest, theirs.author_key_digest);
    assert_eq!(ours.report_id, theirs.report_id);
    assert_eq!(ours.report_id_ma, theirs.report_id_ma);
    assert_eq!(ours.cpuid.map(|c| c.family), theirs.cpuid_fam_id);
    assert_eq!(ours.cpuid.map(|c| c.model), theirs.cpuid_mod_id);
    assert_eq!(ours.cpuid.map(|c| c.stepping), theirs.cpuid_step);
    assert_eq!(ours.chip_id, theirs.chip_id);
    for (ours, theirs) in [
        (ours.current_tcb, theirs.current_tcb),
        (ours.reported_tcb, theirs.reported_tcb),
        (ours.committed_tcb, theirs.committed_tcb),
        (ours.launch_tcb, theirs.launch_tcb),
    ] {
        assert_eq!(ours.fmc, theirs.fmc);
        assert_eq!(
            (ours.bootloader, ours.tee, ours.snp, ours.microcode),
            (theirs.bootloader, theirs.tee, theirs.snp, theirs.microcode)
        );
    }
    assert_eq!(ours.current.to_string(), theirs.current.to_string());
    assert_eq!(ours.committed.to_string(), theirs.committed.to_string());
    assert_eq!(ours.launch_mit_vector, theirs.launch_mit_vector);
    assert_eq!(ours.current_mit_vector, theirs.current_mit_vector);
}

/// Runs on every machine: the crate `sev` carries a genuine Milan report with its leaf. Its revocation list is a vector.
#[test]
fn the_milan_report_of_sev_verifies() {
    let data = sev_dir().join("tests/certs_data");
    let text = fs::read_to_string(data.join("report_milan.hex")).unwrap();
    let mut case = common::Genuine {
        name: "milan of sev".to_owned(),
        report: hex::decode(text.trim()).unwrap(),
        leaf: fs::read(data.join("vcek_milan.der")).unwrap(),
        // Without the list, step 9 is reached and refuses: the leaf and its chain are accepted.
        crl: vec![0],
        asvk: Vec::new(),
    };
    assert_eq!(case.code(&hardware(), at(IN_FORCE)), "CRL_MALFORMED");
    let bytes: [u8; 1184] = case.report.clone().try_into().unwrap();
    sev_verifies(&case, &AttestationReport::from_bytes(&bytes).unwrap(), Product::Milan);

    let Some(dir) = vectors("the_milan_report_of_sev_verifies (steps 9 to 13)") else { return };
    case.crl = fs::read(dir.join("amd-ca/milan_vcek.crl")).unwrap();
    let authentic = case.verify(&hardware(), at(IN_FORCE)).unwrap();
    compare(&snp(&authentic).report, &AttestationReport::from_bytes(&bytes).unwrap());
}

fn anchor(name: &str) -> Vec<u8> {
    let pem = fs::read_to_string(format!("{}/anchors/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap();
    der::Document::from_pem(&pem).unwrap().1.into_vec()
}

fn subject(certificate: &[u8]) -> Vec<u8> {
    x509_cert::Certificate::from_der(certificate).unwrap().tbs_certificate().subject().to_der().unwrap()
}

/// A chain of one's own under AMD's very names: names prove nothing, and no authority is taken from a peer.
#[test]
fn a_self_made_chain_with_amds_names_is_refused() {
    let products = [("milan", "Milan", [0x19, 1]), ("genoa", "Genoa", [0x19, 0x11]), ("turin", "Turin", [0x1a, 2])];
    for (product, named, cpuid) in products {
        let (ark, ask) = (subject(&anchor(&format!("ark_{product}"))), subject(&anchor(&format!("ask_{product}"))));
        let mut case = sim().with_leaf(|leaf| {
            leaf.drop_extension(SIMULATED_MARKER_OID);
            leaf.subject = name("SEV-VCEK");
            leaf.issuer.clone_from(&ask);
            leaf.extension(&format!("{AMD}.2")).value = tlv(0x16, named.as_bytes());
            leaf.extensions.push(ext(&format!("{AMD}.3.9"), integer(1)));
        });
        case.report = sim().with_report(|r| r[0x188..0x18a].copy_from_slice(&cpuid)).report;
        case.crl = sim().with_crl(|list| list.issuer.clone_from(&ark)).crl;
        let error = case.verify(&hardware(), at("2026-06-01T00:00:00Z")).unwrap_err();
        assert_eq!((error.step(), error.code(), error.exit()), (8, "LEAF_SIGNATURE", 2), "{product}");
        // AMD's own authorities are no leaf.
        for ca in ["ark", "ask"] {
            let as_leaf = common::Genuine { leaf: anchor(&format!("{ca}_{product}")), ..case.clone() };
            assert_eq!(as_leaf.code(&hardware(), at("2026-06-01T00:00:00Z")), "LEAF_NAME");
        }
    }
}

/// A genuine machine with a list of one's own under the ARK's very name.
#[test]
fn a_self_made_list_with_amds_names_is_refused() {
    let data = sev_dir().join("tests/certs_data");
    let text = fs::read_to_string(data.join("report_milan.hex")).unwrap();
    let case = common::Genuine {
        report: hex::decode(text.trim()).unwrap(),
        leaf: fs::read(data.join("vcek_milan.der")).unwrap(),
        crl: sim().with_crl(|list| list.issuer = subject(&anchor("ark_milan"))).crl,
        ..common::Genuine::default()
    };
    let error = case.verify(&hardware(), at("2026-06-01T00:00:00Z")).unwrap_err();
    assert_eq!((error.step(), error.code(), error.exit()), (9, "CRL_SIGNATURE", 2));
}
