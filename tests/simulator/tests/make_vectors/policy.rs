//! Turns the base policy of TDX and single changes to it, or to the evidence, into the cases of appraisal and of policy files.
//! It does not judge them.

use vouchsafe_simulator::tdx::{CollateralSpec, QuoteSpec, pki::SgxExtension};

use crate::{
    cases::{Cases, Files, appraised, file, no_policy, unwanted},
    machine::{DAY, Machine, both},
};

const ZERO_48: &str =
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";

/// The base policy with more lines under `[tdx]`.
fn rule(machine: &Machine, lines: &str) -> Files {
    file("policy.toml", machine.policy().replacen("[tdx]\n", &format!("[tdx]\n{lines}\n"), 1))
}

/// The base policy with one piece replaced. The piece must be there.
fn edited(machine: &Machine, from: &str, to: &str) -> Files {
    let text = machine.policy();
    assert!(text.contains(from), "{from}");
    file("policy.toml", text.replacen(from, to, 1))
}

/// The base policy with a table put before the models.
fn table(machine: &Machine, lines: &str) -> Files {
    file("policy.toml", machine.policy().replacen("[[models]]", &format!("{lines}\n\n[[models]]"), 1))
}

pub fn cases(cases: &mut Cases, machine: &Machine) {
    code(cases, machine);
    attributes(cases, machine);
    platform(cases, machine);
    levels(cases, machine);
    files(cases, machine);
}

fn code(cases: &mut Cases, machine: &Machine) {
    let other = unwanted("REPORT_DATA_MISMATCH").exit(2).with(&format!(
        "report_data = \"{}db{}\"",
        "da".repeat(47),
        "00".repeat(16)
    ));
    cases.case(
        "policy-report-data",
        "The evidence differs from what is expected in the last byte of the digest.",
        other,
        Files::new(),
    );
    let quote = |change: fn(&mut QuoteSpec)| machine.with_quote(change);
    let mut one =
        |name: &str, what: &str, code, files| cases.case(&format!("policy-{name}"), what, unwanted(code), files);
    one(
        "mr-td",
        "MRTD differs in its last byte from the policy's.",
        "MR_TD_NOT_ALLOWED",
        quote(|q| q.body.mr_td[47] ^= 1),
    );
    for i in 0..4_usize {
        let what = format!("RTMR{i} differs from the policy's.");
        one(&format!("rtmr{i}"), &what, "RTMR_NOT_ALLOWED", machine.with_quote(|q| q.body.rtmr[i][0] = 1));
    }
    one(
        "config-digest",
        "MRCONFIGID differs in its 32nd byte from the policy's digest.",
        "CONFIG_DIGEST_NOT_ALLOWED",
        quote(|q| q.body.mr_config_id[31] ^= 1),
    );
    one(
        "config-digest-tail",
        "Something stands behind the digest in MRCONFIGID.",
        "MR_CONFIG_ID_SHAPE",
        quote(|q| q.body.mr_config_id[32] = 1),
    );
    one("owner", "MROWNER is not the policy's.", "MR_OWNER_NOT_ALLOWED", quote(|q| q.body.mr_owner[0] = 1));
    one(
        "owner-config",
        "MROWNERCONFIG is not the policy's.",
        "MR_OWNER_CONFIG_NOT_ALLOWED",
        quote(|q| q.body.mr_owner_config[0] = 1),
    );
    one(
        "service-td",
        "A service TD is bound, and the policy names none.",
        "SERVICE_TD_NOT_ALLOWED",
        quote(|q| {
            q.set_v5();
            q.body.mr_service_td[0] = 1;
        }),
    );
    let service = format!("service_td = [\"01{}\"]", &ZERO_48[2..]);
    cases.case(
        "accepted-service-td",
        "Nothing: the policy names the bound service TD.",
        appraised(),
        both(
            rule(machine, &service),
            quote(|q| {
                q.set_v5();
                q.body.mr_service_td[0] = 1;
            }),
        ),
    );
    let snp = format!(
        "tee = [\"sev-snp\"]\nextends = \"simulation\"\n\n[sev-snp]\nmeasurements = [\"{0}\"]\nconfig_digests = [\"{1}\"]\nplatforms = [\"{2}\"]\n",
        "3e".repeat(48),
        "40".repeat(32),
        "c1".repeat(64)
    );
    let text = machine.policy();
    let (head, rest) = text.split_once("tee = [\"tdx\"]\nextends = \"simulation\"\n").unwrap();
    let root = &rest[..rest.find("[tdx]").unwrap()];
    let models = &rest[rest.find("[[models]]").unwrap()..];
    let (tables, _) = snp.split_once("\n\n").unwrap();
    let snp_only = format!("{head}{tables}\n{root}{}\n{models}", &snp[tables.len()..]);
    cases.case(
        "policy-tee",
        "The policy accepts SEV-SNP only.",
        unwanted("TEE_NOT_ALLOWED"),
        file("policy.toml", snp_only),
    );
    let any = edited(machine, &format!("rtmr3 = [\"{ZERO_48}\"]"), "rtmr3 = \"any\"");
    cases.case(
        "accepted-rtmr3-any",
        "Nothing: the policy leaves RTMR3 open in writing.",
        appraised(),
        both(any, quote(|q| q.body.rtmr[3][0] = 1)),
    );
}

