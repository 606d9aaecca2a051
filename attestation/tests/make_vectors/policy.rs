//! Turns the base policy and single changes to it, or to the evidence, into the cases of appraisal and of policy files.
//! It does not judge them.

use vouchsafe_attestation::lp::sha256;

use crate::{
    cases::{Cases, Files, appraised, file, no_policy, unwanted},
    common::forge::{AMD, Cert, integer, sim},
    root,
    snp::report,
};

/// The policy of the simulated SEV-SNP machine: everything written, nothing `any`.
pub fn snp(root: &[u8]) -> String {
    let sim = sim();
    let report = sim.report();
    format!(
        "version = 1\nname = \"vectors\"\nmode = \"simulation\"\ntee = [\"sev-snp\"]\nextends = \"simulation\"\n\n\
         [root]\npath = \"root.pem\"\nsha256 = \"{}\"\n\n\
         [sev-snp]\nmeasurements = [\"{}\"]\nconfig_digests = [\"{}\"]\nplatforms = [\"{}\"]\n\n\
         [[models]]\nid = \"vectors\"\nvendor_keys = [\"ed25519:{}\"]\nmin_sequence = 1\n",
        hex::encode(sha256(root)),
        hex::encode(&report[0x90..0xc0]),
        hex::encode(&report[0xc0..0xe0]),
        hex::encode(sim.chip),
        "5e".repeat(32),
    )
}

/// The base policy with one piece replaced. The piece must be there.
fn edited(from: &str, to: &str) -> Files {
    let text = snp(root());
    assert!(text.contains(from), "{from}");
    file("policy.toml", text.replacen(from, to, 1))
}

/// The base policy with more lines under `[sev-snp]`.
fn rule(lines: &str) -> Files {
    edited("[sev-snp]\n", &format!("[sev-snp]\n{lines}\n"))
}

/// The base policy with a table put before the models.
fn table(lines: &str) -> Files {
    edited("[[models]]", &format!("{lines}\n\n[[models]]"))
}

fn both(one: Files, other: Files) -> Files {
    one.into_iter().chain(other).collect()
}

pub fn snp_cases(cases: &mut Cases) {
    which(cases);
    guest(cases);
    floors(cases);
    lists(cases);
    files(cases);
}

