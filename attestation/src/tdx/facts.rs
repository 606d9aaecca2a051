//! Turns a verified quote and its collateral into typed facts.
//! It establishes nothing: the facts are as good as the verdict that carries them.

use super::{
    frame::{Body, Frame, array},
    layout as at,
};
use crate::UnixTime;

/// What a verified TDX quote vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxFacts {
    /// Quote version: 4 or 5.
    pub quote_version: u16,
    /// The TD report inside.
    pub body: TdReport,
    /// Status of platform, module and quoting enclave, converged as Intel's library does, with every reservation about
    /// the quoting enclave kept besides. With a body of TDX 1.5 it says whether to launch the TD again, and is no better than
    /// the level of the TDX module that runs now.
    pub status: TcbStatus,
    /// Status of the platform with its TDX module, as of the TD's launch.
    pub platform_status: TcbStatus,
    /// Status of the quoting enclave.
    pub qe_status: TcbStatus,
    /// Intel's advisories that the status stands for, such as `INTEL-SA-01036`: at most 64 names of capital letters,
    /// digits and hyphens. A quote with other names is refused, so that none is left out.
    pub advisories: Vec<String>,
    /// When Intel set the level that the platform meets: of launch or of what runs now, the older one.
    pub tcb_date: UnixTime,
    /// The lower of TCB info's and QE identity's evaluation numbers: grows with every assessment of Intel's.
    pub evaluation_number: u32,
    /// Family, model, stepping, platform type and custom SKU of the processor.
    pub fmspc: [u8; 6],
    /// Identity of the provisioning certification enclave.
    pub pce_id: [u8; 2],
    /// Its security version.
    pub pce_svn: u16,
    /// Security versions of the processor.
    pub cpu_svn: [u8; 16],
    /// Platform provisioning identifier: one machine.
    pub ppid: [u8; 16],
    /// Identifier of a platform with several packages, where its certificate has one.
    pub platform_instance: Option<[u8; 16]>,
    /// Whether the platform may take processors from others.
    pub dynamic_platform: PckFlag,
    /// Whether Intel's registration keeps the platform's keys.
    pub cached_keys: PckFlag,
    /// Whether sibling threads are on.
    pub smt: PckFlag,
    /// Number of the root authority's revocation list.
    pub root_crl_number: u32,
    /// Number of the PCK authority's revocation list.
    pub pck_crl_number: u32,
    /// When the oldest item of the collateral was issued (TCB info, QE identity and both lists; no certificates).
    pub oldest_issue: UnixTime,
    /// When the first item of the collateral runs out.
    pub first_expiry: UnixTime,
}

/// The fields of a TD report: Intel TDX DCAP Quote Generation Library and Quote Verification, rev 0.9, appendix A.3.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdReport {
    /// Security versions of the TDX module.
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the TDX module.
    pub mr_seam: [u8; 48],
    /// Signer of the TDX module; zero for Intel's.
    pub mr_signer_seam: [u8; 48],
    /// Attributes of the TDX module.
    pub seam_attributes: [u8; 8],
    /// Attributes of the TD.
    pub attributes: TdAttributes,
    /// Extended features that the TD may use.
    pub xfam: u64,
    /// Measurement of the TD's first contents.
    pub mr_td: [u8; 48],
    /// What the host bound at launch: `config_digest || 0^16`.
    pub mr_config_id: [u8; 48],
    /// Identity of the TD's owner, chosen by the host.
    pub mr_owner: [u8; 48],
    /// Configuration of the TD's owner, chosen by the host.
    pub mr_owner_config: [u8; 48],
    /// Registers that the guest extends.
    pub rtmr: [[u8; 48]; 4],
    /// 64 bytes chosen by the guest.
    pub report_data: [u8; 64],
    /// What TDX 1.5 adds.
    pub v15: Option<Td15>,
}

/// What a TD report of TDX 1.5 adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Td15 {
    /// Security versions of the module that runs now; the other ones are those of launch.
    pub tee_tcb_svn2: [u8; 16],
    /// Measurement of the service TDs bound to this TD; zero for none.
    pub mr_service_td: [u8; 48],
}