fn attributes(cases: &mut Cases, machine: &Machine) {
    let mut one = |name: &str, what: &str, code, bit: u32| {
        let files = machine.with_quote(|q| q.body.attributes |= 1 << bit);
        cases.case(&format!("policy-td-{name}"), what, unwanted(code), files);
    };
    one("debug", "The host may debug the TD.", "TD_DEBUG", 0);
    one("unknown", "The TD has an attribute that the policy's rules do not know.", "TD_ATTRIBUTES_UNKNOWN", 16);
    one("profiling", "The host may look into the TD by other means.", "TD_PROFILING", 4);
    one("pks", "The TD may use supervisor protection keys.", "TD_PKS", 30);
    one("key-locker", "The TD may use Key Locker.", "TD_KEY_LOCKER", 31);
    one("perfmon", "The TD may use performance counters.", "TD_PERFMON", 63);
    let xfam = machine.with_quote(|q| q.body.xfam |= 1 << 8);
    cases.case("policy-xfam", "The TD may use processor trace.", unwanted("XFAM_NOT_ALLOWED"), xfam);
    let allowed = both(
        table(machine, "[tdx.attributes]\nperfmon = \"allowed\""),
        machine.with_quote(|q| q.body.attributes |= 1 << 63),
    );
    cases.case("accepted-perfmon-by-policy", "Nothing: the policy allows performance counters.", appraised(), allowed);
}

fn platform(cases: &mut Cases, machine: &Machine) {
    let pki = &machine.pki;
    let sgx = |change: &dyn Fn(&mut SgxExtension)| {
        let mut sgx = SgxExtension::honest(&pki.platform);
        change(&mut sgx);
        machine.under(&pki.pck_spec(&sgx, machine.now).unwrap().sign(&pki.pck_ca).unwrap())
    };
    let mut one =
        |name: &str, what: &str, code, files| cases.case(&format!("policy-{name}"), what, unwanted(code), files);
    one("platform", "The platform is not one of the policy's.", "PLATFORM_NOT_ALLOWED", sgx(&|s| s.ppid[15] ^= 1));
    one(
        "fmspc",
        "The policy names another family of processors.",
        "FMSPC_NOT_ALLOWED",
        table(machine, "[tdx.tcb]\nfmspc = [\"00806f050000\"]"),
    );
    one(
        "pce-id",
        "The policy names another provisioning enclave.",
        "PCE_ID_NOT_ALLOWED",
        table(machine, "[tdx.tcb]\npce_id = [\"0001\"]"),
    );
    one(
        "mr-seam",
        "The policy names another TDX module.",
        "MR_SEAM_NOT_ALLOWED",
        rule(machine, &format!("mr_seam = [\"{ZERO_48}\"]")),
    );
    one(
        "mr-signer-seam",
        "The policy names another signer of the TDX module.",
        "MR_SIGNER_SEAM_NOT_ALLOWED",
        rule(machine, &format!("mr_signer_seam = [\"01{}\"]", &ZERO_48[2..])),
    );
    one(
        "quote-version",
        "The quote has version 4, and the policy wants 5.",
        "QUOTE_VERSION_NOT_ALLOWED",
        rule(machine, "min_quote_version = 5"),
    );
    one(
        "smt",
        "Sibling threads are on, and the policy forbids them.",
        "PCK_SMT",
        table(machine, "[tdx.pck]\nsmt = \"forbidden\""),
    );
    one(
        "cached-keys",
        "The registration service keeps the platform's keys, and the policy forbids it.",
        "PCK_CACHED_KEYS",
        table(machine, "[tdx.pck]\ncached_keys = \"forbidden\""),
    );
    let dynamic = sgx(&|s| s.configuration = Some([true, true, true]));
    one(
        "dynamic-platform",
        "The platform may take processors from others, and the policy forbids it.",
        "PCK_DYNAMIC_PLATFORM",
        both(dynamic, table(machine, "[tdx.pck]\ndynamic_platform = \"forbidden\"")),
    );
}