/// Code, configuration, machine, session.
fn which(cases: &mut Cases) {
    let other_data = unwanted("REPORT_DATA_MISMATCH").exit(2).with(&format!(
        "report_data = \"{}{}\"",
        "db".repeat(48),
        "00".repeat(16)
    ));
    cases.case("policy-report-data", "The evidence was made for another handshake.", other_data, Files::new());
    let last = unwanted("REPORT_DATA_MISMATCH").exit(2).with(&format!(
        "report_data = \"{}db{}\"",
        "da".repeat(47),
        "00".repeat(16)
    ));
    cases.case(
        "policy-report-data-last-byte",
        "The evidence differs from what is expected in the last byte of the digest.",
        last,
        Files::new(),
    );
    let shape = unwanted("REPORT_DATA_SHAPE").exit(2);
    cases.case(
        "policy-report-data-shape",
        "REPORT_DATA has the shape of a session's and is offered for a key release.",
        shape,
        report(|r| r[0x8f] = 1),
    );
    let hardware = snp(root()).replacen(
        "mode = \"simulation\"\ntee = [\"sev-snp\"]\nextends = \"simulation\"",
        "mode = \"hardware\"\ntee = [\"sev-snp\"]\nextends = \"hardware-snp-strict\"",
        1,
    );
    let (start, end) = (hardware.find("[root]").unwrap(), hardware.find("[sev-snp]\n").unwrap());
    let hardware = format!("{}{}", &hardware[..start], &hardware[end..]);
    let mixed = unwanted("ROOT_MISMATCH").exit(2).with("codes = [\"ROOT_MISMATCH\", \"MODE_NOT_ALLOWED\"]");
    cases.case(
        "policy-hardware",
        "Evidence verified under the simulated root is appraised under a hardware policy.",
        mixed,
        file("policy.toml", hardware),
    );
    let mut one =
        |name: &str, what: &str, code, files| cases.case(&format!("policy-{name}"), what, unwanted(code), files);
    one(
        "measurement",
        "The measured code differs in its last byte from the policy's.",
        "MEASUREMENT_NOT_ALLOWED",
        report(|r| r[0xbf] ^= 1),
    );
    one(
        "config-digest",
        "HOST_DATA differs in its last byte from the policy's.",
        "CONFIG_DIGEST_NOT_ALLOWED",
        report(|r| r[0xdf] ^= 1),
    );
    one(
        "platform",
        "The machine is not one of the policy's.",
        "PLATFORM_NOT_ALLOWED",
        edited(&hex::encode(sim().chip), &"c2".repeat(64)),
    );
    one("product", "The policy takes Turin only.", "PRODUCT_NOT_ALLOWED", {
        let turin = "[sev-snp.tcb.Turin]\nwritten = \"2026-06-01\"\nsource = \"a vector\"\nfmc = 1\nbootloader = 1\ntee = 1\nsnp = 4\nmicrocode = [{ family = 0x1a, model = 2, min = 0x47 }]\n\n[[models]]";
        let text = snp(root()).replacen("[sev-snp]\n", "[sev-snp]\nproducts = [\"Turin\"]\n", 1).replacen(
            "[[models]]",
            turin,
            1,
        );
        file("policy.toml", text)
    });
    one(
        "version",
        "The report has version 3, and the policy wants 5.",
        "VERSION_TOO_OLD",
        both(report(|r| r[0] = 3), rule("min_version = 5")),
    );
    one("vmpl", "The report was asked for at privilege level 1.", "VMPL_NOT_ALLOWED", report(|r| r[0x30] = 1));
    let sim = sim();
    let mut ark = sim.ark_cert();
    ark.serial = integer(77);
    let other = sim.bundle(&ark, &sim.ask_cert());
    let mut other_root = edited("path = \"root.pem\"", "path = \"other-root.pem\"");
    let text = String::from_utf8(other_root["policy.toml"].clone()).unwrap();
    let own = hex::encode(sha256(root()));
    other_root.insert("policy.toml", text.replace(&own, &hex::encode(sha256(&other))).into_bytes());
    other_root.insert("other-root.pem", other);
    cases.case(
        "policy-other-root",
        "The policy names another simulated root than the one that it was verified under.",
        unwanted("ROOT_MISMATCH").exit(2),
        other_root,
    );
}

