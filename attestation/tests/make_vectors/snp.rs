//! Turns the simulated machine of the forge into SEV-SNP cases, step by step of the orchestrator; the leaf's are in `snp_leaf`.
//! It does not judge them.

use std::sync::OnceLock;

use vouchsafe_attestation::{EvidenceEnvelope, Tee};

use crate::{
    cases::{Cases, Files, appraised, authentic, file, refused},
    common::{
        Genuine,
        forge::{AMD, Crl, bundle, ext, integer, name, oid, pem, pss, seq, sim, tlv},
    },
    policy, root, session, snp_leaf,
};

/// The files of a machine's evidence.
pub fn files(machine: &Genuine) -> Files {
    let Genuine { report, leaf, crl, asvk, .. } = machine.clone();
    let mut files = Files::from([("report.bin", report), ("leaf.der", leaf), ("crl.der", crl)]);
    if !asvk.is_empty() {
        files.insert("asvk.der", asvk);
    }
    files
}

/// A report with a change under its signature.
pub fn report(change: impl FnOnce(&mut [u8; 1184])) -> Files {
    file("report.bin", signed(change))
}

/// The last 16 bytes of REPORT_DATA are zero, as a key release has them: the base can then be appraised.
fn signed(change: impl FnOnce(&mut [u8; 1184])) -> Vec<u8> {
    let with = |r: &mut [u8; 1184]| {
        r[0x80..0x90].fill(0);
        change(r);
    };
    sim().with_report(with).report
}

/// The base's machine, signed once: a case that spoils bytes spoils those of the base, and no other good signature is about.
pub fn good() -> &'static Genuine {
    static GOOD: OnceLock<Genuine> = OnceLock::new();
    GOOD.get_or_init(|| Genuine { report: signed(|_| ()), ..sim().good() })
}

/// A report with a change after its signature.
fn unsigned(change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut report = good().report.clone();
    change(&mut report);
    file("report.bin", report)
}

fn list(change: impl FnOnce(&mut Crl)) -> Files {
    file("crl.der", sim().with_crl(change).crl)
}

pub fn cases(cases: &mut Cases) {
    let good = good();
    let mut base = files(good);
    base.insert("policy.toml", policy::snp(root()).into_bytes());
    base.insert("root.pem", root().to_vec());
    let envelope =
        EvidenceEnvelope::sev_snp(base["report.bin"].clone(), base["leaf.der"].clone(), base["crl.der"].clone());
    base.insert("envelope.json", serde_json::to_vec(&envelope).unwrap());
    cases.base(base);
    accepted(cases);
    anchors(cases);
    sizes_and_frame(cases);
    reserved_and_product(cases);
    snp_leaf::cases(cases);
    snp_leaf::vlek(cases);
    chain(cases);
    revocation(cases);
    signature(cases);
    meaning(cases);
    policy::snp_cases(cases);
    session::cases(cases, Tee::SevSnp, &|data| report(|r| r[0x50..0x90].copy_from_slice(&data)));
}

fn accepted(cases: &mut Cases) {
    let v3 = report(|r| r[0] = 3);
    cases.case("accepted-version-3", "Nothing: a version 3 report.", authentic(), v3);
    let v2 = report(|r| {
        r[0] = 2;
        r[0x188..0x18b].fill(0);
    });
    cases.case("accepted-version-2", "Nothing: a version 2 report, which names no processor.", authentic(), v2);
    let masked = report(|r| r[0x1a0..0x1e0].fill(0));
    cases.case("accepted-masked-chip", "Nothing for verification: the host masks the chip id.", authentic(), masked);
    let author = report(|r| {
        r[0x48] = 1;
        r[0x110] = 1;
    });
    cases.case("accepted-author-key", "Nothing: an author key with its digest.", authentic(), author);
    let agent = report(|r| {
        r[0x0a] |= 4;
        r[0x160] = 0;
    });
    cases.case(
        "accepted-migration-agent",
        "Nothing for verification: a migration agent that the guest policy allows.",
        authentic(),
        agent,
    );
    let platform = report(|r| r[0x40..0x48].fill(0xff));
    cases.case(
        "accepted-unknown-platform-bits",
        "Nothing: PLATFORM_INFO has bits that newer machines set.",
        authentic(),
        platform,
    );
    let empty = list(|c| c.revoked.clear());
    cases.case("accepted-empty-list", "Nothing: a revocation list without entries.", authentic(), empty);
    let last = authentic().at("2027-01-01T00:00:00Z");
    cases.case("accepted-last-second", "Nothing: the last second of leaf and list.", last, Files::new());
    let first = authentic().at("2026-01-01T00:00:00Z");
    cases.case("accepted-first-second", "Nothing: the first second of leaf and list.", first, Files::new());
    cases.case("accepted-by-policy", "Nothing: the base under its policy.", appraised(), Files::new());
}

