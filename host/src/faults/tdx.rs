//! Faults of TDX evidence: which words of a quote, its collateral or a local report are wrong, and what each reader must say.
//! The simulated processor makes them; its own list must have the same names.

use super::table::{
    Against::{self, Attest, Boot, BootRelease, Release, Verify, VerifyHardware, VerifyHostile},
    Fault, Group, TDX, device,
};

type Heard = &'static [(Against, &'static str)];

const fn tdx(name: &'static str, group: Group, what: &'static str, heard: Heard) -> Fault {
    device(name, group, TDX, what, heard)
}

const fn framing(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    tdx(name, Group::Framing, what, heard)
}

const fn td(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    tdx(name, Group::Tdx, what, heard)
}

const fn chain(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    tdx(name, Group::Chain, what, heard)
}

const fn collateral(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    tdx(name, Group::Crl, what, heard)
}

const fn level(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    tdx(name, Group::Tcb, what, heard)
}

const fn identity(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    tdx(name, Group::Identity, what, heard)
}

const fn claims(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    tdx(name, Group::Claims, what, heard)
}

/// The customer who verifies the live enclave and the broker say the same.
macro_rules! both {
    ($code:literal) => {
        &[(Verify, $code), (Release, $code)]
    };
}

/// The live enclave does not pass such a quote on; a hostile one would.
macro_rules! framed {
    ($code:literal) => {
        &[(Attest, "EVIDENCE_DEVICE"), (VerifyHostile, $code), (Release, $code)]
    };
}

const STATUS: Heard = both!("TCB_STATUS_NOT_ALLOWED");
const QE: Heard = both!("QE_IDENTITY_MISMATCH");
const RTMR: Heard = both!("RTMR_NOT_ALLOWED");

