//! Turns QEMU's name of a processor into its CPUID signature, which the first register page of every virtual processor carries.
//! It does not say what the host's own processor is.

use core::{fmt, str::FromStr};

use sev::measurement::vcpu_types::CpuType;

use crate::MeasurementError;

macro_rules! models {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $sev:ident, ($family:literal, $model:literal, $stepping:literal);)+) => {
        /// A processor model of QEMU that can run SEV-SNP guests.
        ///
        /// Names, families, models and steppings stand in QEMU's target/i386/cpu.c (`builtin_x86_defs`: EPYC 23/1/2, EPYC-Rome
        /// 23/49/0, EPYC-Milan 25/1/1, EPYC-Genoa 25/17/0, EPYC-Turin 26/0/0). Versions of one model share its signature; they
        /// differ in CPUID leaves, which the launch digest does not cover.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CpuModel {
            $($(#[$doc])* $name,)+
        }

        impl CpuModel {
            /// Every model, in the order of the generations.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// QEMU's name: the value of `-cpu`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// Family, model and stepping.
            #[must_use]
            pub const fn family_model_stepping(self) -> (u32, u32, u32) {
                match self {
                    $(Self::$name => ($family, $model, $stepping),)+
                }
            }

            pub(crate) const fn of_sev(self) -> CpuType {
                match self {
                    $(Self::$name => CpuType::$sev,)+
                }
            }
        }
    };
}

models! {
    /// Naples.
    Epyc = "EPYC", Epyc, (23, 1, 2);
    /// Naples, version 1.
    EpycV1 = "EPYC-v1", EpycV1, (23, 1, 2);
    /// Naples, version 2, also called EPYC-IBPB.
    EpycV2 = "EPYC-v2", EpycV2, (23, 1, 2);
    /// Naples with indirect branch prediction barriers.
    EpycIbpb = "EPYC-IBPB", EpycIBPB, (23, 1, 2);
    /// Naples, version 3.
    EpycV3 = "EPYC-v3", EpycV3, (23, 1, 2);
    /// Naples, version 4: what this project launches with unless told otherwise.
    EpycV4 = "EPYC-v4", EpycV4, (23, 1, 2);
    /// Rome.
    EpycRome = "EPYC-Rome", EpycRome, (23, 49, 0);
    /// Rome, version 1.
    EpycRomeV1 = "EPYC-Rome-v1", EpycRomeV1, (23, 49, 0);
    /// Rome, version 2.
    EpycRomeV2 = "EPYC-Rome-v2", EpycRomeV2, (23, 49, 0);
    /// Rome, version 3.
    EpycRomeV3 = "EPYC-Rome-v3", EpycRomeV3, (23, 49, 0);
    /// Milan.
    EpycMilan = "EPYC-Milan", EpycMilan, (25, 1, 1);
    /// Milan, version 1.
    EpycMilanV1 = "EPYC-Milan-v1", EpycMilanV1, (25, 1, 1);
    /// Milan, version 2.
    EpycMilanV2 = "EPYC-Milan-v2", EpycMilanV2, (25, 1, 1);
    /// Genoa.
    EpycGenoa = "EPYC-Genoa", EpycGenoa, (25, 17, 0);
    /// Genoa, version 1.
    EpycGenoaV1 = "EPYC-Genoa-v1", EpycGenoaV1, (25, 17, 0);
    /// Turin.
    EpycTurin = "EPYC-Turin", EpycTurin, (26, 0, 0);
    /// Turin, version 1.
    EpycTurinV1 = "EPYC-Turin-v1", EpycTurinV1, (26, 0, 0);
    /// Turin, version 2.
    EpycTurinV2 = "EPYC-Turin-v2", EpycTurinV2, (26, 0, 0);
}

impl CpuModel {
    /// The CPUID signature: EAX of CPUID Fn0000_0001 (AMD 25481).
    #[must_use]
    pub const fn signature(self) -> u32 {
        let (family, model, stepping) = self.family_model_stepping();
        // Every EPYC's family is above 15: the low field is full and the rest stands in the extended one.
        ((family - 15) << 20) | ((model >> 4) << 16) | (15 << 8) | ((model & 15) << 4) | stepping
    }
}

impl Default for CpuModel {
    /// EPYC-v4: it runs on every SEV-SNP host.
    fn default() -> Self {
        Self::EpycV4
    }
}

impl FromStr for CpuModel {
    type Err = MeasurementError;

    /// QEMU's name, letter by letter.
    fn from_str(text: &str) -> Result<Self, MeasurementError> {
        Self::ALL.iter().copied().find(|cpu| cpu.as_str() == text).ok_or(MeasurementError::CpuUnknown)
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_signatures_are_those_of_the_crate_that_computes() {
        for cpu in CpuModel::ALL {
            assert_eq!(i64::from(cpu.signature()), i64::from(cpu.of_sev().sig()), "{cpu}");
            assert_eq!(cpu.as_str().parse(), Ok(*cpu));
            assert_eq!(cpu.of_sev().to_string(), cpu.as_str());
        }
        assert_eq!(CpuModel::EpycMilan.signature(), 0x00a0_0f11);
        assert_eq!("epyc-v4".parse::<CpuModel>().unwrap_err().code(), "CPU_UNKNOWN");
    }
}
