//! Turns the optional fields of a policy text into total [`Rules`]: each mandatory field is there, or all missing ones are named.
//! It makes no anchors and judges no evidence.

use vouchsafe_attestation::{Ed25519Public, Mode, Tee, claims, encoding::from_hex, lp::sha256};

use crate::{
    Listed, PolicyError, presets,
    raw::{self, Layered, RawModel, RawRoot},
    rules::{snp::SnpRules, tdx::TdxRules, words::Missing},
};

/// Everything of a policy but its anchors.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) tee: Vec<Tee>,
    pub(crate) digest: [u8; 32],
    pub(crate) snp: Option<SnpRules>,
    pub(crate) tdx: Option<TdxRules>,
    pub(crate) max_evidence_age_s: u64,
    pub(crate) models: Listed<ModelRule>,
    /// Base and re-set fields, in words.
    pub(crate) written: Vec<String>,
}

/// What a model must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRule {
    /// The vendor's name for it.
    pub id: String,
    /// Vendor keys that may have signed it.
    pub vendor_keys: Listed<Ed25519Public>,
    /// Lowest accepted sequence.
    pub min_sequence: u64,
}

/// A simulated root, as a policy names it.
#[derive(Debug)]
pub(crate) struct RootRef {
    pub path: String,
    pub sha256: [u8; 32],
}

const MAX_NAME: usize = 64;
/// Longest accepted wait between two attestations of one connection: a day.
const MAX_EVIDENCE_AGE: u64 = 86_400;

impl Rules {
    /// What the policy says of models.
    #[must_use]
    pub fn models(&self) -> &Listed<ModelRule> {
        &self.models
    }

    /// What it says of SEV-SNP, where it accepts that.
    #[must_use]
    pub fn snp(&self) -> Option<&SnpRules> {
        self.snp.as_ref()
    }

    /// What it says of TDX, where it accepts that.
    #[must_use]
    pub fn tdx(&self) -> Option<&TdxRules> {
        self.tdx.as_ref()
    }

    /// Every `any` that was written for this technology or for all, in words.
    pub(crate) fn anys(&self, tee: Tee) -> Vec<String> {
        let mut words = Vec::new();
        match tee {
            Tee::SevSnp => self.snp.iter().for_each(|snp| snp.anys(&mut words)),
            Tee::Tdx => self.tdx.iter().for_each(|tdx| tdx.anys(&mut words)),
        }
        if self.models.is_any() {
            words.push("`models` = any: any model of any vendor is accepted".to_owned());
        }
        for model in self.models.entries().iter().filter(|model| model.vendor_keys.is_any()) {
            words.push(format!("`models.vendor_keys` = any: the model {} may be signed by anybody", model.id));
        }
        words
    }

    pub(crate) fn parse(text: &str) -> Result<(Self, Option<RootRef>), PolicyError> {
        let Layered { raw, base, mut reset } = raw::layered(text)?;
        let mut missing = Missing::default();
        // It has no default; where it is missing, the base's mode only chooses which other fields are missed.
        let mode = match missing.take(raw.mode.as_deref(), "mode") {
            None => {
                if base == Some(presets::SIMULATION) {
                    Mode::Simulation
                } else {
                    Mode::Hardware
                }
            }
            Some(word) => {
                word.parse().map_err(|_| PolicyError::invalid("`mode` is neither \"hardware\" nor \"simulation\""))?
            }
        };
        match raw.version {
            Some(1) => {}
            Some(_) => return Err(PolicyError::Unsupported("a `version` other than 1")),
            None => missing.name("version"),
        }
        let named = missing.take(raw.tee, "tee").map(tees).transpose()?;
        let tee = technologies(named, raw.snp.is_some(), raw.tdx.is_some());
        let rootless = mode == Mode::Simulation && raw.root.is_none();
        let root = root(mode, raw.root, &mut missing)?;
        // The table of a technology that is not accepted is read all the same, but need not be complete.
        let mut unwanted = Missing::default();
        let names = if tee.contains(&Tee::SevSnp) { &mut missing } else { &mut unwanted };
        let snp = SnpRules::total(raw.snp.unwrap_or_default(), raw.crl.unwrap_or_default(), mode, names)?;
        let names = if tee.contains(&Tee::Tdx) { &mut missing } else { &mut unwanted };
        let tdx = TdxRules::total(raw.tdx.unwrap_or_default(), mode, names)?;
        let age = missing.take(raw.session.unwrap_or_default().max_evidence_age_s, "session.max_evidence_age_s");
        let models = match missing.take(raw.models, "models") {
            None => Listed::Any,
            Some(listed) => models(listed, &mut missing)?,
        };
        if rootless {
            if missing.0.is_empty() {
                return Err(PolicyError::invalid(
                    "`mode = \"simulation\"` without `[root]`: name the simulated root by path and sha256",
                ));
            }
            missing.name("root.path");
            missing.name("root.sha256");
        }
        if !missing.0.is_empty() {
            return Err(PolicyError::Incomplete { missing: missing.0, mode });
        }
        let age = age.unwrap_or_default();
        if age == 0 || age > MAX_EVIDENCE_AGE {
            return Err(PolicyError::invalid("`session.max_evidence_age_s` is not 1 to 86400"));
        }
        let name = match (raw.name, base) {
            (Some(name), _) => printable(name)?,
            (None, Some(base)) => format!("extends {}", base.name),
            (None, None) => "unnamed".to_owned(),
        };
        if let Some(base) = base {
            reset.insert(0, format!("the policy extends the base {}", base.name));
        }
        let rules = Self {
            name,
            mode,
            digest: sha256(text.as_bytes()),
            snp: tee.contains(&Tee::SevSnp).then_some(snp),
            tdx: tee.contains(&Tee::Tdx).then_some(tdx),
            tee,
            max_evidence_age_s: age,
            models,
            written: reset,
        };
        Ok((rules, root))
    }
}

