//! Turns the simulated machine's leaf into the cases of step 7: every rule that needs no other certificate.
//! It does not judge them.

use vouchsafe_attestation::anchors::SIMULATED_MARKER_OID as MARKER;

use crate::{
    cases::{Cases, Files, appraised, authentic, file, refused, unwanted},
    common::{
        Genuine,
        forge::{AMD, Cert, ext, integer, name, oid, pss, seq, sim, tlv},
    },
    policy, root,
};

pub fn cases(cases: &mut Cases) {
    shape(cases);
    key_and_name(cases);
    extensions(cases);
}

fn leaf(cases: &mut Cases, name: &str, what: &str, code: &'static str, change: impl FnOnce(&mut Cert)) {
    let leaf = sim().with_leaf(change).leaf;
    cases.case(&format!("leaf-{name}"), what, refused(7, code), file("leaf.der", leaf));
}

fn shape(cases: &mut Cases) {
    let good = crate::snp::good().leaf.clone();
    let mut raw = |name: &str, what: &str, bytes: Vec<u8>| {
        cases.case(&format!("leaf-{name}"), what, refused(7, "LEAF_MALFORMED"), file("leaf.der", bytes));
    };
    raw("truncated", "The leaf's last byte is missing.", good[..good.len() - 1].to_vec());
    raw("trailing-byte", "A byte follows the leaf.", [good.as_slice(), &[0]].concat());
    raw("tag", "The leaf's outermost tag is SET.", [&[0x31], &good[1..]].concat());
    raw(
        "pem",
        "The leaf is PEM instead of DER.",
        der::Document::try_from(good.as_slice())
            .unwrap()
            .to_pem("CERTIFICATE", der::pem::LineEnding::LF)
            .unwrap()
            .into_bytes(),
    );
    leaf(cases, "version-2", "The leaf is an X.509 version 2 certificate.", "LEAF_MALFORMED", |l| {
        l.version = integer(1)
    });
    leaf(cases, "serial-negative", "The leaf's serial number is negative.", "LEAF_MALFORMED", |l| {
        l.serial = tlv(2, &[0x80])
    });
    leaf(cases, "serial-padded", "The leaf's serial number has a leading zero byte.", "LEAF_MALFORMED", |l| {
        l.serial = tlv(2, &[0, 0])
    });
    leaf(cases, "date", "The leaf's end date lacks a digit.", "LEAF_MALFORMED", |l| {
        l.not_after = tlv(0x17, b"2701010000Z")
    });
    leaf(
        cases,
        "outer-algorithm",
        "The algorithm outside the signature is not the one inside.",
        "LEAF_MALFORMED",
        |l| l.outer_algorithm = pss(true),
    );
    let plain = seq(&[oid("1.2.840.113549.1.1.12"), tlv(5, &[])]);
    leaf(cases, "algorithm", "The leaf names RSA PKCS 1.5.", "LEAF_ALGORITHM", |l| {
        l.algorithm.clone_from(&plain);
        l.outer_algorithm = plain;
    });
    let trailer = sim().with_leaf(|l| {
        l.algorithm = pss(true);
        l.outer_algorithm = pss(true);
    });
    cases.case(
        "accepted-leaf-with-trailer-field",
        "Nothing: the leaf's algorithm writes the default trailer field, as some genuine ones do.",
        authentic(),
        file("leaf.der", trailer.leaf),
    );
}

fn key_and_name(cases: &mut Cases) {
    let key = |curve: &str, point: &[u8]| {
        seq(&[seq(&[oid("1.2.840.10045.2.1"), oid(curve)]), tlv(3, &[&[0], point].concat())])
    };
    const P384: &str = "1.3.132.0.34";
    leaf(cases, "key-short", "The leaf's key lacks its last byte.", "LEAF_KEY", |l| l.spki = key(P384, &[4; 96]));
    leaf(cases, "key-compressed", "The leaf's key is a compressed point.", "LEAF_KEY", |l| {
        l.spki = key(P384, &[2; 49])
    });
    leaf(cases, "key-p256", "The leaf's key is on P-256.", "LEAF_KEY", |l| {
        l.spki = key("1.2.840.10045.3.1.7", &[4; 65])
    });
    let off = sim().with_leaf(|l| l.spki = key(P384, &[4; 97])).leaf;
    cases.case(
        "signature-key-off-the-curve",
        "The leaf's key is no point of the curve.",
        refused(10, "SIGNATURE_INVALID"),
        file("leaf.der", off),
    );
    for (case, cn) in
        [("amd", "SEV-VCEK"), ("amd-vlek", "SEV-VLEK"), ("space", "SEV-SIM "), ("case", "sev-sim"), ("empty", "")]
    {
        let what = format!("The leaf's common name is '{cn}'.");
        leaf(cases, &format!("name-{case}"), &what, "LEAF_NAME", |l| l.subject = name(cn));
    }
    let twice = [name("SEV-SIM"), name("SEV-SIM")].map(|n| n[2..].to_vec()).concat();
    leaf(cases, "name-twice", "The leaf has two common names.", "LEAF_NAME", |l| l.subject = tlv(0x30, &twice));
    leaf(cases, "ask-as-leaf", "The ASK's name stands in the leaf.", "LEAF_NAME", |l| l.subject = name("ASK-SIM"));
    leaf(cases, "without-marker", "The leaf lacks the simulation marker.", "LEAF_NOT_SIMULATED", |l| {
        l.drop_extension(MARKER)
    });
    leaf(cases, "marker-critical", "The leaf's simulation marker is critical.", "LEAF_EXTENSION_CRITICAL", |l| {
        l.extension(MARKER).critical = true
    });
    cases.case(
        "leaf-under-hardware",
        "The simulated leaf is offered under the hardware anchors.",
        refused(7, "LEAF_SIMULATED").with("anchors = \"hardware\""),
        Files::new(),
    );
}

