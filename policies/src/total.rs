//! Turns the optional fields of a policy text into total [`Rules`]: each mandatory field is there, or all missing ones are named.
//! It makes no anchors and judges no evidence.

use vouchsafe_attestation::{Ed25519Public, Mode, Tee, claims, encoding::from_hex, lp::sha256};

use crate::{
    Listed, PolicyError, presets,
    raw::{self, Layered, RawCrl, RawMinNumber, RawModel, RawRoot},
    rules::{
        guest,
        snp::{Missing, Need, SnpRules, products_named},
    },
};

/// Everything of a policy but its anchors.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) tee: Vec<Tee>,
    pub(crate) digest: [u8; 32],
    pub(crate) snp: SnpRules,
    pub(crate) crl: CrlRules,
    pub(crate) max_evidence_age_s: u64,
    pub(crate) models: Listed<ModelRule>,
    /// Base and re-set fields, in words.
    pub(crate) written: Vec<String>,
}

/// How fresh revocation lists must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlRules {
    /// Oldest accepted age.
    pub max_age_days: u32,
    /// Lowest accepted list number for Milan, Genoa, Turin.
    pub min_number: [u64; 3],
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

    /// What it says of SEV-SNP.
    #[must_use]
    pub fn snp(&self) -> &SnpRules {
        &self.snp
    }

    /// What it says of revocation lists.
    #[must_use]
    pub fn crl(&self) -> CrlRules {
        self.crl
    }

    /// Every `any` that was written, in words.
    pub(crate) fn anys(&self) -> Vec<String> {
        let snp = &self.snp;
        let mut words = Vec::new();
        for (any, field, what) in [
            (snp.measurements.is_any(), "sev-snp.measurements", "code"),
            (snp.config_digests.is_any(), "sev-snp.config_digests", "configuration"),
            (snp.platforms.is_any(), "sev-snp.platforms", "machine"),
            (snp.csp.is_any(), "sev-snp.csp", "cloud provider's key"),
            (self.models.is_any(), "models", "model of any vendor"),
        ] {
            if any {
                words.push(format!("`{field}` = any: any {what} is accepted"));
            }
        }
        for model in self.models.entries().iter().filter(|model| model.vendor_keys.is_any()) {
            words.push(format!("`models.vendor_keys` = any: the model {} may be signed by anybody", model.id));
        }
        let mut open: Vec<_> = guest::REQUIRED
            .iter()
            .filter(|bit| (bit.rule)(&snp.guest_policy) == Need::Any)
            .map(|bit| format!("guest_policy.{}", bit.field))
            .collect();
        for (need, field) in
            [(snp.platform.alias_check, "alias_check"), (snp.platform.ciphertext_hiding, "ciphertext_hiding")]
        {
            if need == Need::Any {
                open.push(format!("platform.{field}"));
            }
        }
        if !open.is_empty() {
            words.push(format!("any, on or off: {}", open.join(", ")));
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
        if raw.tdx.is_some() {
            return Err(PolicyError::Unsupported(NO_TDX));
        }
        match raw.version {
            Some(1) => {}
            Some(_) => return Err(PolicyError::Unsupported("a `version` other than 1")),
            None => missing.name("version"),
        }
        let tee = tees(missing.take(raw.tee, "tee").unwrap_or_default())?;
        let rootless = mode == Mode::Simulation && raw.root.is_none();
        let root = root(mode, raw.root, &mut missing)?;
        let snp = SnpRules::total(raw.snp.unwrap_or_default(), mode, &mut missing)?;
        let crl = crl(raw.crl.unwrap_or_default(), &snp, &mut missing)?;
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
            tee,
            digest: sha256(text.as_bytes()),
            snp,
            crl,
            max_evidence_age_s: age,
            models,
            written: reset,
        };
        Ok((rules, root))
    }
}

const NO_TDX: &str = "Intel TDX; this release appraises SEV-SNP only";

fn tees(words: Vec<String>) -> Result<Vec<Tee>, PolicyError> {
    let mut tees = Vec::new();
    for word in words {
        match word.parse() {
            Ok(Tee::SevSnp) if tees.is_empty() => tees.push(Tee::SevSnp),
            Ok(Tee::SevSnp) => return Err(PolicyError::invalid("`tee` names \"sev-snp\" twice")),
            Ok(Tee::Tdx) => return Err(PolicyError::Unsupported(NO_TDX)),
            Err(_) => return Err(PolicyError::invalid("`tee` holds a word that is neither \"sev-snp\" nor \"tdx\"")),
        }
    }
    Ok(tees)
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

fn crl(raw: RawCrl, snp: &SnpRules, missing: &mut Missing) -> Result<CrlRules, PolicyError> {
    match missing.take(raw.mode, "crl.mode").as_deref() {
        None | Some("required") => {}
        Some(_) => return Err(PolicyError::Unsupported("a `crl.mode` other than \"required\"")),
    }
    let max_age_days = missing.take(raw.max_age_days, "crl.max_age_days").unwrap_or(1);
    if max_age_days == 0 || max_age_days > 3660 {
        return Err(PolicyError::invalid("`crl.max_age_days` is not 1 to 3660"));
    }
    let min_number = match missing.take(raw.min_number, "crl.min_number") {
        None => [0; 3],
        Some(RawMinNumber::All(number)) => [number; 3],
        Some(RawMinNumber::Each(each)) => {
            // Only the products that the policy accepts need a number.
            let numbers = [each.milan, each.genoa, each.turin];
            for (product, number) in products_named().into_iter().zip(numbers) {
                if number.is_none() && snp.products.contains(&product.0) {
                    missing.name(&format!("crl.min_number.{}", product.1));
                }
            }
            numbers.map(Option::unwrap_or_default)
        }
    };
    Ok(CrlRules { max_age_days, min_number })
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