fn anchors(cases: &mut Cases) {
    let sim = sim();
    let good = root().to_vec();
    let (ark, ask) = (sim.ark_cert().sign(&sim.ark), sim.ask_cert().sign(&sim.ark));
    let tdx = sim.tdx_root_cert().sign_p256(&sim.tdx_root);
    let mut one = |name: &str, what: &str, code, bytes: Vec<u8>| {
        cases.case(name, what, refused(0, code), file("root.pem", bytes));
    };
    one("anchor-order", "The root file has the ASK before the ARK.", "ANCHOR_NAME", bundle(&ask, &ark, &tdx));
    one(
        "anchor-doubled",
        "The root file holds its certificates twice.",
        "ANCHOR_MALFORMED",
        [good.clone(), good.clone()].concat(),
    );
    one("anchor-truncated", "The root file ends in the middle.", "ANCHOR_MALFORMED", good[..good.len() / 2].to_vec());
    one("anchor-empty", "The root file is empty.", "ANCHOR_MALFORMED", Vec::new());
    let self_made = bundle(&ark, &sim.ask_cert().sign(&sim.ask), &tdx);
    one(
        "anchor-ask-signed-by-itself",
        "The ASK is signed by its own key instead of the ARK's.",
        "ANCHOR_SIGNATURE",
        self_made,
    );
    let not_self = bundle(&sim.ark_cert().sign(&sim.ask), &ask, &tdx);
    one("anchor-ark-signed-by-ask", "The ARK is signed by the ASK's key.", "ANCHOR_SIGNATURE", not_self);
    let marker = vouchsafe_attestation::anchors::SIMULATED_MARKER_OID;
    let mut bare = sim.ask_cert();
    bare.drop_extension(marker);
    one(
        "anchor-ask-without-marker",
        "The ASK of the simulated root lacks the simulation marker.",
        "ANCHOR_MARKER",
        sim.bundle(&sim.ark_cert(), &bare),
    );
    let mut bare = sim.ark_cert();
    bare.drop_extension(marker);
    one(
        "anchor-ark-without-marker",
        "The ARK of the simulated root lacks the simulation marker.",
        "ANCHOR_MARKER",
        sim.bundle(&bare, &sim.ask_cert()),
    );
    let two = [pem(&ark), pem(&ask)].concat().into_bytes();
    one("anchor-without-tdx", "The root file lacks the root of TDX.", "ANCHOR_MALFORMED", two);
    let mut bare = sim.tdx_root_cert();
    bare.drop_extension(marker);
    one(
        "anchor-tdx-without-marker",
        "The root of TDX in the simulated root lacks the simulation marker.",
        "ANCHOR_MARKER",
        bundle(&ark, &ask, &bare.sign_p256(&sim.tdx_root)),
    );
    let mut named = sim.tdx_root_cert();
    named.subject = name("Intel SGX Root CA");
    one(
        "anchor-tdx-name",
        "The root of TDX in the simulated root has Intel's name.",
        "ANCHOR_NAME",
        bundle(&ark, &ask, &named.sign_p256(&sim.tdx_root)),
    );
    let mut critical = sim.ask_cert();
    critical.extension(marker).critical = true;
    one(
        "anchor-marker-critical",
        "The simulation marker of the ASK is critical.",
        "ANCHOR_MARKER",
        sim.bundle(&sim.ark_cert(), &critical),
    );
    let other = refused(0, "ANCHOR_DIGEST").with(&format!("root_sha256 = \"{}\"", "5a".repeat(32)));
    cases.case("anchor-digest", "The root file is not the one whose digest is expected.", other, Files::new());
}

