//! Turns what a user knows into the text of a complete, commented policy.
//! It does not decide what is right: whoever lists a digest has looked at what it stands for.

use core::fmt::Write as _;

use vouchsafe_attestation::{Ed25519Public, Mode, Tee, snp::Product};

use crate::{
    Listed,
    presets::{self, Preset},
};

/// What `vouchsafe policy init` was told.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// A name for verdicts, at most 64 printable characters.
    pub name: String,
    /// Which trust root; decides mode and base.
    pub anchors: InitAnchors,
    /// Accepted configuration digests, for both technologies; an empty list leaves the field to the user.
    pub config_digests: Listed<[u8; 32]>,
    /// Accepted models; an empty list leaves the field to the user.
    pub models: Listed<InitModel>,
    /// What is known of SEV-SNP; `None` does not accept it.
    pub snp: Option<InitSnp>,
    /// What is known of TDX; `None` does not accept it.
    pub tdx: Option<InitTdx>,
}

/// What the policy says of SEV-SNP. An empty list leaves the field to the user.
#[derive(Clone, Debug)]
pub struct InitSnp {
    /// Accepted launch digests.
    pub measurements: Listed<[u8; 48]>,
    /// Accepted chips.
    pub platforms: Listed<[u8; 64]>,
    /// Processor families; an empty list keeps the base's.
    pub products: Vec<Product>,
}

/// What the policy says of TDX. An empty list leaves the field to the user.
#[derive(Clone, Debug)]
pub struct InitTdx {
    /// Accepted measurements of the TD's first contents.
    pub mr_td: Listed<[u8; 48]>,
    /// Accepted values of RTMR0 to RTMR3.
    pub rtmr: [Listed<[u8; 48]>; 4],
    /// Accepted machines, by their PPID.
    pub platforms: Listed<[u8; 16]>,
}

/// Which trust root the policy names.
#[derive(Clone, Debug)]
pub enum InitAnchors {
    /// AMD's and Intel's, compiled in.
    Hardware,
    /// One made on the tester's machine.
    Simulation {
        /// Path of its certificates, as the policy shall say it.
        path: String,
        /// SHA-256 of that file.
        sha256: [u8; 32],
    },
}

/// A model that the policy accepts.
#[derive(Clone, Debug)]
pub struct InitModel {
    /// The vendor's name for it.
    pub id: String,
    /// The vendor's manifest keys.
    pub vendor_keys: Listed<Ed25519Public>,
    /// Lowest accepted sequence.
    pub min_sequence: u64,
}

impl InitAnchors {
    /// The mode of such a policy.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self {
            Self::Hardware => Mode::Hardware,
            Self::Simulation { .. } => Mode::Simulation,
        }
    }
}

impl InitOptions {
    fn base(&self) -> Preset {
        match (self.anchors.mode(), &self.snp, &self.tdx) {
            (Mode::Simulation, _, _) => presets::SIMULATION,
            (Mode::Hardware, None, Some(_)) => presets::HARDWARE_TDX_STRICT,
            (Mode::Hardware, _, _) => presets::HARDWARE_SNP_STRICT,
        }
    }
}

/// Writes the policy. What the options leave out stands there as a comment, and [`crate::Policy::parse`] then names it as missing.
#[must_use]
pub fn init_text(opts: &InitOptions) -> String {
    let mut text = String::new();
    line(&mut text, HEAD);
    line(&mut text, "version = 1");
    line(&mut text, &format!("name = {}", quoted(&opts.name)));
    line(&mut text, "");
    line(
        &mut text,
        match &opts.anchors {
            InitAnchors::Hardware => "# Evidence must come from the vendor's own root.\nmode = \"hardware\"",
            InitAnchors::Simulation { .. } => {
                "# A rehearsal: evidence comes from a simulated processor. It proves nothing about hardware.\nmode = \"simulation\""
            }
        },
    );
    let tees = [(opts.snp.is_some(), Tee::SevSnp), (opts.tdx.is_some(), Tee::Tdx)];
    let tees: Vec<_> =
        tees.iter().filter(|(known, _)| *known).map(|(_, tee)| format!("\"{}\"", tee.as_str())).collect();
    line(&mut text, &format!("tee = [{}]", tees.join(", ")));
    line(
        &mut text,
        "# Floors, attributes, revocation rules: `vouchsafe policy show` prints the base. What you write here wins over it.",
    );
    line(&mut text, &format!("extends = \"{}\"", opts.base().name));
    if opts.models.is_any() {
        line(&mut text, "\n# Any model of any vendor. Every verdict prints this.\nmodels = \"any\"");
    }
    if let InitAnchors::Simulation { path, sha256 } = &opts.anchors {
        line(&mut text, "\n# The simulated root: this file and no other. The path is relative to this policy.\n[root]");
        line(&mut text, &format!("path = {}\nsha256 = \"{}\"", quoted(path), hex::encode(sha256)));
    }
    if let Some(known) = &opts.snp {
        snp(&mut text, known, &opts.config_digests);
    }
    if let Some(known) = &opts.tdx {
        tdx(&mut text, known, &opts.config_digests);
        // No base holds the hardware rules of both technologies, so the second one's are written out.
        if opts.snp.is_some() && opts.base() == presets::HARDWARE_SNP_STRICT {
            line(&mut text, "\n# From here on: the rules of the base hardware-tdx-strict, for you to keep.");
            text.push_str(presets::tdx_rules());
        }
    }
    models(&mut text, &opts.models);
    text
}

