//! Every rule by name: its stable code, what kind of failure it reports, what it looks at and what to do.
//! It applies none of them: `rules` and `binding` do.

/// What kind of failure a check reports; decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The evidence does not speak for this session or handshake: exit 2.
    Binding,
    /// The policy does not want it: exit 4.
    Policy,
    /// Older collateral than the policy accepts, and nothing worse: exit 3.
    Stale,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $class:ident, $subject:literal, $remedy:literal;)*) => {
        /// Every rule, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What kind of failure it reports.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }

            /// What it looks at.
            #[must_use]
            pub const fn subject(self) -> &'static str {
                match self { $(Self::$name => $subject,)* }
            }

            /// What to do when it says no.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

checks! {
    /// The evidence was made for another session, nonce or key.
    ReportData = "REPORT_DATA_MISMATCH", Binding, "binding",
        "do not send anything: the evidence was not made for this connection; connect again, and report it if it happens twice";
    /// REPORT_DATA has the shape of the other use.
    ReportDataShape = "REPORT_DATA_SHAPE", Binding, "shape of REPORT_DATA",
        "do not send anything: evidence for a key release was offered for a session, or the reverse";
    /// The Merkle path is malformed.
    MerklePath = "MERKLE_PATH_INVALID", Binding, "place in the tree",
        "do not send anything: the answer does not have the form of the protocol";
    /// The claims cannot be read.
    Claims = "CLAIMS_INVALID", Binding, "claims",
        "use client and enclave of the same release";
    /// The claims name another mode than the policy.
    ClaimsMode = "CLAIMS_MODE", Binding, "mode in the claims",
        "use a policy of the enclave's mode; a simulated enclave never satisfies a hardware policy";
    /// The claims name another TLS key than the connection's.
    ClaimsSpki = "CLAIMS_SPKI", Binding, "TLS key in the claims",
        "do not send anything: somebody else ends this TLS connection";
    /// The claims name another configuration than the evidence.
    ClaimsConfigDigest = "CLAIMS_CONFIG_DIGEST", Binding, "configuration in the claims",
        "do not send anything: the enclave contradicts its own evidence";
    /// Verified under other anchors than the policy's.
    Root = "ROOT_MISMATCH", Binding, "trust root",
        "verify the evidence under the anchors of the policy that appraises it";
    /// Verified under another mode than the policy's.
    Mode = "MODE_NOT_ALLOWED", Policy, "trust root",
        "verify the evidence under the anchors of the policy that appraises it";
    /// Another technology.
    Tee = "TEE_NOT_ALLOWED", Policy, "technology",
        "add the technology to `tee` if you accept it";
    /// Other code.
    Measurement = "MEASUREMENT_NOT_ALLOWED", Policy, "measured code",
        "rebuild and measure the release that you reviewed (`vouchsafe measure`), and add its digest if this one is right";
    /// Another configuration.
    ConfigDigest = "CONFIG_DIGEST_NOT_ALLOWED", Policy, "bound configuration",
        "read the configuration that the operator uses, and add its SHA-256 to `config_digests` if you accept it";
    /// The guest is migratable or debuggable, or lacks a demanded limit.
    Debug = "DEBUG_ALLOWED", Policy, "guest policy: debug",
        "the host can read this guest's memory; it must be launched with debug forbidden";
    /// A migration agent may be associated.
    Migration = "MIGRATION_ALLOWED", Policy, "guest policy: migration",
        "the guest must be launched with migration forbidden";
    /// A migration agent is associated.
    MigrationAgent = "MIGRATION_AGENT_PRESENT", Policy, "migration agent",
        "the guest must be launched without a migration agent";
    /// Sibling threads.
    Smt = "SMT_ALLOWED", Policy, "guest policy: SMT",
        "the guest must be launched with SMT forbidden, on a machine that has it off";
    /// CXL.
    Cxl = "CXL_ALLOWED", Policy, "guest policy: CXL",
        "the guest must be launched with CXL forbidden";
    /// One socket.
    SingleSocket = "SINGLE_SOCKET_NOT_REQUIRED", Policy, "guest policy: single socket",
        "the guest must be launched with the single-socket bit";
    /// Memory encryption.
    MemXts = "AES_256_XTS_NOT_REQUIRED", Policy, "guest policy: AES-256-XTS",
        "the guest must be launched with the AES-256-XTS bit";
    /// Power meter.
    Rapl = "RAPL_NOT_DISABLED", Policy, "guest policy: RAPL",
        "the guest must be launched with RAPL disabled";
    /// Ciphertext hiding demanded by the guest.
    CiphertextHiding = "CIPHERTEXT_HIDING_NOT_REQUIRED", Policy, "guest policy: ciphertext hiding",
        "the guest must be launched with the ciphertext-hiding bit";
    /// Page swapping.
    PageSwap = "PAGE_SWAP_NOT_DISABLED", Policy, "guest policy: page swap",
        "the guest must be launched with page swap disabled";
    /// Privilege level.
    Vmpl = "VMPL_NOT_ALLOWED", Policy, "privilege level",
        "the report must be asked for at a privilege level that the policy names";
    /// Processor family.
    Product = "PRODUCT_NOT_ALLOWED", Policy, "processor family",
        "use a machine that the policy names; before adding Milan read why the base leaves it out (docs/policy.md)";
    /// Report version.
    Version = "VERSION_TOO_OLD", Policy, "report version",
        "the machine's operator must update the SNP firmware";
    /// Which chip.
    Platform = "PLATFORM_NOT_ALLOWED", Policy, "machine",
        "add its id to `platforms` if the machine is the one that you mean; a masked chip id satisfies only `csp`";
    /// A provider's key.
    Vlek = "VLEK_NOT_ALLOWED", Policy, "signing key",
        "ask for evidence signed by the chip's own key, or name the cloud provider in `csp`";
    /// Aliased memory.
    AliasCheck = "ALIAS_CHECK_INCOMPLETE", Policy, "memory alias check",
        "the machine's operator must update firmware and BIOS (AMD-SB-3015)";
    /// Ciphertext hiding on the platform.
    PlatformCiphertextHiding = "CIPHERTEXT_HIDING_OFF", Policy, "platform: ciphertext hiding",
        "the machine's operator must switch ciphertext hiding on";
    /// Security versions.
    Tcb = "TCB_BELOW_FLOOR", Policy, "security versions",
        "the machine's operator must update firmware and microcode, commit them, and launch the guest again";
    /// A CPU without a floor.
    CpuModel = "CPU_MODEL_NOT_LISTED", Policy, "processor model",
        "find the microcode floor of this CPU in AMD's bulletins and add it to `sev-snp.tcb`";
    /// Firmware that can be rolled back.
    Provisional = "FIRMWARE_PROVISIONAL", Policy, "committed firmware",
        "the machine's operator must commit the running firmware (SNP_COMMIT)";
    /// More is committed than runs.
    TcbInconsistent = "TCB_INCONSISTENT", Policy, "committed against running firmware",
        "do not use this machine: its firmware contradicts itself; its operator must update it, restart, and launch the guest again";
    /// Mitigations.
    Mitigation = "MITIGATION_MISSING", Policy, "mitigations",
        "the machine's operator must update the firmware, and launch the guest again";
    /// Below a floor whose day has come.
    TcbAnnounced = "TCB_BELOW_ANNOUNCED_FLOOR", Policy, "announced security versions",
        "the announced day has come: the machine's operator must update, commit, and launch the guest again";
    /// Other first contents of a TD.
    MrTd = "MR_TD_NOT_ALLOWED", Policy, "measured code (MRTD)",
        "rebuild and measure the release that you reviewed (`vouchsafe measure`), and add its digest if this one is right";
    /// Other contents measured later.
    Rtmr = "RTMR_NOT_ALLOWED", Policy, "measured later",
        "record the four registers of the release that you reviewed, and list them";
    /// MRCONFIGID does not end in zeros.
    MrConfigIdShape = "MR_CONFIG_ID_SHAPE", Policy, "shape of MRCONFIGID",
        "the TD must be launched with the SHA-256 of its configuration and 16 zero bytes as MRCONFIGID";
    /// Another owner.
    MrOwner = "MR_OWNER_NOT_ALLOWED", Policy, "owner (MROWNER)",
        "the TD must be launched with an owner that the policy names; zero is none";
    /// Another owner's configuration.
    MrOwnerConfig = "MR_OWNER_CONFIG_NOT_ALLOWED", Policy, "owner's configuration (MROWNERCONFIG)",
        "the TD must be launched with a configuration that the policy names; zero is none";
    /// A service TD is bound.
    ServiceTd = "SERVICE_TD_NOT_ALLOWED", Policy, "service TD (MRSERVICETD)",
        "the TD must be launched without a service TD, or with one that you reviewed and list";
    /// Extended features.
    Xfam = "XFAM_NOT_ALLOWED", Policy, "extended features (XFAM)",
        "the TD must be launched without these features, or add their bits to `tdx.xfam`";
    /// Debug.
    TdDebug = "TD_DEBUG", Policy, "TD attributes: debug",
        "the host can read this TD's memory; it must be launched without DEBUG";
    /// Profiling.
    TdProfiling = "TD_PROFILING", Policy, "TD attributes: profiling",
        "the host can watch this TD; it must be launched without profiling attributes";
    /// Supervisor protection keys.
    TdPks = "TD_PKS", Policy, "TD attributes: PKS",
        "the TD must be launched without PKS, or allow it in the policy";
    /// Key Locker.
    TdKeyLocker = "TD_KEY_LOCKER", Policy, "TD attributes: Key Locker",
        "the TD must be launched without Key Locker, or allow it in the policy";
    /// Performance counters.
    TdPerfmon = "TD_PERFMON", Policy, "TD attributes: PERFMON",
        "the TD must be launched without PERFMON: performance counters are a side channel";
    /// Attributes that this release does not know.
    TdUnknown = "TD_ATTRIBUTES_UNKNOWN", Policy, "TD attributes: others",
        "the TD must be launched without attributes that this release does not know";
    /// Another TDX module.
    MrSeam = "MR_SEAM_NOT_ALLOWED", Policy, "TDX module (MRSEAM)",
        "the machine's operator must load a TDX module that the policy names, or add this one";
    /// Another signer of the module.
    MrSignerSeam = "MR_SIGNER_SEAM_NOT_ALLOWED", Policy, "signer of the TDX module (MRSIGNERSEAM)",
        "the machine's operator must load Intel's TDX module";
    /// A module with attributes.
    SeamAttributes = "SEAM_ATTRIBUTES_NOT_ZERO", Policy, "attributes of the TDX module",
        "the machine's operator must load a TDX module for production";
    /// Quote version.
    QuoteVersion = "QUOTE_VERSION_NOT_ALLOWED", Policy, "quote version",
        "the machine's operator must update the quoting software";
    /// Processor family.
    Fmspc = "FMSPC_NOT_ALLOWED", Policy, "processor family (FMSPC)",
        "use a machine that the policy names, or add its FMSPC";
    /// Provisioning enclave.
    PceId = "PCE_ID_NOT_ALLOWED", Policy, "provisioning enclave (PCEID)",
        "the machine must be certified by a provisioning enclave that the policy names";
    /// Sibling threads.
    PckSmt = "PCK_SMT", Policy, "platform: SMT",
        "use a machine with SMT off, or allow it in the policy";
    /// Packages can be added.
    PckDynamicPlatform = "PCK_DYNAMIC_PLATFORM", Policy, "platform: dynamic",
        "use a machine to which no package can be added, or allow it in the policy";
    /// Kept keys.
    PckCachedKeys = "PCK_CACHED_KEYS", Policy, "platform: cached keys",
        "use a machine whose root keys Intel does not keep, or allow it in the policy";
    /// Intel's word on the level.
    TcbStatus = "TCB_STATUS_NOT_ALLOWED", Policy, "status of the platform",
        "the machine's operator must install what Intel's advisories ask for, and launch the TD again";
    /// A grace window has ended.
    TcbGrace = "TCB_GRACE_ENDED", Policy, "grace for the platform",
        "the grace window is over: the machine's operator must install the update, and launch the TD again";
    /// Open advisories.
    TcbAdvisory = "TCB_ADVISORY_NOT_ALLOWED", Policy, "open advisories",
        "the machine's operator must install what these advisories ask for, or accept them by name";
    /// Age of the revocation list.
    CrlAge = "CRL_TOO_OLD", Stale, "age of the revocation list",
        "the machine's operator must fetch the current revocation list";
    /// Number of the revocation list.
    CrlNumber = "CRL_NUMBER_BELOW_FLOOR", Stale, "number of the revocation list",
        "the machine's operator must fetch the current revocation list: this one was replaced";
    /// An old assessment.
    TcbEvaluation = "TCB_EVALUATION_BELOW_FLOOR", Stale, "evaluation number",
        "the machine's operator must fetch the current collateral: this one is of an older assessment";
    /// An assessment older than announced.
    TcbEvaluationAnnounced = "TCB_EVALUATION_BELOW_ANNOUNCED", Stale, "announced evaluation number",
        "the announced day has come: the machine's operator must fetch the current collateral";
    /// Age of Intel's collateral.
    CollateralAge = "COLLATERAL_TOO_OLD", Stale, "age of the collateral",
        "the machine's operator must fetch the current collateral";
    /// The root's revocation list.
    RootCrlNumber = "ROOT_CRL_NUMBER_BELOW_FLOOR", Stale, "number of the root's revocation list",
        "the machine's operator must fetch the current revocation list: this one was replaced";
    /// The PCK authority's revocation list.
    PckCrlNumber = "PCK_CRL_NUMBER_BELOW_FLOOR", Stale, "number of the PCK revocation list",
        "the machine's operator must fetch the current revocation list: this one was replaced";
    /// Which model.
    Model = "MODEL_NOT_LISTED", Policy, "model",
        "add the model to `models` if you mean to use it";
    /// Version of the model.
    ModelSequence = "MODEL_SEQUENCE_BELOW_FLOOR", Policy, "model version",
        "the service runs an older version than you accept: it must load the current package";
    /// Who signed the model.
    VendorKey = "VENDOR_KEY_NOT_ALLOWED", Policy, "model signature",
        "get the vendor's key from the vendor, not from the service, and add it to `vendor_keys`";
}