fn sizes_and_frame(cases: &mut Cases) {
    let good = good();
    let mut one = |name: &str, what: &str, expect, file: Files| cases.case(name, what, expect, file);
    one("leaf-missing", "There is no leaf.", refused(1, "LEAF_MISSING").exit(3), file("leaf.der", []));
    one("crl-missing", "There is no revocation list.", refused(1, "CRL_MISSING").exit(3), file("crl.der", []));
    one(
        "leaf-too-long",
        "The leaf is one byte above the cap.",
        refused(1, "LEAF_LENGTH"),
        file("leaf.der", vec![0; 8 * 1024 + 1]),
    );
    one(
        "crl-too-long",
        "The revocation list is one byte above the cap.",
        refused(1, "CRL_LENGTH"),
        file("crl.der", vec![0; 64 * 1024 + 1]),
    );
    let other = refused(1, "COLLATERAL_KIND").with("collateral = \"tdx\"");
    one("collateral-of-tdx", "The collateral is TDX's.", other, Files::new());
    let report = |bytes: &[u8]| file("report.bin", bytes);
    let length = || refused(2, "REPORT_LENGTH");
    one("report-empty", "The report is empty.", length(), report(&[]));
    one("report-truncated", "The report's last byte is missing.", length(), report(&good.report[..1183]));
    one("report-trailing-byte", "A byte follows the report.", length(), report(&[&good.report[..], &[0]].concat()));
    one(
        "report-with-its-guest-header",
        "The 32 bytes of the guest message stand before the report.",
        length(),
        report(&[&[0; 32], &good.report[..]].concat()),
    );
    one(
        "report-signed-area-only",
        "Only the signed part of the report is there.",
        length(),
        report(&good.report[..0x2a0]),
    );
    for version in [0_u8, 1, 4, 6] {
        let file = self::report(|r| r[0] = version);
        one(
            &format!("version-{version}"),
            &format!("The report says version {version}."),
            refused(3, "REPORT_VERSION"),
            file,
        );
    }
    one(
        "version-high-byte",
        "The version's highest byte is set.",
        refused(3, "REPORT_VERSION"),
        self::report(|r| r[3] = 1),
    );
    one(
        "algorithm-0",
        "The report names signature algorithm 0.",
        refused(4, "SIGNATURE_ALGORITHM"),
        self::report(|r| r[0x34] = 0),
    );
    one(
        "algorithm-high-byte",
        "The algorithm's highest byte is set.",
        refused(4, "SIGNATURE_ALGORITHM"),
        self::report(|r| r[0x37] = 1),
    );
}

