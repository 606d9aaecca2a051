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

/// Intel TDX under Intel's root: up-to-date platforms only, no debug, no migration, no service TD.
pub const HARDWARE_TDX_STRICT: Preset =
    Preset { name: "hardware-tdx-strict", text: include_str!("../presets/hardware-tdx-strict.toml") };

/// The same rules for a simulated processor of either kind.
pub const SIMULATION: Preset = Preset { name: "simulation", text: include_str!("../presets/simulation.toml") };

/// All of them.
pub const ALL: [Preset; 3] = [HARDWARE_SNP_STRICT, HARDWARE_TDX_STRICT, SIMULATION];

/// The base of that name.
#[must_use]
pub fn find(name: &str) -> Option<Preset> {
    ALL.into_iter().find(|preset| preset.name == name)
}

/// The tables of [`HARDWARE_TDX_STRICT`], without what only a user knows and without the rest of the base.
pub(crate) fn tdx_rules() -> &'static str {
    let text = HARDWARE_TDX_STRICT.text;
    let body = text.split_once("[tdx]\n").map_or(text, |(_, body)| body);
    body.split_once("\n[session]").map_or(body, |(rules, _)| rules)
}