impl TdReport {
    /// Reads the fields; what they are worth is what the quote's signature is worth.
    pub(crate) fn read(frame: &Frame<'_>, body: Body) -> Self {
        let report = frame.body;
        Self {
            tee_tcb_svn: array(report, at::TEE_TCB_SVN),
            mr_seam: array(report, at::MRSEAM),
            mr_signer_seam: array(report, at::MRSIGNERSEAM),
            seam_attributes: array(report, at::SEAMATTRIBUTES),
            attributes: TdAttributes(u64::from_le_bytes(array(report, at::TDATTRIBUTES))),
            xfam: u64::from_le_bytes(array(report, at::XFAM)),
            mr_td: array(report, at::MRTD),
            mr_config_id: array(report, at::MRCONFIGID),
            mr_owner: array(report, at::MROWNER),
            mr_owner_config: array(report, at::MROWNERCONFIG),
            rtmr: [at::RTMR0, at::RTMR1, at::RTMR2, at::RTMR3].map(|field| array(report, field)),
            report_data: array(report, at::REPORTDATA),
            v15: (body.kind == 3).then(|| Td15 {
                tee_tcb_svn2: array(report, at::TEE_TCB_SVN_2),
                mr_service_td: array(report, at::MRSERVICETD),
            }),
        }
    }
}

/// ATTRIBUTES of a TD: Intel TDX Module ABI Specification 348551-008US, table 3.23.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TdAttributes(pub u64);

impl TdAttributes {
    /// Bit 0: the host may debug the TD.
    #[must_use]
    pub const fn debug(self) -> bool {
        self.bit(0)
    }

    /// Bits 4 to 6: the host may profile the TD. The other bits up to 7 are reserved, and a quote that sets one is refused.
    #[must_use]
    pub const fn profiling(self) -> bool {
        self.0 & 0xfe != 0
    }

    /// Bit 16: the TDX module defends the TD against being stepped by counted instructions.
    #[must_use]
    pub const fn icssd(self) -> bool {
        self.bit(16)
    }

    /// Bit 17: the TD report covers the service TDs.
    #[must_use]
    pub const fn servtd_ext(self) -> bool {
        self.bit(17)
    }

    /// Bit 27: linear address space separation.
    #[must_use]
    pub const fn lass(self) -> bool {
        self.bit(27)
    }

    /// Bit 28: a page that the host takes away stops the TD instead of raising an exception inside.
    #[must_use]
    pub const fn sept_ve_disable(self) -> bool {
        self.bit(28)
    }

    /// Bit 29: the TD can be moved by a migration TD.
    #[must_use]
    pub const fn migratable(self) -> bool {
        self.bit(29)
    }

    /// Bit 30: supervisor protection keys.
    #[must_use]
    pub const fn pks(self) -> bool {
        self.bit(30)
    }

    /// Bit 31: Key Locker.
    #[must_use]
    pub const fn key_locker(self) -> bool {
        self.bit(31)
    }

    /// Bit 62: the TD provisions devices (TDX Connect).
    #[must_use]
    pub const fn tpa(self) -> bool {
        self.bit(62)
    }

    /// Bit 63: performance counters.
    #[must_use]
    pub const fn perfmon(self) -> bool {
        self.bit(63)
    }

    /// The bits that none of these names: defined by newer modules, so a quote with them passes, but no policy can speak of
    /// them.
    #[must_use]
    pub const fn unnamed(self) -> u64 {
        // Bits 0 to 7, 16, 17, 27 to 31, 62 and 63.
        self.0 & !(0xff | 0b11 << 16 | 0b1_1111 << 27 | 0b11 << 62)
    }

    const fn bit(self, bit: u32) -> bool {
        self.0 & (1 << bit) != 0
    }
}

/// A flag of the PCK certificate, where the platform's kind of certificate has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PckFlag {
    /// The certificate does not say.
    Undefined,
    /// It says no.
    No,
    /// It says yes.
    Yes,
}