fn reserved_and_product(cases: &mut Cases) {
    for offset in [0x04c_usize, 0x18b, 0x1eb, 0x1ef, 0x208, 0x29f] {
        let what = format!("The reserved byte at {offset:#05x} is set, under the signature.");
        cases.case(&format!("reserved-{offset:03x}"), &what, refused(5, "REPORT_RESERVED"), report(|r| r[offset] = 1));
    }
    let mut one = |name: &str, what: &str, change: fn(&mut [u8; 1184])| {
        cases.case(name, what, refused(5, "REPORT_RESERVED"), report(change));
    };
    one("reserved-policy-bit-17", "POLICY bit 17, which must be one, is zero.", |r| r[0x0a] &= !2);
    one("reserved-policy-bit-26", "POLICY bit 26, which must be zero, is one.", |r| r[0x0b] = 4);
    one("reserved-key-info", "A reserved bit of the key information is set.", |r| r[0x48] = 0x20);
    one(
        "reserved-version-2-with-cpuid",
        "A version 2 report names a processor, where version 2 has reserved bytes.",
        |r| r[0] = 2,
    );
    one(
        "reserved-version-3-with-mitigations",
        "A version 3 report has a mitigation vector, which came with version 5.",
        |r| {
            r[0] = 3;
            r[0x1f8] = 1;
        },
    );
    for offset in [0x2d0_usize, 0x2e7, 0x318, 0x330, 0x49f] {
        let what = format!("The unsigned padding byte at {offset:#05x} is set.");
        cases.case(
            &format!("padding-{offset:03x}"),
            &what,
            refused(5, "SIGNATURE_PADDING"),
            unsigned(|r| r[offset] = 1),
        );
    }
    cases.case(
        "product-family",
        "The report names a processor family that is not known.",
        refused(6, "PRODUCT_UNKNOWN"),
        report(|r| r[0x188] = 0x17),
    );
    cases.case(
        "product-model",
        "The report names a model of a known family that is not known.",
        refused(6, "PRODUCT_UNKNOWN"),
        report(|r| r[0x189] = 0x20),
    );
}

fn chain(cases: &mut Cases) {
    let sim = sim();
    cases.case(
        "chain-issuer",
        "The leaf names the ARK as its issuer.",
        refused(8, "LEAF_ISSUER"),
        file("leaf.der", sim.with_leaf(|l| l.issuer = name("ARK-SIM")).leaf),
    );
    cases.case(
        "chain-signed-by-ark",
        "The leaf names the ASK and is signed by the ARK.",
        refused(8, "LEAF_SIGNATURE"),
        file("leaf.der", sim.leaf().sign(&sim.ark)),
    );
    let mut leaf = good().leaf.clone();
    *leaf.last_mut().unwrap() ^= 1;
    cases.case(
        "chain-signature-bit",
        "The last bit of the leaf's signature is flipped.",
        refused(8, "LEAF_SIGNATURE"),
        file("leaf.der", leaf),
    );
    let mut files = report(|r| r[0x188..0x18a].copy_from_slice(&[0x1a, 0x02]));
    let mut leaf = sim.leaf();
    leaf.extension(&format!("{AMD}.2")).value = tlv(0x16, b"Turin");
    leaf.extension(&format!("{AMD}.4")).value = vec![0xc1; 8];
    leaf.extensions.push(ext(&format!("{AMD}.3.9"), integer(1)));
    files.insert("leaf.der", leaf.sign(&sim.ask));
    cases.case(
        "chain-product-without-root",
        "Report and leaf are Turin's, and the root covers Genoa only.",
        refused(8, "ANCHOR_MISSING"),
        files,
    );
    let mut dates = |name: &str, what: &str, code, at: &str| {
        cases.case(name, what, refused(8, code).exit(3).at(at), Files::new());
    };
    dates(
        "chain-leaf-expired",
        "The clock is one second after the leaf's last.",
        "LEAF_EXPIRED",
        "2027-01-01T00:00:01Z",
    );
    dates(
        "chain-root-not-yet",
        "The clock is one second before the root's first.",
        "ANCHOR_NOT_YET_VALID",
        "2025-12-31T23:59:59Z",
    );
    dates(
        "chain-root-expired",
        "The clock is one second after the root's last.",
        "ANCHOR_EXPIRED",
        "2051-01-01T00:00:01Z",
    );
    let later = file("leaf.der", sim.with_leaf(|l| l.not_before = tlv(0x17, b"260701000000Z")).leaf);
    cases.case(
        "chain-leaf-not-yet",
        "The leaf begins a month from now.",
        refused(8, "LEAF_NOT_YET_VALID").exit(3),
        later,
    );
}