fn snp(text: &mut String, known: &InitSnp, config_digests: &Listed<[u8; 32]>) {
    line(text, "\n[sev-snp]");
    line(text, "# Which code: launch digests that you computed with `vouchsafe measure`.");
    list(text, "measurements", &known.measurements, "96 hex digits");
    line(text, CONFIG);
    list(text, "config_digests", config_digests, "64 hex digits");
    line(text, "# Which machines: chip ids. \"any\" leaves open who owns the machine, and every verdict prints it.");
    list(text, "platforms", &known.platforms, "128 hex digits");
    if !known.products.is_empty() {
        let words: Vec<_> = known.products.iter().map(|product| format!("\"{product}\"")).collect();
        line(text, "# Which processor families.");
        line(text, &format!("products = [{}]", words.join(", ")));
    }
}

fn tdx(text: &mut String, known: &InitTdx, config_digests: &Listed<[u8; 32]>) {
    line(text, "\n[tdx]");
    line(text, "# Which code: digests of the first contents, that you computed with `vouchsafe measure`.");
    list(text, "mr_td", &known.mr_td, "96 hex digits");
    line(
        text,
        "# What was measured later: firmware configuration, kernel, command line and disk, and what the guest adds itself.",
    );
    for (field, registers) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].iter().zip(&known.rtmr) {
        list(text, field, registers, "96 hex digits");
    }
    line(text, CONFIG);
    list(text, "config_digests", config_digests, "64 hex digits");
    line(text, "# Which machines: PPIDs. \"any\" leaves open who owns the machine, and every verdict prints it.");
    list(text, "platforms", &known.platforms, "32 hex digits");
}

const CONFIG: &str = "# Which configuration: SHA-256 of configuration files that you read.";
const HEAD: &str = "# A Vouchsafe policy: what this relying party accepts. docs/policy.md explains every field.
# Every mandatory field is written here or in the base; nothing has a default.";

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A TOML string, whatever it holds.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list<const N: usize>(text: &mut String, field: &str, listed: &Listed<[u8; N]>, form: &str) {
    match listed {
        Listed::Any => line(text, &format!("{field} = \"any\"")),
        Listed::Only(list) if list.is_empty() => {
            line(text, &format!("# {field} = [\"{form}\"]   # still to be written"))
        }
        Listed::Only(list) => {
            line(text, &format!("{field} = ["));
            for entry in list {
                line(text, &format!("  \"{}\",", hex::encode(entry)));
            }
            line(text, "]");
        }
    }
}

fn models(text: &mut String, models: &Listed<InitModel>) {
    let Listed::Only(list) = models else { return };
    line(
        text,
        "\n# Which models: the vendor's key comes from the vendor, never from the service. min_sequence forbids older versions.",
    );
    if list.is_empty() {
        line(text, "# [[models]]                         # still to be written");
        line(text, "# id = \"…\"\n# vendor_keys = [\"ed25519:…\"]\n# min_sequence = 1");
    }
    for model in list {
        line(text, "[[models]]");
        line(text, &format!("id = {}", quoted(&model.id)));
        match &model.vendor_keys {
            Listed::Any => line(text, "vendor_keys = \"any\""),
            Listed::Only(keys) => {
                let mut words = String::new();
                for (at, key) in keys.iter().enumerate() {
                    // Writing to a String cannot fail.
                    let _ = write!(words, "{}\"{key}\"", if at == 0 { "" } else { ", " });
                }
                line(text, &format!("vendor_keys = [{words}]"));
            }
        }
        line(text, &format!("min_sequence = {}", model.min_sequence));
    }
}
