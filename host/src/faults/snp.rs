//! Faults of SEV-SNP evidence: which words of a report, a leaf or a revocation list are wrong, and what each reader must say.
//! The simulated processor makes them; its own list must have the same names.

use super::table::{
    Against::{self, Attest, Boot, BootRelease, Release, Verify, VerifyHardware, VerifyHostile},
    Fault, Group, SNP, device,
};

type Heard = &'static [(Against, &'static str)];

const fn snp(name: &'static str, group: Group, what: &'static str, heard: Heard) -> Fault {
    device(name, group, SNP, what, heard)
}

const fn framing(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    snp(name, Group::Framing, what, heard)
}

const fn chain(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    snp(name, Group::Chain, what, heard)
}

const fn crl(name: &'static str, what: &'static str, heard: Heard) -> Fault {
    snp(name, Group::Crl, what, heard)
}

/// The customer who verifies the live enclave and the broker say the same.
macro_rules! both {
    ($code:literal) => {
        &[(Verify, $code), (Release, $code)]
    };
}

const BELOW: Heard = both!("TCB_BELOW_FLOOR");
const ALGORITHM: Heard = both!("LEAF_ALGORITHM");
/// The live enclave does not pass on what is not a report about its question.
const DEVICE: (Against, &str) = (Attest, "EVIDENCE_DEVICE");

/// The report's own words.
pub const REPORT: &[Fault] = &[
    framing(
        "report-empty",
        "no report at all",
        &[DEVICE, (VerifyHostile, "REPORT_LENGTH"), (Release, "REPORT_LENGTH")],
    ),
    framing(
        "report-truncated",
        "a report without its last byte",
        &[DEVICE, (VerifyHostile, "REPORT_LENGTH"), (Release, "REPORT_LENGTH")],
    ),
    framing(
        "report-trailing-byte",
        "a report with a byte more",
        &[DEVICE, (VerifyHostile, "ATTEST_RESPONSE_INVALID"), (Release, "EVIDENCE_FORMAT")],
    ),
    framing("report-version-unknown", "report version 4, which is none", both!("REPORT_VERSION")),
    framing("report-version-old", "report version 2, which names no processor", both!("VERSION_TOO_OLD")),
    framing("report-algorithm", "another signature algorithm is named", both!("SIGNATURE_ALGORITHM")),
    framing("report-reserved", "a reserved byte is set, and signed", both!("REPORT_RESERVED")),
    framing("report-policy-reserved", "a guest policy without the bit that is always one", both!("REPORT_RESERVED")),
    framing("report-cpu-unknown", "a processor that nobody knows", both!("PRODUCT_UNKNOWN")),
    framing("report-padding", "a byte after the signature is set", both!("SIGNATURE_PADDING")),
    framing("signature-padding", "a byte between R and S is set", both!("SIGNATURE_PADDING")),
    signature("report-flipped", "one bit of the measurement flipped after signing"),
    signature("report-unsigned", "a signature of zeros"),
    signature("signature-big-endian", "R and S in the order of other formats"),
    signature("signature-swapped", "R and S in each other's place"),
    signature("signature-other-key", "signed by a key that is not the leaf's"),
    snp("chip-other", Group::Identity, "another chip than the leaf's", both!("HWID_MISMATCH")),
    snp("chip-not-listed", Group::Identity, "a genuine chip that no policy names", both!("PLATFORM_NOT_ALLOWED")),
    snp("chip-masked", Group::Identity, "the host masks the chip's identity", both!("PLATFORM_NOT_ALLOWED")),
    snp(
        "chip-key-masked",
        Group::Identity,
        "a chip key signs although the report says it is masked",
        both!("SIGNER_MASKED"),
    ),
    snp("signer-vlek", Group::Identity, "the report names a loaded key, the leaf is a chip's", both!("SIGNER_KEY")),
    snp("author-key", Group::Identity, "an author key is announced that has no digest", both!("SIGNER_AUTHOR_KEY")),
    snp("tcb-reported-bootloader", Group::Tcb, "the reported boot loader is below the floor", BELOW),
    snp("tcb-reported-tee", Group::Tcb, "the reported processor software (TEE) is below the floor", BELOW),
    snp("tcb-reported-snp", Group::Tcb, "the reported SNP firmware is below the floor", BELOW),
    snp("tcb-reported-microcode", Group::Tcb, "the reported microcode is below the floor", BELOW),
    snp("tcb-committed-bootloader", Group::Tcb, "the committed boot loader is below the floor", BELOW),
    snp("tcb-committed-tee", Group::Tcb, "the committed processor software (TEE) is below the floor", BELOW),
    snp("tcb-committed-snp", Group::Tcb, "the committed SNP firmware is below the floor", BELOW),
    snp("tcb-committed-microcode", Group::Tcb, "the committed microcode is below the floor", BELOW),
    snp("tcb-launch-bootloader", Group::Tcb, "the guest was launched under a boot loader below the floor", BELOW),
    snp("tcb-launch-tee", Group::Tcb, "the guest was launched under processor software (TEE) below the floor", BELOW),
    snp("tcb-launch-snp", Group::Tcb, "the guest was launched under SNP firmware below the floor", BELOW),
    snp("tcb-launch-microcode", Group::Tcb, "the guest was launched under microcode below the floor", BELOW),
    snp("tcb-provisional", Group::Tcb, "newer firmware runs that is not committed", both!("FIRMWARE_PROVISIONAL")),
    snp("tcb-mismatch", Group::Tcb, "the leaf was issued for another security version", both!("TCB_MISMATCH")),
    snp("tcb-reserved", Group::Tcb, "a reserved byte of the committed version is set", both!("TCB_RESERVED")),
    snp("tcb-inconsistent", Group::Tcb, "more is committed than runs", both!("TCB_INCONSISTENT")),
    snp(
        "cpu-without-floor",
        Group::Tcb,
        "a Genoa of a model for which no floor is known",
        both!("CPU_MODEL_NOT_LISTED"),
    ),
    snp("mitigation-missing", Group::Tcb, "a mitigation was not on at launch", both!("MITIGATION_MISSING")),
];