fn revocation(cases: &mut Cases) {
    let sim = sim();
    let good = good();
    let mut one = |name: &str, what: &str, code, list: Files| cases.case(name, what, refused(9, code), list);
    let crl = |bytes: &[u8]| file("crl.der", bytes);
    one(
        "crl-truncated",
        "The revocation list's last byte is missing.",
        "CRL_MALFORMED",
        crl(&good.crl[..good.crl.len() - 1]),
    );
    one(
        "crl-trailing-byte",
        "A byte follows the revocation list.",
        "CRL_MALFORMED",
        crl(&[&good.crl[..], &[0]].concat()),
    );
    one("crl-is-the-leaf", "The leaf stands in place of the revocation list.", "CRL_MALFORMED", crl(&good.leaf));
    one(
        "crl-tag",
        "The revocation list's outermost tag is SET.",
        "CRL_MALFORMED",
        crl(&[&[0x31], &good.crl[1..]].concat()),
    );
    one("crl-without-number", "The revocation list has no number.", "CRL_MALFORMED", list(|c| c.extensions.clear()));
    one(
        "crl-number-twice",
        "The revocation list has two numbers.",
        "CRL_MALFORMED",
        list(|c| c.extensions.push(c.extensions[0].clone())),
    );
    one(
        "crl-without-next-update",
        "The revocation list does not say when the next one comes.",
        "CRL_MALFORMED",
        list(|c| c.next_update = vec![]),
    );
    let plain = seq(&[oid("1.2.840.113549.1.1.12"), tlv(5, &[])]);
    one(
        "crl-algorithm",
        "The revocation list names RSA PKCS 1.5.",
        "CRL_ALGORITHM",
        list(|c| {
            c.algorithm.clone_from(&plain);
            c.outer_algorithm = plain;
        }),
    );
    one(
        "crl-outer-algorithm",
        "The list's algorithm outside the signature is not the one inside.",
        "CRL_MALFORMED",
        list(|c| c.outer_algorithm = pss(false)),
    );
    one(
        "crl-delta",
        "The revocation list is a delta to another.",
        "CRL_EXTENSION_CRITICAL",
        list(|c| {
            let mut delta = ext("2.5.29.27", integer(1));
            delta.critical = true;
            c.extensions.push(delta);
        }),
    );
    one(
        "crl-issuer",
        "The revocation list names the ASK as its issuer.",
        "CRL_ISSUER",
        list(|c| c.issuer = name("ASK-SIM")),
    );
    one(
        "crl-signed-by-ask",
        "The revocation list names the ARK and is signed by the ASK.",
        "CRL_SIGNATURE",
        crl(&sim.crl().sign(&sim.ask)),
    );
    one(
        "crl-ask-revoked",
        "The revocation list has the serial of the ASK.",
        "ASK_REVOKED",
        list(|c| c.revoked.push(integer(2))),
    );
    let future = list(|c| c.this_update = tlv(0x17, b"260701000000Z"));
    cases.case(
        "crl-from-the-future",
        "The revocation list is from next month.",
        refused(9, "CRL_NOT_YET_VALID").exit(3),
        future,
    );
    let past = list(|c| c.next_update = tlv(0x17, b"260501000000Z"));
    cases.case(
        "crl-expired",
        "The revocation list should have been replaced a month ago.",
        refused(9, "CRL_EXPIRED").exit(3),
        past,
    );
    let without = list(|c| {
        c.algorithm = pss(false);
        c.outer_algorithm = pss(false);
    });
    cases.case(
        "accepted-list-without-trailer-field",
        "Nothing: the list's algorithm leaves the default trailer field out.",
        authentic(),
        without,
    );
}