fn levels(cases: &mut Cases, machine: &Machine) {
    let status = |word: &'static str| machine.with_spec(|s| s.tcb_info.tcb_levels[0].tcb_status = word.to_owned());
    for word in [
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    ] {
        let what = format!("Intel calls the platform {word}, and the policy accepts UpToDate.");
        cases.case(
            &format!("policy-status-{}", word.to_lowercase()),
            &what,
            unwanted("TCB_STATUS_NOT_ALLOWED"),
            status(word),
        );
    }
    let module =
        |s: &mut CollateralSpec| s.tcb_info.tdx_module_identities[1].tcb_levels[0].tcb_status = "OutOfDate".to_owned();
    cases.case(
        "policy-status-of-module",
        "The platform is up to date, and its TDX module is not.",
        unwanted("TCB_STATUS_NOT_ALLOWED"),
        machine.with_spec(module),
    );
    let enclave = |s: &mut CollateralSpec| s.qe_identity.tcb_levels[0].tcb_status = "OutOfDate".to_owned();
    cases.case(
        "policy-status-of-qe",
        "The platform is up to date, and its quoting enclave is not.",
        unwanted("TCB_STATUS_NOT_ALLOWED"),
        machine.with_spec(enclave),
    );
    let older = machine.with_quote(|q| q.body.tee_tcb_svn[2] = 3);
    let open =
        unwanted("TCB_STATUS_NOT_ALLOWED").with("codes = [\"TCB_STATUS_NOT_ALLOWED\", \"TCB_ADVISORY_NOT_ALLOWED\"]");
    cases.case(
        "policy-older-level",
        "The platform meets an older level, which stands for advisories.",
        open,
        older.clone(),
    );
    let statuses = table(machine, "[tdx.tcb]\nstatuses = [\"UpToDate\", \"OutOfDate\"]");
    cases.case(
        "policy-advisory",
        "The policy accepts OutOfDate, and not the advisories behind it.",
        unwanted("TCB_ADVISORY_NOT_ALLOWED"),
        both(older.clone(), statuses),
    );
    let written = table(
        machine,
        "[tdx.tcb]\nstatuses = [\"UpToDate\", \"OutOfDate\"]\nadvisories_accepted = [\"INTEL-SA-01036\", \"INTEL-SA-01099\"]",
    );
    cases.case(
        "accepted-advisories",
        "Nothing: the policy accepts the status and both advisories.",
        appraised(),
        both(older, written),
    );

    let grace = |until: &str| {
        table(
            machine,
            &format!(
                "[tdx.tcb.grace]\nstatuses = [\"OutOfDate\"]\nadvisories = []\nuntil = \"{until}\"\nsource = \"a vector\""
            ),
        )
    };
    cases.case(
        "accepted-in-grace",
        "Nothing: the platform is out of date, in the policy's grace.",
        appraised(),
        both(status("OutOfDate"), grace("2026-06-02T00:00:00Z")),
    );
    cases.case(
        "policy-grace-ended",
        "The platform is out of date, and the policy's grace has ended.",
        unwanted("TCB_GRACE_ENDED"),
        both(status("OutOfDate"), grace("2026-05-31T00:00:00Z")),
    );

    let mut stale = |name: &str, what: &str, code, files| {
        cases.case(&format!("policy-{name}"), what, unwanted(code).exit(3), files)
    };
    let number = |s: &mut CollateralSpec| {
        s.tcb_info.tcb_evaluation_data_number = 18;
        s.qe_identity.tcb_evaluation_data_number = 18;
    };
    stale(
        "evaluation-replayed",
        "Collateral of an older assessment is replayed.",
        "TCB_EVALUATION_BELOW_FLOOR",
        machine.with_spec(number),
    );
    stale(
        "evaluation-of-qe",
        "The QE identity alone is of an older assessment.",
        "TCB_EVALUATION_BELOW_FLOOR",
        machine.with_spec(|s| s.qe_identity.tcb_evaluation_data_number = 18),
    );
    stale(
        "evaluation-floor",
        "The policy knows a newer assessment than the collateral.",
        "TCB_EVALUATION_BELOW_FLOOR",
        table(machine, "[tdx.tcb]\nwritten = \"2026-06-01\"\nsource = \"a vector\"\nmin_tcb_evaluation_number = 20"),
    );
    let announced = |from: &str| {
        table(
            machine,
            &format!("[[tdx.tcb.announced]]\nfrom = \"{from}\"\nsource = \"a vector\"\nmin_tcb_evaluation_number = 20"),
        )
    };
    stale(
        "evaluation-announced",
        "A newer assessment was announced, and its day has come.",
        "TCB_EVALUATION_BELOW_ANNOUNCED",
        announced("2026-06-01T00:00:00Z"),
    );
    let tomorrow = announced("2026-06-02T00:00:00Z");
    stale(
        "collateral-age",
        "The collateral is two days old, and the policy takes one.",
        "COLLATERAL_TOO_OLD",
        both(
            machine.with_spec(|s| s.root_crl.this_update = machine.now - 2 * DAY),
            table(machine, "[tdx.collateral]\nmax_age_days = 1"),
        ),
    );
    let list = |floor: &str| table(machine, &format!("[tdx.collateral]\n{floor} = {}", machine.now / 60 + 1));
    stale(
        "root-crl-number",
        "The root's revocation list has a number below the policy's.",
        "ROOT_CRL_NUMBER_BELOW_FLOOR",
        list("min_root_crl_number"),
    );
    stale(
        "pck-crl-number",
        "The PCK revocation list has a number below the policy's.",
        "PCK_CRL_NUMBER_BELOW_FLOOR",
        list("min_pck_crl_number"),
    );
    cases.case("accepted-announced", "Nothing: a newer assessment is announced for tomorrow.", appraised(), tomorrow);
}