const fn signature(name: &'static str, what: &'static str) -> Fault {
    snp(name, Group::Signature, what, both!("SIGNATURE_INVALID"))
}

/// What the guest's launch and the platform allow, and what the evidence is about.
pub const POLICY: &[Fault] = &[
    snp(
        "guest-debug",
        Group::GuestPolicy,
        "the host may debug the guest",
        &[(Verify, "DEBUG_ALLOWED"), (Release, "DEBUG_ALLOWED"), (BootRelease, "DEBUG_ALLOWED")],
    ),
    snp(
        "guest-migration",
        Group::GuestPolicy,
        "a migration agent may take the guest elsewhere",
        both!("MIGRATION_ALLOWED"),
    ),
    snp(
        "guest-migration-agent",
        Group::GuestPolicy,
        "a migration agent is bound against the guest policy",
        both!("REPORT_ID_MA"),
    ),
    snp("guest-cxl", Group::GuestPolicy, "guest memory may lie on CXL devices", both!("CXL_ALLOWED")),
    snp("guest-vmpl", Group::GuestPolicy, "asked for at a lower privilege level", both!("VMPL_NOT_ALLOWED")),
    snp("guest-vmpl-range", Group::GuestPolicy, "a privilege level that is none", both!("VMPL_RANGE")),
    snp("host-requested", Group::GuestPolicy, "the host asked, not the guest", both!("HOST_REQUESTED")),
    snp(
        "alias-check",
        Group::Platform,
        "the firmware did not look for aliased memory",
        both!("ALIAS_CHECK_INCOMPLETE"),
    ),
    snp(
        "measurement-other",
        Group::Claims,
        "other code was launched",
        &[(Verify, "MEASUREMENT_NOT_ALLOWED"), (Release, "MEASUREMENT_NOT_ALLOWED"), (Boot, "MEASUREMENT_MISMATCH")],
    ),
    snp(
        "host-data-other",
        Group::Configuration,
        "the report names another configuration than the enclave was given",
        &[(Verify, "CLAIMS_CONFIG_DIGEST"), (Release, "CONFIG_DIGEST_NOT_ALLOWED"), (Boot, "CONFIG_DIGEST_MISMATCH")],
    ),
    snp(
        "report-data-last-byte",
        Group::Claims,
        "REPORT_DATA differs in its last byte",
        &[DEVICE, (VerifyHostile, "REPORT_DATA_MISMATCH"), (Release, "REPORT_DATA_SHAPE")],
    ),
    snp(
        "report-data-first-32-only",
        Group::Claims,
        "REPORT_DATA is right in its first 32 bytes only",
        &[DEVICE, (VerifyHostile, "REPORT_DATA_MISMATCH"), (Release, "REPORT_DATA_MISMATCH")],
    ),
];