/// The guest policy and the platform's switches.
fn guest(cases: &mut Cases) {
    let mut one =
        |name: &str, what: &str, code, files| cases.case(&format!("policy-{name}"), what, unwanted(code), files);
    one("debug", "The host may debug the guest.", "DEBUG_ALLOWED", report(|r| r[0x0a] |= 8));
    one("migration", "The guest may be migrated.", "MIGRATION_ALLOWED", report(|r| r[0x0a] |= 4));
    one("cxl", "The guest may use CXL memory.", "CXL_ALLOWED", report(|r| r[0x0a] |= 0x20));
    let agent = unwanted("MIGRATION_ALLOWED").with("codes = [\"MIGRATION_ALLOWED\", \"MIGRATION_AGENT_PRESENT\"]");
    let bound = report(|r| {
        r[0x0a] |= 4;
        r[0x160] = 0;
    });
    let guest = |line: &str| table(&format!("[sev-snp.guest_policy]\n{line}"));
    one(
        "smt",
        "The guest may share a core with another, and the policy forbids it.",
        "SMT_ALLOWED",
        guest("smt = \"forbidden\""),
    );
    one(
        "single-socket",
        "The guest may span sockets, and the policy forbids it.",
        "SINGLE_SOCKET_NOT_REQUIRED",
        guest("single_socket = \"required\""),
    );
    one(
        "xts",
        "The guest does not demand AES-256-XTS, and the policy does.",
        "AES_256_XTS_NOT_REQUIRED",
        guest("mem_aes_256_xts = \"required\""),
    );
    one(
        "rapl",
        "The guest leaves the power meter on, and the policy does not.",
        "RAPL_NOT_DISABLED",
        guest("rapl_disabled = \"required\""),
    );
    one(
        "ciphertext-hiding",
        "The guest does not demand ciphertext hiding, and the policy does.",
        "CIPHERTEXT_HIDING_NOT_REQUIRED",
        guest("ciphertext_hiding = \"required\""),
    );
    one(
        "page-swap",
        "The guest allows page swapping, and the policy does not.",
        "PAGE_SWAP_NOT_DISABLED",
        guest("page_swap_disabled = \"required\""),
    );
    one(
        "alias-check",
        "The machine did not finish its memory alias check.",
        "ALIAS_CHECK_INCOMPLETE",
        report(|r| r[0x40] = 0x05),
    );
    one(
        "platform-ciphertext-hiding",
        "The machine has ciphertext hiding off, and the policy wants it on.",
        "CIPHERTEXT_HIDING_OFF",
        table("[sev-snp.platform]\nciphertext_hiding = \"required\""),
    );
    one(
        "mitigation",
        "The firmware lacks a mitigation that the policy names.",
        "MITIGATION_MISSING",
        rule("mitigations = 1"),
    );
    one(
        "provisional-build",
        "The running firmware is newer than the committed one.",
        "FIRMWARE_PROVISIONAL",
        report(|r| r[0x1e8] += 1),
    );
    one(
        "provisional-tcb",
        "The running microcode is newer than the committed one.",
        "FIRMWARE_PROVISIONAL",
        report(|r| r[0x3f] += 1),
    );
    one(
        "tcb-inconsistent",
        "The committed microcode is newer than the running one, and the policy allows provisional firmware.",
        "TCB_INCONSISTENT",
        both(report(|r| r[0x1e7] += 1), rule("provisional_firmware = \"allowed\"")),
    );
    one(
        "cpu-model",
        "The microcode floors do not know this model of Genoa.",
        "CPU_MODEL_NOT_LISTED",
        table(
            "[sev-snp.tcb.Genoa]\nwritten = \"2026-06-01\"\nsource = \"a vector\"\nmicrocode = [{ family = 0x19, model = 0xa0, min = 0x19 }]",
        ),
    );
    cases.case("policy-migration-agent", "The guest may be migrated, and a migration agent is bound.", agent, bound);
}

