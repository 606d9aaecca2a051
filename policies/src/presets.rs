//! Turns the name of a base into the text that `extends` starts from.
//! No base is a policy: each leaves out what only its user can know.

/// A shipped base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// What `extends` names.
    pub name: &'static str,
    /// The whole file.
    pub text: &'static str,
}

/// AMD SEV-SNP under AMD's roots: chip keys only, current firmware, no debug, no Milan.
pub const HARDWARE_SNP_STRICT: Preset =
    Preset { name: "hardware-snp-strict", text: include_str!("../presets/hardware-snp-strict.toml") };

/// The same rules for a simulated processor.
pub const SIMULATION: Preset = Preset { name: "simulation", text: include_str!("../presets/simulation.toml") };

/// All of them.
pub const ALL: [Preset; 2] = [HARDWARE_SNP_STRICT, SIMULATION];

/// The base of that name.
#[must_use]
pub fn find(name: &str) -> Option<Preset> {
    ALL.into_iter().find(|preset| preset.name == name)
}