/// Leaf, authorities and revocation list.
pub const CHAIN: &[Fault] = &[
    framing("leaf-missing", "no leaf", both!("LEAF_MISSING")),
    framing("leaf-truncated", "a leaf without its last byte", both!("LEAF_MALFORMED")),
    framing("leaf-trailing-byte", "a leaf with a byte more", both!("LEAF_MALFORMED")),
    framing("leaf-pem", "a leaf in PEM where DER belongs", both!("LEAF_MALFORMED")),
    snp("leaf-flipped", Group::Signature, "one bit of the leaf flipped after signing", both!("LEAF_SIGNATURE")),
    chain("chain-self-made", "a chain of somebody's own with the simulated root's names", both!("LEAF_SIGNATURE")),
    chain(
        "chain-self-made-amd",
        "a chain of somebody's own with AMD's names, under a policy that demands hardware",
        &[(VerifyHardware, "LEAF_SIGNATURE")],
    ),
    chain("leaf-genoa-under-milan", "the leaf of a Genoa, the report of a Milan", both!("LEAF_PRODUCT")),
    chain("product-not-covered", "a Milan, for which the policy's root has no authority", both!("ANCHOR_MISSING")),
    chain("leaf-is-ask", "the ASK's certificate as the leaf", both!("LEAF_NAME")),
    chain("leaf-amd-name", "a simulated leaf with the name of AMD's", both!("LEAF_NAME")),
    chain("leaf-issuer-other", "another issuer is named", both!("LEAF_ISSUER")),
    chain("leaf-signed-by-ark", "the root signed the leaf instead of its ASK", both!("LEAF_SIGNATURE")),
    chain("leaf-extension-twice", "one of AMD's extensions stands twice", both!("LEAF_EXTENSION_DUPLICATE")),
    chain("leaf-extension-missing", "the chip's identifier is missing", both!("LEAF_EXTENSION_MISSING")),
    chain("leaf-extension-padded", "an integer is not in its shortest form", both!("LEAF_EXTENSION_VALUE")),
    chain("leaf-extension-critical", "a critical extension that nobody knows", both!("LEAF_EXTENSION_CRITICAL")),
    chain("leaf-csp-and-chip", "a leaf that names a chip and a cloud provider", both!("LEAF_EXTENSION_UNEXPECTED")),
    chain("leaf-hwid-short", "an identifier of 8 bytes on a Genoa", both!("LEAF_HWID")),
    chain("leaf-product-unknown", "a product that nobody knows", both!("LEAF_PRODUCT")),
    chain("leaf-pss-salt", "RSASSA-PSS with a salt of 32 bytes, and named so", ALGORITHM),
    chain("leaf-pss-hidden-salt", "a salt of 32 bytes under the name of 48", both!("LEAF_SIGNATURE")),
    chain("leaf-pss-sha256", "RSASSA-PSS with SHA-256", ALGORITHM),
    chain("leaf-pkcs1", "RSASSA-PKCS1-v1_5", ALGORITHM),
    chain("leaf-algorithm-inside", "another algorithm inside than outside", both!("LEAF_MALFORMED")),
    chain("leaf-key-p256", "the leaf's key lies on another curve", both!("LEAF_KEY")),
    chain("leaf-expired", "the leaf is past its end", both!("LEAF_EXPIRED")),
    chain("leaf-not-yet", "the leaf is not yet in force", both!("LEAF_NOT_YET_VALID")),
    chain("vlek-not-listed", "a loaded key of a cloud provider that no policy names", both!("VLEK_NOT_ALLOWED")),
    chain("vlek-as-vcek", "a loaded key's certificate under the name of a chip's", both!("LEAF_EXTENSION_UNEXPECTED")),
    chain("vlek-without-authority", "a loaded key without the certificate of its authority", both!("ASVK_MISSING")),
    chain("vlek-under-ask", "a loaded key whose authority is the ASK", both!("ASVK_NAME")),
    chain("asvk-unexpected", "an authority of loaded keys beside a chip's key", both!("ASVK_UNEXPECTED")),
    crl("crl-missing", "no revocation list", both!("CRL_MISSING")),
    crl("crl-truncated", "a revocation list without its last byte", both!("CRL_MALFORMED")),
    crl("crl-expired", "a revocation list past its next update", both!("CRL_EXPIRED")),
    crl("crl-not-yet", "a revocation list of tomorrow", both!("CRL_NOT_YET_VALID")),
    crl("crl-too-old", "a revocation list in force, older than the policy accepts", both!("CRL_TOO_OLD")),
    crl("crl-number", "a revocation list with a number below the floor", both!("CRL_NUMBER_BELOW_FLOOR")),
    crl("crl-revokes-ask", "the ASK is revoked", both!("ASK_REVOKED")),
    crl("crl-issuer-other", "another authority is named", both!("CRL_ISSUER")),
    crl("crl-signed-by-ask", "the ASK signed the list instead of the root", both!("CRL_SIGNATURE")),
    crl("crl-pkcs1", "RSASSA-PKCS1-v1_5", both!("CRL_ALGORITHM")),
    crl("crl-delta", "a list of changes only", both!("CRL_EXTENSION_CRITICAL")),
    snp(
        "hardware-as-simulated",
        Group::Simulation,
        "what looks like AMD's under a policy that names a simulated root",
        both!("LEAF_NOT_SIMULATED"),
    ),
    snp("marker-missing", Group::Simulation, "the leaf does not say that it is simulated", both!("LEAF_NOT_SIMULATED")),
    snp(
        "marker-critical",
        Group::Simulation,
        "the marker is critical, as it never is",
        both!("LEAF_EXTENSION_CRITICAL"),
    ),
];
