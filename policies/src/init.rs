//! Turns what a user knows into the text of a complete, commented policy.
//! It does not decide what is right: whoever lists a digest has looked at what it stands for.

use core::fmt::Write as _;

use vouchsafe_attestation::{Ed25519Public, Mode, snp::Product};

use crate::Listed;

/// What `vouchsafe policy init` was told.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// A name for verdicts, at most 64 printable characters.
    pub name: String,
    /// Which trust root; decides mode and base.
    pub anchors: InitAnchors,
    /// Accepted launch digests; an empty list leaves the field to the user.
    pub measurements: Listed<[u8; 48]>,
    /// Accepted configuration digests; an empty list leaves the field to the user.
    pub config_digests: Listed<[u8; 32]>,
    /// Accepted chips; an empty list leaves the field to the user.
    pub platforms: Listed<[u8; 64]>,
    /// Processor families; an empty list keeps the base's.
    pub products: Vec<Product>,
    /// Accepted models; an empty list leaves the field to the user.
    pub models: Listed<InitModel>,
}

/// Which trust root the policy names.
#[derive(Clone, Debug)]
pub enum InitAnchors {
    /// AMD's, compiled in.
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

/// Writes the policy. What the options leave out stands there as a comment, and [`crate::Policy::parse`] then names it as missing.
#[must_use]
pub fn init_text(opts: &InitOptions) -> String {
    let mode = opts.anchors.mode();
    let mut text = String::new();
    line(&mut text, HEAD);
    line(&mut text, "version = 1");
    line(&mut text, &format!("name = {}", quoted(&opts.name)));
    line(&mut text, "");
    match &opts.anchors {
        InitAnchors::Hardware => line(&mut text, "# Evidence must come from AMD's own root.\nmode = \"hardware\""),
        InitAnchors::Simulation { .. } => line(
            &mut text,
            "# A rehearsal: evidence comes from a simulated processor. It proves nothing about hardware.\nmode = \"simulation\"",
        ),
    }
    line(&mut text, "tee = [\"sev-snp\"]");
    let base = match mode {
        Mode::Hardware => crate::presets::HARDWARE_SNP_STRICT,
        Mode::Simulation => crate::presets::SIMULATION,
    };
    line(
        &mut text,
        "# Floors, guest policy, revocation rules: `vouchsafe policy show` prints the base. What you write here wins over it.",
    );
    line(&mut text, &format!("extends = \"{}\"", base.name));
    if opts.models.is_any() {
        line(&mut text, "\n# Any model of any vendor. Every verdict prints this.\nmodels = \"any\"");
    }
    if let InitAnchors::Simulation { path, sha256 } = &opts.anchors {
        line(&mut text, "\n# The simulated root: this file and no other. The path is relative to this policy.\n[root]");
        line(&mut text, &format!("path = {}\nsha256 = \"{}\"", quoted(path), hex::encode(sha256)));
    }
    line(&mut text, "\n[sev-snp]");
    line(&mut text, "# Which code: launch digests that you computed with `vouchsafe measure`.");
    list(&mut text, "measurements", &opts.measurements, "96 hex digits");
    line(&mut text, "# Which configuration: SHA-256 of configuration files that you read.");
    list(&mut text, "config_digests", &opts.config_digests, "64 hex digits");
    line(
        &mut text,
        "# Which machines: chip ids. \"any\" leaves open who owns the machine, and every verdict prints it.",
    );
    list(&mut text, "platforms", &opts.platforms, "128 hex digits");
    if !opts.products.is_empty() {
        let words: Vec<_> = opts.products.iter().map(|product| format!("\"{product}\"")).collect();
        line(&mut text, "# Which processor families.");
        line(&mut text, &format!("products = [{}]", words.join(", ")));
    }
    models(&mut text, &opts.models);
    text
}

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