/// Security versions. What is reported must also be the leaf's.
fn floors(cases: &mut Cases) {
    let leaf = |n: u8, value: u8| {
        let change = |l: &mut Cert| l.extension(&format!("{AMD}.3.{n}")).value = integer(value);
        file("leaf.der", sim().with_leaf(change).leaf)
    };
    let mut one = |name: &str, what: &str, files| {
        cases.case(&format!("policy-tcb-{name}"), what, unwanted("TCB_BELOW_FLOOR"), files)
    };
    let reported = report(|r| r[0x186] = 0x16);
    one("reported-snp", "The reported SNP firmware is one below the floor.", both(reported, leaf(3, 0x16)));
    let reported = report(|r| r[0x187] = 0x53);
    one("reported-microcode", "The reported microcode is one below the floor.", both(reported, leaf(8, 0x53)));
    one("launch-snp", "The guest was launched under an SNP firmware one below the floor.", report(|r| r[0x1f6] = 0x16));
    one("launch-microcode", "The guest was launched under microcode one below the floor.", report(|r| r[0x1f7] = 0x53));
    one(
        "committed-snp",
        "The committed SNP firmware is one below the floor, and so is the running one.",
        report(|r| {
            r[0x1e6] = 0x16;
            r[0x03e] = 0x16;
        }),
    );
    one(
        "committed-microcode",
        "The committed microcode is one below the floor, and so is the running one.",
        report(|r| {
            r[0x1e7] = 0x53;
            r[0x03f] = 0x53;
        }),
    );
    one(
        "boot-loader",
        "The boot loader is one below the policy's floor.",
        table("[sev-snp.tcb.Genoa]\nwritten = \"2026-06-01\"\nsource = \"a vector\"\nbootloader = 11"),
    );
    one(
        "tee",
        "The TEE version is one below the policy's floor.",
        table("[sev-snp.tcb.Genoa]\nwritten = \"2026-06-01\"\nsource = \"a vector\"\ntee = 1"),
    );
    let announced = |from: &str| {
        table(&format!(
            "[[sev-snp.tcb.announced]]\nproduct = \"Genoa\"\nfrom = \"{from}\"\nsource = \"a vector\"\nsnp = 0x1a"
        ))
    };
    cases.case(
        "policy-tcb-announced",
        "A higher floor was announced, and its day has come.",
        unwanted("TCB_BELOW_ANNOUNCED_FLOOR"),
        announced("2026-06-01T00:00:00Z"),
    );
    cases.case(
        "accepted-before-the-announced",
        "Nothing: a higher floor is announced for tomorrow.",
        appraised(),
        announced("2026-06-02T00:00:00Z"),
    );
    cases.case("accepted-at-the-floor", "Nothing: every version is exactly at its floor.", appraised(), table(
        "[sev-snp.tcb.Genoa]\nwritten = \"2026-06-01\"\nsource = \"a vector\"\nbootloader = 10\nsnp = 0x19\nmicrocode = [{ family = 0x19, model = 0x11, min = 0xd4 }]",
    ));
}

/// The revocation list's age and number.
fn lists(cases: &mut Cases) {
    let mut one = |name: &str, what: &str, code, files| {
        cases.case(&format!("policy-{name}"), what, unwanted(code).exit(3), files)
    };
    one(
        "crl-age",
        "The revocation list is five months old, and the policy takes ten days.",
        "CRL_TOO_OLD",
        table("[crl]\nmax_age_days = 10"),
    );
    one(
        "crl-number",
        "The revocation list has number 7, and the policy knows 8.",
        "CRL_NUMBER_BELOW_FLOOR",
        table("[crl]\nmin_number = 8"),
    );
    let older = sim().with_crl(|c| c.extensions[0].value = integer(6)).crl;
    one(
        "crl-replayed",
        "An older revocation list is replayed: number 6, and the policy knows 7.",
        "CRL_NUMBER_BELOW_FLOOR",
        both(file("crl.der", older), table("[crl]\nmin_number = 7")),
    );
    let same = table("[crl]\nmin_number = 7");
    cases.case(
        "accepted-crl-number",
        "Nothing: the revocation list has exactly the number that the policy knows.",
        appraised(),
        same,
    );
}