fn extensions(cases: &mut Cases) {
    for (n, of) in [
        ("2", "product"),
        ("3.1", "boot loader"),
        ("3.2", "TEE"),
        ("3.3", "SNP firmware"),
        ("3.8", "microcode"),
        ("4", "hardware id"),
    ] {
        let id = format!("{AMD}.{n}");
        let short = n.replace('.', "-");
        leaf(
            cases,
            &format!("extension-missing-{short}"),
            &format!("The leaf lacks its {of}."),
            "LEAF_EXTENSION_MISSING",
            |l| l.drop_extension(&id),
        );
        leaf(
            cases,
            &format!("extension-twice-{short}"),
            &format!("The leaf states its {of} twice."),
            "LEAF_EXTENSION_DUPLICATE",
            |l| {
                let again = l.extension(&id).clone();
                l.extensions.push(again);
            },
        );
    }
    let microcode = format!("{AMD}.3.8");
    for (case, what, value) in [
        ("padded", "has a leading zero byte", tlv(2, &[0, 0x19])),
        ("negative", "is negative", tlv(2, &[0x99])),
        ("large", "has two bytes", tlv(2, &[1, 0])),
        ("octets", "is an OCTET STRING", tlv(4, &[0x19])),
        ("empty", "is empty", vec![]),
        ("trailing", "is followed by a byte", vec![2, 1, 0x19, 0]),
    ] {
        let what = format!("The leaf's microcode version {what}.");
        leaf(cases, &format!("extension-value-{case}"), &what, "LEAF_EXTENSION_VALUE", |l| {
            l.extension(&microcode).value = value
        });
    }
    leaf(cases, "extension-critical", "The leaf has an unknown critical extension.", "LEAF_EXTENSION_CRITICAL", |l| {
        let mut unknown = ext("1.2.3.4", integer(1));
        unknown.critical = true;
        l.extensions.push(unknown);
    });
    leaf(cases, "product", "The leaf is a Milan's, the report a Genoa's.", "LEAF_PRODUCT", |l| {
        l.extension(&format!("{AMD}.2")).value = tlv(0x16, b"Milan")
    });
    leaf(cases, "hwid-short", "The hardware id has 8 bytes, as only Turin's has.", "LEAF_HWID", |l| {
        l.extension(&format!("{AMD}.4")).value = vec![0xc1; 8]
    });
}

