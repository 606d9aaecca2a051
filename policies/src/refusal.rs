//! Turns rules that said no into reasons with a stable code, expected and actual, and what to do.
//! A refusal does not say who is to blame: the evidence may be genuine and merely not wanted.

use core::fmt;

use serde::Serialize;
use serde_json::{Value, json};
use vouchsafe_attestation::Mode;

use crate::table::{Row, columns};

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
        "add the chip id to `platforms` if the machine is the one that you mean; a masked chip id satisfies only `csp`";
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
    /// Mitigations.
    Mitigation = "MITIGATION_MISSING", Policy, "mitigations",
        "the machine's operator must update the firmware, and launch the guest again";
    /// Age of the revocation list.
    CrlAge = "CRL_TOO_OLD", Stale, "age of the revocation list",
        "the machine's operator must fetch the current revocation list";
    /// Number of the revocation list.
    CrlNumber = "CRL_NUMBER_BELOW_FLOOR", Stale, "number of the revocation list",
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

/// One rule that said no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The stable code.
    pub code: &'static str,
    /// What was looked at.
    pub check: &'static str,
    /// What the policy accepts.
    pub expected: String,
    /// What was found.
    pub actual: String,
    /// What to do.
    pub remedy: &'static str,
    /// The rule.
    #[serde(skip)]
    pub rule: Check,
}

impl Reason {
    pub(crate) fn new(rule: Check, expected: String, actual: String) -> Self {
        Self { code: rule.code(), check: rule.subject(), expected, actual, remedy: rule.remedy(), rule }
    }
}

/// The verdict that evidence is not wanted, with every reason.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Every rule that said no; binding failures first. Never empty.
    pub reasons: Vec<Reason>,
    mode: Mode,
    policy: String,
    rows: Vec<Row>,
}

impl Refusal {
    pub(crate) fn new(mut reasons: Vec<Reason>, mode: Mode, policy: String, rows: Vec<Row>) -> Self {
        reasons.sort_by_key(|reason| match reason.rule.class() {
            Class::Binding => 0,
            Class::Policy => 1,
            Class::Stale => 2,
        });
        Self { reasons, mode, policy, rows }
    }

    fn first(&self) -> Check {
        // `appraise` makes a refusal only when there is a reason; without one, the least committal code stands.
        self.reasons.first().map_or(Check::ReportData, |reason| reason.rule)
    }

    /// The code of the first reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.first().code()
    }

    /// The exit status: 2 when the evidence does not speak for this session, 4 when the policy refuses,
    /// 3 when nothing but newer collateral is wanting.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self.first().class() {
            Class::Binding => 2,
            Class::Policy => 4,
            Class::Stale => 3,
        }
    }

    /// What to do about the first reason.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        self.first().remedy()
    }

    /// Whether a rule is among the reasons.
    #[must_use]
    pub fn names(&self, check: Check) -> bool {
        self.reasons.iter().any(|reason| reason.rule == check)
    }

    /// The policy's mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Everything that was looked at, accepted or not.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The verdict for `--json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "accepted": false,
            "mode": self.mode.as_str(),
            "simulated": self.mode == Mode::Simulation,
            "policy": self.policy,
            "code": self.code(),
            "exit": self.exit(),
            "reasons": self.reasons,
            "rows": self.rows,
        })
    }

    /// The whole table, for people.
    #[must_use]
    pub fn table(&self) -> String {
        format!("{}\n{}", self.headline(), columns(&self.rows))
    }

    fn headline(&self) -> String {
        let word = match self.mode {
            Mode::Hardware => "",
            Mode::Simulation => "SIMULATED: ",
        };
        let n = self.reasons.len();
        let plural = if n == 1 { "reason" } else { "reasons" };
        format!("{word}refused by the policy \"{}\" (mode {}), {n} {plural}", self.policy, self.mode)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        for reason in &self.reasons {
            write!(
                f,
                "\n  {}: {}: expected {}; found {}\n      {}",
                reason.code, reason.check, reason.expected, reason.actual, reason.remedy
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