/// Every fault of TDX evidence.
pub const FAULTS: &[Fault] = &[
    framing("tdx-quote-empty", "no quote at all", framed!("QUOTE_LENGTH")),
    framing("tdx-quote-truncated", "a quote without its last byte", both!("QUOTE_TRUNCATED")),
    framing("tdx-quote-trailing", "a quote with a byte more than it declares", both!("QUOTE_TRAILING")),
    framing("tdx-quote-version", "a quote of version 3", framed!("QUOTE_VERSION")),
    framing("tdx-quote-key-type", "another kind of attestation key is named", both!("QUOTE_KEY_TYPE")),
    framing("tdx-quote-tee-type", "a quote that says it is from SGX", both!("QUOTE_TEE_TYPE")),
    framing("tdx-quote-reserved", "a reserved byte of the header is set, and signed", both!("QUOTE_RESERVED")),
    framing("tdx-quote-vendor", "the quoting enclave of another vendor", both!("QUOTE_VENDOR")),
    framing("tdx-quote-body-type", "a body of a type that nobody knows", both!("QUOTE_BODY_TYPE")),
    framing("tdx-cert-data-type", "certification data of another type", both!("CERT_DATA_TYPE")),
    framing("tdx-qe-auth-data", "31 bytes of authentication data", both!("QE_AUTH_DATA")),
    tdx("tdx-quote-flipped", Group::Signature, "one bit of MRTD flipped after signing", both!("QUOTE_SIGNATURE")),
    tdx(
        "tdx-quote-other-key",
        Group::Signature,
        "signed by a key that the quoting enclave does not vouch for",
        both!("QE_REPORT_DATA"),
    ),
    tdx(
        "tdx-qe-report-signature",
        Group::Signature,
        "the quoting enclave's report is signed by another platform's key",
        both!("QE_REPORT_SIGNATURE"),
    ),
    td("tdx-qe-swapped", "a quoting enclave of another signer", QE),
    td("tdx-qe-product", "another enclave of the same signer", QE),
    td("tdx-qe-debug", "a quoting enclave in debug mode", QE),
    level("tdx-qe-out-of-date", "a quoting enclave with a newer version due", STATUS),
    level("tdx-qe-ancient", "a quoting enclave older than every known level", both!("QE_LEVEL_NONE")),
    level("tdx-module-out-of-date", "an older TDX module on a platform that is up to date", STATUS),
    level("tdx-module-ancient", "a TDX module older than every known level", both!("TDX_MODULE_LEVEL_NONE")),
    level(
        "tdx-module-unknown",
        "a TDX module of a major version that the TCB info does not know",
        both!("TDX_MODULE_UNKNOWN"),
    ),
    td("tdx-module-signer", "a TDX module of another signer", both!("TDX_MODULE_SIGNER")),
    td("tdx-module-attributes", "a TDX module with attributes", both!("TDX_MODULE_ATTRIBUTES")),
    td(
        "tdx-debug",
        "the host may debug the TD",
        &[(Verify, "TD_DEBUG"), (Release, "TD_DEBUG"), (BootRelease, "TD_DEBUG")],
    ),
    td("tdx-profiling", "another way for the host to look into the TD", both!("TD_PROFILING")),
    td("tdx-sept-ve-disable", "the TD hears of pages that the host takes away", both!("SEPT_VE_DISABLE")),
    td("tdx-migratable", "a migration TD may take the TD elsewhere", both!("QUOTE_MIGRATABLE")),
    td("tdx-pks", "supervisor protection keys", both!("TD_PKS")),
    td("tdx-key-locker", "Key Locker", both!("TD_KEY_LOCKER")),
    td("tdx-perfmon", "performance counters of the TD, which the host can read much from", both!("TD_PERFMON")),
    td("tdx-attributes-reserved", "a reserved attribute", both!("TD_ATTRIBUTES_RESERVED")),
    td("tdx-xfam", "an extended feature that the policy does not allow", both!("XFAM_NOT_ALLOWED")),
    td(
        "tdx-service-td",
        "a service TD is bound",
        &[(VerifyHostile, "SERVICE_TD_NOT_ALLOWED"), (Release, "SERVICE_TD_NOT_ALLOWED")],
    ),
    claims("tdx-mrtd", "other code was launched", both!("MR_TD_NOT_ALLOWED")),
    claims("tdx-rtmr0", "another firmware configuration", RTMR),
    claims("tdx-rtmr1", "another kernel", RTMR),
    claims("tdx-rtmr2", "another command line or initial disk", RTMR),
    claims("tdx-rtmr3", "something was measured at run time", RTMR),
    claims("tdx-owner", "the host names an owner", both!("MR_OWNER_NOT_ALLOWED")),
    claims("tdx-owner-config", "the host names an owner's configuration", both!("MR_OWNER_CONFIG_NOT_ALLOWED")),
    tdx(
        "tdx-mrconfigid",
        Group::Configuration,
        "another configuration is bound",
        &[(Verify, "CLAIMS_CONFIG_DIGEST"), (Release, "CONFIG_DIGEST_NOT_ALLOWED")],
    ),
    tdx(
        "tdx-mrconfigid-tail",
        Group::Configuration,
        "something stands behind the configuration's digest",
        both!("MR_CONFIG_ID_SHAPE"),
    ),
    claims(
        "tdx-report-data-last-byte",
        "REPORTDATA differs in its last byte",
        &[(Attest, "EVIDENCE_DEVICE"), (VerifyHostile, "REPORT_DATA_MISMATCH"), (Release, "REPORT_DATA_SHAPE")],
    ),
    claims(
        "tdx-report-data-first-32-only",
        "REPORTDATA is right in its first 32 bytes only",
        framed!("REPORT_DATA_MISMATCH"),
    ),
    tdx(
        "tdx-local-config",
        Group::Configuration,
        "the TD's own report names another configuration",
        &[(Boot, "CONFIG_DIGEST_MISMATCH")],
    ),
    tdx(
        "tdx-local-measurement",
        Group::Configuration,
        "the TD's own report names other code",
        &[(Boot, "MEASUREMENT_MISMATCH")],
    ),
    tdx(
        "tdx-local-hash",
        Group::Configuration,
        "the hash in the TD's own report is not that of its fields",
        &[(Boot, "EVIDENCE_DEVICE")],
    ),
    tdx(
        "tdx-local-other-question",
        Group::Configuration,
        "the TD's own report answers another question",
        &[(Boot, "EVIDENCE_DEVICE")],
    ),
    chain("tdx-chain-self-made", "a chain of somebody's own with the simulated root's names", both!("CHAIN_ROOT")),
    chain(
        "tdx-chain-self-made-intel",
        "a chain of somebody's own with Intel's names, under a policy that demands hardware",
        &[(VerifyHardware, "CHAIN_ROOT")],
    ),
    tdx(
        "tdx-hardware-as-simulated",
        Group::Simulation,
        "what looks like Intel's under a policy that names a simulated root",
        both!("LEAF_NOT_SIMULATED"),
    ),
    chain("tdx-pck-self-made", "a platform certificate that the authority did not sign", both!("PCK_CHAIN")),
    chain("tdx-pck-expired", "the platform's certificate is past its end", both!("PCK_EXPIRED")),
    chain("tdx-pck-revoked", "the platform's certificate is revoked", both!("PCK_REVOKED")),
    chain("tdx-pck-ca-revoked", "the authority of the platform's certificate is revoked", both!("PCK_CA_REVOKED")),
    chain(
        "tdx-signer-revoked",
        "the certificate that signs TCB info and QE identity is revoked",
        both!("TCB_SIGNER_REVOKED"),
    ),
    identity("tdx-platform-not-listed", "a genuine platform that no policy names", both!("PLATFORM_NOT_ALLOWED")),
    identity("tdx-fmspc-other", "the TCB info of another family of processors", both!("FMSPC_MISMATCH")),
    identity("tdx-pceid-other", "the TCB info of another provisioning enclave", both!("PCEID_MISMATCH")),
    identity("tdx-pceid-not-listed", "a provisioning enclave that no policy lists", both!("PCE_ID_NOT_ALLOWED")),
    identity("tdx-fmspc-twice", "the platform's certificate names two families", both!("PCK_EXTENSION_DUPLICATE")),
    identity(
        "tdx-cpusvn-contradiction",
        "CPUSVN and its components differ in the platform's certificate",
        both!("PCK_CPU_SVN"),
    ),
    level("tdx-platform-out-of-date", "the module is up to date, the platform is not", STATUS),
    level("tdx-platform-ancient", "a platform below every known level", both!("TCB_LEVEL_NONE")),
    level("tdx-status-configuration", "a platform that needs another configuration", STATUS),
    level("tdx-status-hardening", "a platform that needs hardened software", STATUS),
    level("tdx-status-revoked", "a level whose keys are not to be believed", both!("TCB_REVOKED")),
    level("tdx-advisory-open", "an advisory is open at an up-to-date level", both!("TCB_ADVISORY_NOT_ALLOWED")),
    level("tdx-evaluation-number", "an assessment older than the floor", both!("TCB_EVALUATION_BELOW_FLOOR")),
    collateral("tdx-root-crl-missing", "no revocation list of the root", both!("ROOT_CRL_MISSING")),
    collateral("tdx-tcb-info-missing", "no TCB info", both!("TCB_INFO_MISSING")),
    collateral(
        "tdx-tcb-info-edited",
        "an outdated level is called up to date after signing",
        both!("TCB_INFO_SIGNATURE"),
    ),
    collateral(
        "tdx-qe-identity-edited",
        "another quoting enclave is written in after signing",
        both!("QE_IDENTITY_SIGNATURE"),
    ),
    collateral(
        "tdx-signatures-swapped",
        "TCB info and QE identity with each other's signature",
        both!("TCB_INFO_SIGNATURE"),
    ),
    collateral("tdx-tcb-info-sgx", "the TCB info of SGX", both!("TCB_INFO_KIND")),
    collateral("tdx-tcb-info-other-key", "the TCB info is signed by somebody else", both!("TCB_INFO_SIGNATURE")),
    collateral(
        "tdx-root-crl-other-key",
        "the root's revocation list is signed by somebody else",
        both!("ROOT_CRL_SIGNATURE"),
    ),
    collateral(
        "tdx-pck-crl-other-key",
        "the revocation list of platforms is signed by somebody else",
        both!("PCK_CRL_SIGNATURE"),
    ),
    collateral("tdx-tcb-info-expired", "the TCB info is past its next update", both!("TCB_INFO_EXPIRED")),
    collateral("tdx-qe-identity-expired", "the QE identity is past its next update", both!("QE_IDENTITY_EXPIRED")),
    collateral("tdx-root-crl-expired", "the root's revocation list is past its next update", both!("ROOT_CRL_EXPIRED")),
    collateral(
        "tdx-pck-crl-expired",
        "the revocation list of platforms is past its next update",
        both!("PCK_CRL_EXPIRED"),
    ),
    collateral("tdx-tcb-info-not-yet", "the TCB info is of tomorrow", both!("TCB_INFO_NOT_YET_VALID")),
    collateral(
        "tdx-collateral-too-old",
        "collateral in force, older than the policy accepts",
        both!("COLLATERAL_TOO_OLD"),
    ),
    collateral(
        "tdx-root-crl-number",
        "a root's revocation list with a number below the floor",
        both!("ROOT_CRL_NUMBER_BELOW_FLOOR"),
    ),
    collateral(
        "tdx-pck-crl-number",
        "a revocation list of platforms with a number below the floor",
        both!("PCK_CRL_NUMBER_BELOW_FLOOR"),
    ),
    tdx(
        "tdx-marker-missing",
        Group::Simulation,
        "the platform's certificate does not say that it is simulated",
        both!("LEAF_NOT_SIMULATED"),
    ),
];