/// What Intel says of a platform's level, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcbStatus {
    /// Nothing to do.
    UpToDate,
    /// Software must harden itself.
    SwHardeningNeeded,
    /// The platform needs another configuration.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSwHardeningNeeded,
    /// An update is missing.
    OutOfDate,
    /// An update and another configuration are missing.
    OutOfDateConfigurationNeeded,
    /// The TD was launched under an older level than the platform has now: launch it again.
    TdRelaunchAdvised,
    /// The same, and another configuration.
    TdRelaunchAdvisedConfigurationNeeded,
    /// Keys of this level are not to be believed.
    Revoked,
}

// What a level lacks: no word says that both an update and hardening are missing, so the update counts.
const HARDENING: u8 = 1;
const CONFIGURATION: u8 = 2;
const UPDATE: u8 = 4;

impl TcbStatus {
    /// Intel's word, as policies write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TdRelaunchAdvised => "TDRelaunchAdvised",
            Self::TdRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }

    /// Intel's library lets only an outdated or revoked quoting enclave count; here one that needs another configuration
    /// counts too.
    pub(crate) const fn and_qe(self, qe: Self) -> Self {
        match (qe, self) {
            (Self::ConfigurationNeeded, Self::UpToDate) => Self::ConfigurationNeeded,
            (Self::ConfigurationNeeded, Self::SwHardeningNeeded) => Self::ConfigurationAndSwHardeningNeeded,
            (Self::ConfigurationNeeded, Self::OutOfDate) => Self::OutOfDateConfigurationNeeded,
            (Self::ConfigurationNeeded, Self::TdRelaunchAdvised) => Self::TdRelaunchAdvisedConfigurationNeeded,
            (Self::OutOfDateConfigurationNeeded, Self::Revoked) => Self::Revoked,
            (Self::OutOfDateConfigurationNeeded, _) => Self::OutOfDateConfigurationNeeded,
            (_, status) => status,
        }
    }

    /// With the level of what runs now, TDX 1.5: the worse of both, and every reservation of either. Where launching again is
    /// advised, Intel's rule has looked at both levels.
    pub(crate) const fn and_current(self, current: Self) -> Self {
        match (self, current) {
            (Self::Revoked, _) | (_, Self::Revoked) => Self::Revoked,
            (Self::TdRelaunchAdvised | Self::TdRelaunchAdvisedConfigurationNeeded, _) => self,
            _ => match self.lacks() | current.lacks() {
                0 => Self::UpToDate,
                HARDENING => Self::SwHardeningNeeded,
                CONFIGURATION => Self::ConfigurationNeeded,
                lacks if lacks & UPDATE == 0 => Self::ConfigurationAndSwHardeningNeeded,
                lacks if lacks & CONFIGURATION == 0 => Self::OutOfDate,
                _ => Self::OutOfDateConfigurationNeeded,
            },
        }
    }

    const fn lacks(self) -> u8 {
        match self {
            Self::UpToDate => 0,
            Self::SwHardeningNeeded => HARDENING,
            Self::ConfigurationNeeded => CONFIGURATION,
            Self::ConfigurationAndSwHardeningNeeded => CONFIGURATION | HARDENING,
            Self::OutOfDate | Self::TdRelaunchAdvised => UPDATE,
            Self::OutOfDateConfigurationNeeded | Self::TdRelaunchAdvisedConfigurationNeeded => UPDATE | CONFIGURATION,
            Self::Revoked => u8::MAX,
        }
    }

    /// From Intel's word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::UpToDate,
            Self::SwHardeningNeeded,
            Self::ConfigurationNeeded,
            Self::ConfigurationAndSwHardeningNeeded,
            Self::OutOfDate,
            Self::OutOfDateConfigurationNeeded,
            Self::TdRelaunchAdvised,
            Self::TdRelaunchAdvisedConfigurationNeeded,
            Self::Revoked,
        ]
        .into_iter()
        .find(|status| status.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_there_and_back() {
        for word in ["UpToDate", "SWHardeningNeeded", "TDRelaunchAdvisedConfigurationNeeded", "Revoked"] {
            assert_eq!(TcbStatus::from_word(word).unwrap().as_str(), word);
        }
        assert_eq!(TcbStatus::from_word("uptodate"), None);
    }

    #[test]
    fn a_reservation_about_the_quoting_enclave_counts() {
        use TcbStatus as S;
        for (platform, qe, all) in [
            (S::UpToDate, S::UpToDate, S::UpToDate),
            (S::UpToDate, S::ConfigurationNeeded, S::ConfigurationNeeded),
            (S::SwHardeningNeeded, S::ConfigurationNeeded, S::ConfigurationAndSwHardeningNeeded),
            (S::OutOfDate, S::ConfigurationNeeded, S::OutOfDateConfigurationNeeded),
            (S::TdRelaunchAdvised, S::ConfigurationNeeded, S::TdRelaunchAdvisedConfigurationNeeded),
            (S::UpToDate, S::OutOfDateConfigurationNeeded, S::OutOfDateConfigurationNeeded),
            (S::Revoked, S::OutOfDateConfigurationNeeded, S::Revoked),
            (S::OutOfDate, S::OutOfDate, S::OutOfDate),
        ] {
            assert_eq!(platform.and_qe(qe), all);
        }
    }

    #[test]
    fn what_runs_now_counts_as_much_as_what_was_launched() {
        use TcbStatus as S;
        for (launch, current, all) in [
            (S::UpToDate, S::UpToDate, S::UpToDate),
            (S::UpToDate, S::OutOfDate, S::OutOfDate),
            (S::UpToDate, S::SwHardeningNeeded, S::SwHardeningNeeded),
            (S::SwHardeningNeeded, S::ConfigurationNeeded, S::ConfigurationAndSwHardeningNeeded),
            (S::SwHardeningNeeded, S::OutOfDate, S::OutOfDate),
            (S::ConfigurationNeeded, S::UpToDate, S::ConfigurationNeeded),
            (S::ConfigurationAndSwHardeningNeeded, S::OutOfDate, S::OutOfDateConfigurationNeeded),
            (S::OutOfDate, S::OutOfDateConfigurationNeeded, S::OutOfDateConfigurationNeeded),
            (S::TdRelaunchAdvised, S::SwHardeningNeeded, S::TdRelaunchAdvised),
            (S::TdRelaunchAdvisedConfigurationNeeded, S::UpToDate, S::TdRelaunchAdvisedConfigurationNeeded),
            (S::UpToDate, S::Revoked, S::Revoked),
            (S::Revoked, S::UpToDate, S::Revoked),
        ] {
            assert_eq!(launch.and_current(current), all, "{launch:?} {current:?}");
        }
        // Without relaunching, the order of the two does not count.
        let words = [S::UpToDate, S::SwHardeningNeeded, S::ConfigurationNeeded, S::ConfigurationAndSwHardeningNeeded];
        for a in words.into_iter().chain([S::OutOfDate, S::OutOfDateConfigurationNeeded, S::Revoked]) {
            assert_eq!(a.and_current(a), a);
            assert!(words.iter().all(|b| a.and_current(*b) == b.and_current(a) && a.and_current(*b) >= a));
        }
    }

    #[test]
    fn bits_are_where_the_table_says() {
        let only = |bit: u32| TdAttributes(1 << bit);
        assert!(only(0).debug() && only(4).profiling() && only(6).profiling() && only(28).sept_ve_disable());
        assert!(only(16).icssd() && only(17).servtd_ext() && only(27).lass() && only(29).migratable());
        assert!(only(30).pks() && only(31).key_locker() && only(62).tpa() && only(63).perfmon());
        let unnamed: Vec<u32> = (0..64).filter(|bit| only(*bit).unnamed() != 0).collect();
        assert_eq!(unnamed, (8..16).chain(18..27).chain(32..62).collect::<Vec<_>>());
        assert!(!only(28).debug() && !only(0).profiling() && !only(8).profiling());
    }
}