fn tees(words: Vec<String>) -> Result<Vec<Tee>, PolicyError> {
    let mut tees = Vec::new();
    for word in words {
        let tee: Tee = word
            .parse()
            .map_err(|_| PolicyError::invalid("`tee` holds a word that is neither \"sev-snp\" nor \"tdx\""))?;
        if tees.contains(&tee) {
            return Err(PolicyError::invalid(format!("`tee` names \"{}\" twice", tee.as_str())));
        }
        tees.push(tee);
    }
    if tees.is_empty() {
        return Err(PolicyError::invalid("`tee` is an empty list: nothing could ever pass"));
    }
    Ok(tees)
}

/// Where `tee` is missing, the tables that are there choose which other fields are missed.
fn technologies(named: Option<Vec<Tee>>, snp: bool, tdx: bool) -> Vec<Tee> {
    match (named, snp, tdx) {
        (Some(named), _, _) => named,
        (None, true, false) => vec![Tee::SevSnp],
        (None, false, true) => vec![Tee::Tdx],
        (None, _, _) => vec![Tee::SevSnp, Tee::Tdx],
    }
}

fn root(mode: Mode, raw: Option<RawRoot>, missing: &mut Missing) -> Result<Option<RootRef>, PolicyError> {
    match (mode, raw) {
        (Mode::Hardware | Mode::Simulation, None) => Ok(None),
        (Mode::Hardware, Some(_)) => Err(PolicyError::invalid(
            "`mode = \"hardware\"` together with a simulated `[root]`: one policy has one trust root",
        )),
        (Mode::Simulation, Some(raw)) => {
            let path = missing.take(raw.path, "root.path");
            let digest = missing.take(raw.sha256, "root.sha256");
            let (Some(path), Some(digest)) = (path, digest) else { return Ok(None) };
            if path.is_empty() || path.contains('\0') {
                return Err(PolicyError::invalid("`root.path` is no path"));
            }
            Ok(Some(RootRef { path, sha256: hex_field(&digest, "root.sha256", 64)? }))
        }
    }
}

fn models(raw: Listed<RawModel>, missing: &mut Missing) -> Result<Listed<ModelRule>, PolicyError> {
    if matches!(&raw, Listed::Only(list) if list.is_empty()) {
        return Err(PolicyError::invalid("`models` is an empty list; name a model, or write `models = \"any\"`"));
    }
    let mut at = 0_usize;
    let mut ids = Vec::new();
    raw.try_map(|model| {
        at += 1;
        let id = missing.take(model.id, &format!("models[{at}].id")).unwrap_or_default();
        let keys = missing.take(model.vendor_keys, &format!("models[{at}].vendor_keys")).unwrap_or(Listed::Any);
        let min_sequence = missing.take(model.min_sequence, &format!("models[{at}].min_sequence")).unwrap_or_default();
        if !id.is_empty() {
            claims::model_id(&id).map_err(|_| {
                PolicyError::invalid(format!("`models[{at}].id` is not 1 to 64 characters of a-z 0-9 - _ ."))
            })?;
        }
        if ids.contains(&id) {
            return Err(PolicyError::invalid(format!("`models[{at}].id` stands in an earlier entry too")));
        }
        ids.push(id.clone());
        if matches!(&keys, Listed::Only(list) if list.is_empty()) {
            return Err(PolicyError::invalid(format!("`models[{at}].vendor_keys` is an empty list")));
        }
        let vendor_keys = keys.try_map(|key| {
            key.parse().map_err(|_| {
                PolicyError::invalid(format!(
                    "`models[{at}].vendor_keys` holds what is not `ed25519:` and 64 hex digits"
                ))
            })
        })?;
        Ok(ModelRule { id, vendor_keys, min_sequence })
    })
}

/// Reads a hex field of `digits` digits.
pub(crate) fn hex_field<const N: usize>(text: &str, field: &str, digits: usize) -> Result<[u8; N], PolicyError> {
    from_hex(text, "policy")
        .map_err(|_| PolicyError::invalid(format!("`{field}` holds what is not {digits} lower-case hex digits")))
}

fn printable(name: String) -> Result<String, PolicyError> {
    let good = !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if good { Ok(name) } else { Err(PolicyError::invalid("`name` is not 1 to 64 printable ASCII characters")) }
}