/// Policy files that cannot be used.
fn files(cases: &mut Cases) {
    let mut one =
        |name: &str, what: &str, code, files| cases.case(&format!("file-{name}"), what, no_policy(code), files);
    let text = |text: &str| file("policy.toml", text);
    one("empty", "The policy file is empty.", "POLICY_INCOMPLETE", text(""));
    one("not-toml", "The policy file is no TOML.", "POLICY_INVALID", text("{\"version\": 1}"));
    one("too-large", "The policy file is above the cap.", "POLICY_INVALID", text(&"#\n".repeat(32 * 1024 + 1)));
    one(
        "base-alone",
        "The policy is a base and nothing else.",
        "POLICY_INCOMPLETE",
        text("version = 1\nmode = \"simulation\"\ntee = [\"sev-snp\"]\nextends = \"simulation\"\n"),
    );
    one("version-2", "The policy has version 2.", "POLICY_UNSUPPORTED", edited("version = 1", "version = 2"));
    one(
        "mode-unknown",
        "The policy's mode is a word that does not exist.",
        "POLICY_INVALID",
        edited("mode = \"simulation\"", "mode = \"test\""),
    );
    one(
        "without-mode",
        "The policy does not say its mode.",
        "POLICY_INCOMPLETE",
        edited("mode = \"simulation\"\n", ""),
    );
    one(
        "without-root",
        "The policy names no root.",
        "POLICY_INCOMPLETE",
        edited("[root]\npath = \"root.pem\"", "[root]"),
    );
    one(
        "without-models",
        "The policy names no models.",
        "POLICY_INCOMPLETE",
        edited(
            &format!(
                "[[models]]\nid = \"vectors\"\nvendor_keys = [\"ed25519:{}\"]\nmin_sequence = 1\n",
                "5e".repeat(32)
            ),
            "",
        ),
    );
    one("unknown-field", "A field is misspelt.", "POLICY_INVALID", edited("measurements =", "measurement ="));
    one(
        "floor-without-source",
        "A floor is re-set, and its source is still the base's.",
        "POLICY_INCOMPLETE",
        table("[sev-snp.tcb.Genoa]\nwritten = \"2026-06-01\"\nsnp = 0x18"),
    );
    one(
        "floor-date",
        "A floor was written on a day that does not exist.",
        "POLICY_INVALID",
        table("[sev-snp.tcb.Genoa]\nwritten = \"2026-02-30\"\nsource = \"a vector\"\nsnp = 0x18"),
    );
    one("duplicate-field", "A field is written twice.", "POLICY_INVALID", rule("vmpl = [0]\nvmpl = [0, 1]"));
    one(
        "no-measurements",
        "The list of measurements is empty.",
        "POLICY_INVALID",
        edited(&format!("[\"{}\"]", "3e".repeat(48)), "[]"),
    );
    one("short-digest", "A measurement lacks a digit.", "POLICY_INVALID", edited(&"3e".repeat(48), &"3e".repeat(47)));
    one(
        "base-unknown",
        "The policy extends a base that does not exist.",
        "POLICY_INVALID",
        edited("extends = \"simulation\"", "extends = \"lenient\""),
    );
    one(
        "base-of-other-mode",
        "A simulation policy extends a hardware base.",
        "POLICY_INVALID",
        edited("extends = \"simulation\"", "extends = \"hardware-snp-strict\""),
    );
    one(
        "both-roots",
        "A hardware policy names a simulated root.",
        "POLICY_INVALID",
        edited(
            "mode = \"simulation\"\ntee = [\"sev-snp\"]\nextends = \"simulation\"",
            "mode = \"hardware\"\ntee = [\"sev-snp\"]\nextends = \"hardware-snp-strict\"",
        ),
    );
    one(
        "tee-unknown",
        "The policy accepts a technology that does not exist.",
        "POLICY_INVALID",
        edited("tee = [\"sev-snp\"]", "tee = [\"sgx\"]"),
    );
    one("no-tee", "The policy accepts no technology.", "POLICY_INVALID", edited("tee = [\"sev-snp\"]", "tee = []"));
    one(
        "floor-without-model",
        "A microcode floor does not say for which model.",
        "POLICY_INVALID",
        table(
            "[sev-snp.tcb.Genoa]\nwritten = \"2026-06-01\"\nsource = \"a vector\"\nmicrocode = [{ family = 0x19, min = 0x54 }]",
        ),
    );
    one(
        "product-without-floor",
        "A product is accepted for which there is no floor.",
        "POLICY_INCOMPLETE",
        rule("products = [\"Genoa\", \"Milan\"]"),
    );
    one("negative", "A number is negative.", "POLICY_INVALID", table("[crl]\nmax_age_days = -1"));
    let other = no_policy("POLICY_ROOT_UNREADABLE").exit(9);
    cases.case(
        "file-root-missing",
        "The root file that the policy names is not there.",
        other,
        edited("path = \"root.pem\"", "path = \"gone.pem\""),
    );
    let other = no_policy("ANCHOR_DIGEST").exit(2);
    let own = hex::encode(sha256(root()));
    cases.case(
        "file-root-digest",
        "The root file is not the one whose digest the policy names.",
        other,
        edited(&own, &"5a".repeat(32)),
    );
}