/// Leaves of loaded keys and their authority.
pub fn vlek(cases: &mut Cases) {
    let report = || crate::snp::report(|r| r[0x48] = 1 << 2);
    let good = sim().good_vlek();
    let of = |machine: &Genuine| {
        let mut files = report();
        files.insert("leaf.der", machine.leaf.clone());
        files.insert("crl.der", machine.crl.clone());
        if !machine.asvk.is_empty() {
            files.insert("asvk.der", machine.asvk.clone());
        }
        files
    };
    cases.case("accepted-vlek", "Nothing: a provider's loaded key under its authority.", authentic(), of(&good));
    let any_machine = |csp: &str| {
        let mut files = of(&good);
        let text = policy::snp(root()).replace("[sev-snp]\n", &format!("[sev-snp]\ncsp = [\"{csp}\"]\n"));
        files.insert("policy.toml", text.into_bytes());
        files
    };
    let mut with_own = of(&good);
    with_own.insert("policy.toml", policy::snp(root()).into_bytes());
    cases.case(
        "policy-vlek",
        "A provider's loaded key signed, and the policy names no provider.",
        unwanted("VLEK_NOT_ALLOWED"),
        with_own,
    );
    cases.case(
        "policy-vlek-other-csp",
        "The loaded key is of another provider than the policy names.",
        unwanted("VLEK_NOT_ALLOWED"),
        any_machine("cc.example.org"),
    );
    cases.case(
        "accepted-vlek-by-policy",
        "Nothing: the policy names the provider of the loaded key.",
        appraised(),
        any_machine("cc.example.com"),
    );

    let mut one = |name: &str, what: &str, expect, files| cases.case(name, what, expect, files);
    let csp = format!("{AMD}.5");
    let hwid = format!("{AMD}.4");
    one(
        "vlek-with-chip",
        "A provider's leaf names a chip.",
        refused(7, "LEAF_EXTENSION_UNEXPECTED"),
        of(&sim().with_vlek(|l| l.extensions.push(ext(&hwid, vec![0xc1; 64])))),
    );
    let both = sim().with_leaf(|l| l.extensions.push(ext(&csp, tlv(0x16, b"CN=cc.example.com")))).leaf;
    one(
        "leaf-with-provider",
        "A chip's leaf names a provider.",
        refused(7, "LEAF_EXTENSION_UNEXPECTED"),
        file("leaf.der", both),
    );
    one(
        "vlek-without-csp",
        "A provider's leaf names no provider.",
        refused(7, "LEAF_EXTENSION_MISSING"),
        of(&sim().with_vlek(|l| l.drop_extension(&csp))),
    );
    one(
        "vlek-csp-empty",
        "The provider's name is empty.",
        refused(7, "LEAF_CSP"),
        of(&sim().with_vlek(|l| l.extension(&csp).value = tlv(0x16, b"CN="))),
    );
    one(
        "vlek-csp-control",
        "The provider's name holds a control character.",
        refused(7, "LEAF_CSP"),
        of(&sim().with_vlek(|l| l.extension(&csp).value = tlv(0x16, b"CN=a\nb"))),
    );
    one(
        "vlek-without-asvk",
        "A provider's leaf came without its authority.",
        refused(8, "ASVK_MISSING").exit(3),
        of(&Genuine { asvk: vec![], ..good.clone() }),
    );
    one(
        "vcek-with-asvk",
        "A chip's leaf came with an authority of loaded keys.",
        refused(8, "ASVK_UNEXPECTED"),
        file("asvk.der", good.asvk.clone()),
    );
    one(
        "asvk-too-long",
        "The authority's certificate is one byte above the cap.",
        refused(1, "ASVK_LENGTH"),
        of(&Genuine { asvk: vec![0; 8 * 1024 + 1], ..good.clone() }),
    );
    one(
        "asvk-truncated",
        "The authority's certificate lacks its last byte.",
        refused(8, "ASVK_MALFORMED"),
        of(&Genuine { asvk: good.asvk[..good.asvk.len() - 1].to_vec(), ..good.clone() }),
    );
    one(
        "asvk-without-marker",
        "The authority lacks the simulation marker.",
        refused(8, "ASVK_MARKER"),
        of(&sim().with_asvk(|a| a.drop_extension(MARKER))),
    );
    one(
        "asvk-name",
        "The authority has the ASK's name.",
        refused(8, "ASVK_NAME"),
        of(&sim().with_asvk(|a| a.subject = name("ASK-SIM"))),
    );
    let plain = seq(&[oid("1.2.840.113549.1.1.12"), tlv(5, &[])]);
    one(
        "asvk-algorithm",
        "The authority's certificate names RSA PKCS 1.5.",
        refused(8, "ASVK_ALGORITHM"),
        of(&sim().with_asvk(|a| {
            a.algorithm.clone_from(&plain);
            a.outer_algorithm.clone_from(&plain);
        })),
    );
    one(
        "asvk-issuer",
        "The authority names the ASK as its issuer.",
        refused(8, "ASVK_ISSUER"),
        of(&sim().with_asvk(|a| a.issuer = name("ASK-SIM"))),
    );
    one(
        "asvk-self-signed",
        "The authority signed its own certificate.",
        refused(8, "ASVK_SIGNATURE"),
        of(&Genuine { asvk: sim().asvk_cert().sign(&sim().asvk), ..good.clone() }),
    );
    one(
        "vlek-signed-by-ask",
        "A provider's leaf is signed by the ASK.",
        refused(8, "LEAF_SIGNATURE"),
        of(&Genuine { leaf: sim().vlek().sign(&sim().ask), ..good.clone() }),
    );
    one(
        "vlek-issuer",
        "A provider's leaf names the ASK as its issuer.",
        refused(8, "LEAF_ISSUER"),
        of(&sim().with_vlek(|l| l.issuer = name("ASK-SIM"))),
    );
    one(
        "crl-asvk-revoked",
        "The revocation list has the serial of the authority of loaded keys.",
        refused(9, "ASVK_REVOKED"),
        of(&Genuine { crl: sim().with_crl(|c| c.revoked.push(integer(3))).crl, ..good.clone() }),
    );
    let mut as_vcek = of(&good);
    as_vcek.insert("report.bin", crate::snp::report(|_| ()).remove("report.bin").unwrap());
    one(
        "signer-vlek-passed-as-vcek",
        "The report says that a chip key signed it, and the leaf is a provider's.",
        refused(11, "SIGNER_KEY"),
        as_vcek,
    );
}