fn signature(cases: &mut Cases) {
    for (offset, field) in [
        (0x004_usize, "GUEST_SVN"),
        (0x050, "REPORT_DATA"),
        (0x08f, "the last byte of REPORT_DATA"),
        (0x090, "MEASUREMENT"),
        (0x0c0, "HOST_DATA"),
        (0x180, "REPORTED_TCB"),
        (0x1a0, "CHIP_ID"),
        (0x2a0, "R"),
        (0x317, "S"),
    ] {
        let what = format!("A bit of {field} is flipped after signing.");
        cases.case(
            &format!("signature-{offset:03x}"),
            &what,
            refused(10, "SIGNATURE_INVALID"),
            unsigned(|r| r[offset] ^= 1),
        );
    }
    cases.case(
        "signature-zero",
        "The signature is all zeros.",
        refused(10, "SIGNATURE_INVALID"),
        unsigned(|r| r[0x2a0..].fill(0)),
    );
    cases.case(
        "signature-swapped",
        "R and S are swapped.",
        refused(10, "SIGNATURE_INVALID"),
        unsigned(|r| {
            let (first, second) = r.split_at_mut(0x2e8);
            first[0x2a0..0x2d0].swap_with_slice(&mut second[..0x30]);
        }),
    );
}

fn meaning(cases: &mut Cases) {
    let mut one = |name: &str, what: &str, step, code, change: fn(&mut [u8; 1184])| {
        cases.case(name, what, refused(step, code), report(change));
    };
    one("signer-vlek", "The report says that a VLEK signed it, and the leaf is a chip's.", 11, "SIGNER_KEY", |r| {
        r[0x48] = 1 << 2
    });
    one("signer-none", "The report says that nothing signed it.", 11, "SIGNER_KEY", |r| r[0x48] = 7 << 2);
    one("signer-unknown", "The report names a kind of key that does not exist.", 11, "SIGNER_KEY", |r| {
        r[0x48] = 3 << 2
    });
    one(
        "signer-masked",
        "The report says that the chip key is masked, yet the chip key signed it.",
        11,
        "SIGNER_MASKED",
        |r| r[0x48] = 2,
    );
    one(
        "signer-author-without-digest",
        "The report claims an author key and gives no digest of it.",
        11,
        "SIGNER_AUTHOR_KEY",
        |r| r[0x48] = 1,
    );
    one(
        "signer-digest-without-author",
        "The report gives an author key digest and claims no author key.",
        11,
        "SIGNER_AUTHOR_KEY",
        |r| r[0x110] = 1,
    );
    one(
        "tcb-boot-loader",
        "The leaf was issued for another boot loader than REPORTED_TCB says.",
        12,
        "TCB_MISMATCH",
        |r| r[0x180] ^= 1,
    );
    one("tcb-tee", "The leaf was issued for another TEE version.", 12, "TCB_MISMATCH", |r| r[0x181] ^= 1);
    one("tcb-snp", "The leaf was issued for another SNP firmware.", 12, "TCB_MISMATCH", |r| r[0x186] ^= 1);
    one("tcb-microcode", "The leaf was issued for other microcode.", 12, "TCB_MISMATCH", |r| r[0x187] ^= 1);
    one("tcb-reserved-current", "A reserved byte of CURRENT_TCB is set.", 12, "TCB_RESERVED", |r| r[0x03b] = 1);
    one("tcb-reserved-committed", "A reserved byte of COMMITTED_TCB is set.", 12, "TCB_RESERVED", |r| r[0x1e3] = 1);
    one("tcb-reserved-launch", "A reserved byte of LAUNCH_TCB is set.", 12, "TCB_RESERVED", |r| r[0x1f3] = 1);
    one("identity-chip", "CHIP_ID is another chip's than the leaf's.", 13, "HWID_MISMATCH", |r| r[0x1a0] ^= 1);
    one("identity-chip-half-masked", "All of CHIP_ID but its first byte is masked.", 13, "HWID_MISMATCH", |r| {
        r[0x1a1..0x1e0].fill(0)
    });
    one("identity-host-requested", "The host asked for the report, not the guest.", 13, "HOST_REQUESTED", |r| {
        r[0x30..0x34].fill(0xff)
    });
    one("identity-vmpl-4", "The privilege level is 4.", 13, "VMPL_RANGE", |r| r[0x30] = 4);
    one(
        "identity-migration-agent",
        "A migration agent is bound although the guest policy forbids one.",
        13,
        "REPORT_ID_MA",
        |r| r[0x160] = 0,
    );
}