fn files(cases: &mut Cases, machine: &Machine) {
    let mut one =
        |name: &str, what: &str, code, files| cases.case(&format!("file-{name}"), what, no_policy(code), files);
    one(
        "without-rtmr0",
        "The policy does not name RTMR0.",
        "POLICY_INCOMPLETE",
        edited(machine, &format!("rtmr0 = [\"{ZERO_48}\"]\n"), ""),
    );
    one(
        "rtmr0-any",
        "The policy leaves RTMR0 open.",
        "POLICY_INVALID",
        edited(machine, &format!("rtmr0 = [\"{ZERO_48}\"]"), "rtmr0 = \"any\""),
    );
    one(
        "mr-td-empty",
        "The list of MRTDs is empty.",
        "POLICY_INVALID",
        edited(machine, &format!("mr_td = [\"{}\"]", "3e".repeat(48)), "mr_td = []"),
    );
    one(
        "platform-of-snp",
        "A platform has the length of an SEV-SNP chip id.",
        "POLICY_INVALID",
        edited(machine, &hex::encode(machine.pki.platform.ppid), &"99".repeat(64)),
    );
    one(
        "status-unknown",
        "A status is a word that Intel does not use.",
        "POLICY_INVALID",
        table(machine, "[tdx.tcb]\nstatuses = [\"Fine\"]"),
    );
    one(
        "status-revoked",
        "The policy accepts revoked platforms.",
        "POLICY_INVALID",
        table(machine, "[tdx.tcb]\nstatuses = [\"UpToDate\", \"Revoked\"]"),
    );
    one(
        "grace-without-source",
        "A grace does not say where it comes from.",
        "POLICY_INVALID",
        table(
            machine,
            "[tdx.tcb.grace]\nstatuses = [\"OutOfDate\"]\nadvisories = []\nuntil = \"2026-06-02T00:00:00Z\"",
        ),
    );
    one(
        "grace-date",
        "A grace ends on a day that does not exist.",
        "POLICY_INVALID",
        table(
            machine,
            "[tdx.tcb.grace]\nstatuses = [\"OutOfDate\"]\nadvisories = []\nuntil = \"2026-02-30T00:00:00Z\"\nsource = \"a vector\"",
        ),
    );
    one("unknown-field", "A field is misspelt.", "POLICY_INVALID", edited(machine, "mr_td =", "mrtd ="));
    one(
        "tables-of-snp",
        "The policy accepts SEV-SNP too and has no rules for it.",
        "POLICY_INCOMPLETE",
        edited(machine, "tee = [\"tdx\"]", "tee = [\"sev-snp\", \"tdx\"]"),
    );
}
