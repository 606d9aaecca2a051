//! Turns a policy into the list of everything that it demands, its base included, in the words of its fields.
//! It judges nothing; `any` and `allowed` stand there as plainly as a demand.

use core::fmt::Display;

use serde_json::{Value, json};
use vouchsafe_attestation::snp::Product;

use crate::{
    CollateralRules, CurrentFloor, Forbid, GuestPolicyRules, Listed, Need, Policy, SnpRules, TcbFloor,
    TdAttributeRules, TdxRules,
};

impl Policy {
    /// Every rule: the field's name and what it demands. A list of digests has one row an entry.
    #[must_use]
    pub fn explain(&self) -> Vec<(String, String)> {
        let rules = self.rules();
        let mut rows = Rows(Vec::new());
        rows.add("mode", self.mode());
        rows.add("tee", join(self.tee_accepted()));
        for line in &rules.written {
            rows.add("written", line);
        }
        if let Some(snp) = rules.snp() {
            rows.snp(snp);
        }
        if let Some(tdx) = rules.tdx() {
            rows.tdx(tdx);
        }
        rows.add("evidence", format!("at most {} s old", self.max_evidence_age_s()));
        rows.listed("models", rules.models(), |m| {
            let keys = match &m.vendor_keys {
                Listed::Any => "any vendor".to_owned(),
                Listed::Only(keys) => join(keys.as_slice()),
            };
            format!("{} from version {} signed by {keys}", m.id, m.min_sequence)
        });
        rows.0
    }

    /// The same as a table for people; the parts of one demand stand under each other.
    #[must_use]
    pub fn explain_table(&self) -> String {
        let mut text = format!("{:<WIDTH$} {}\n", "policy", self.name());
        text += &format!("{:<WIDTH$} {}\n", "digest", hex::encode(self.digest()));
        let mut last = String::new();
        for (rule, demand) in self.explain() {
            let name = if rule == last { "" } else { &rule };
            for (at, part) in demand.split("; ").enumerate() {
                text += &format!("{:<WIDTH$} {part}\n", if at == 0 { name } else { "" });
            }
            last = rule;
        }
        text
    }

    /// The same for programs: a list, since a rule with several demands has several rows.
    #[must_use]
    pub fn explain_json(&self) -> Value {
        let rules: Vec<_> =
            self.explain().into_iter().map(|(rule, demand)| json!({ "rule": rule, "demand": demand })).collect();
        json!({
            "name": self.name(),
            "mode": self.mode(),
            "tee": self.tee_accepted(),
            "policy_digest": hex::encode(self.digest()),
            "rules": rules,
        })
    }
}

const WIDTH: usize = 30;

const PRODUCTS: [Product; 3] = [Product::Milan, Product::Genoa, Product::Turin];

struct Rows(Vec<(String, String)>);

impl Rows {
    fn snp(&mut self, snp: &SnpRules) {
        self.listed("measurements", &snp.measurements, |d| hex::encode(d));
        self.listed("config_digests", &snp.config_digests, |d| hex::encode(d));
        self.listed("platforms", &snp.platforms, |d| hex::encode(d));
        self.listed("csp (VLEK)", &snp.csp, String::clone);
        self.add("products", join(&snp.products));
        self.add("report version", format!("at least {}", snp.min_version));
        self.add("vmpl", join(&snp.vmpl));
        self.add("provisional firmware", forbid(snp.provisional_firmware));
        self.add("mitigations", format!("{:#x}", snp.mitigations));
        self.guest(&snp.guest_policy);
        self.add("platform alias_check", need(snp.platform.alias_check));
        self.add("platform ciphertext_hiding", need(snp.platform.ciphertext_hiding));
        for product in PRODUCTS {
            let accepted = snp.tcb(product).filter(|_| snp.products.contains(&product));
            if let Some(CurrentFloor { written, floor }) = accepted {
                self.add(&format!("floor {product}"), format!("{written}; {}", tcb(floor, &written.source)));
            }
        }
        for rule in &snp.announced {
            let (from, floor) = (&rule.from, tcb(&rule.floor, &rule.from.source));
            self.add(&format!("announced {}", rule.product), format!("from {} on ({}); {floor}", from.at, from.source));
        }
        self.add("revocation list", format!("at most {} days old", snp.crl.max_age_days));
        for (product, number) in PRODUCTS.iter().zip(snp.crl.min_number) {
            if snp.products.contains(product) {
                self.add(&format!("revocation list {product}"), format!("number {number} or higher"));
            }
        }
    }

    fn guest(&mut self, guest: &GuestPolicyRules) {
        for (name, rule) in
            [("debug", guest.debug), ("migrate_ma", guest.migrate_ma), ("smt", guest.smt), ("cxl", guest.cxl)]
        {
            self.add(&format!("guest {name}"), forbid(rule));
        }
        for (name, rule) in [
            ("guest single_socket", guest.single_socket),
            ("guest mem_aes_256_xts", guest.mem_aes_256_xts),
            ("guest rapl_disabled", guest.rapl_disabled),
            ("guest ciphertext_hiding", guest.ciphertext_hiding),
            ("guest page_swap_disabled", guest.page_swap_disabled),
        ] {
            self.add(name, need(rule));
        }
    }

    fn tdx(&mut self, tdx: &TdxRules) {
        self.listed("tdx mr_td", &tdx.mr_td, |d| hex::encode(d));
        for (name, list) in ["tdx rtmr0", "tdx rtmr1", "tdx rtmr2", "tdx rtmr3"].iter().zip(&tdx.rtmr) {
            self.listed(name, list, |d| hex::encode(d));
        }
        self.listed("tdx config_digests", &tdx.config_digests, |d| hex::encode(d));
        self.listed("tdx platforms", &tdx.platforms, |d| hex::encode(d));
        self.listed("tdx mr_owner", &tdx.mr_owner, |d| hex::encode(d));
        self.listed("tdx mr_owner_config", &tdx.mr_owner_config, |d| hex::encode(d));
        self.listed("tdx service_td", &tdx.service_td, |d| hex::encode(d));
        self.listed("tdx mr_seam", &tdx.mr_seam, |d| hex::encode(d));
        self.listed("tdx mr_signer_seam", &tdx.mr_signer_seam, |d| hex::encode(d));
        self.add("tdx quote version", format!("at least {}", tdx.min_quote_version));
        self.add("tdx xfam", format!("no bit outside {:#x}", tdx.xfam));
        self.attributes(&tdx.attributes);
        for (name, rule) in [
            ("tdx platform smt", tdx.pck.smt),
            ("tdx platform dynamic", tdx.pck.dynamic_platform),
            ("tdx platform cached_keys", tdx.pck.cached_keys),
        ] {
            self.add(name, forbid(rule));
        }
        let level = &tdx.tcb;
        let words = |list: &[vouchsafe_attestation::tdx::TcbStatus]| {
            list.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(", ")
        };
        self.add("tdx status", words(&level.statuses));
        if let Some(grace) = &level.grace {
            let (statuses, until) = (words(&grace.statuses), &grace.until);
            self.add("tdx status, grace", format!("{statuses} until {} ({})", until.at, until.source));
            self.listed("tdx advisories, grace", &grace.advisories, String::clone);
        }
        self.listed("tdx advisories accepted", &level.advisories_accepted, String::clone);
        self.add("tdx evaluation number", format!("{} or higher; {}", level.min_evaluation_number, level.written));
        for rule in &level.announced {
            let (number, from) = (rule.min_evaluation_number, &rule.from);
            let demand = format!("{number} or higher from {} on ({})", from.at, from.source);
            self.add("tdx evaluation announced", demand);
        }
        self.listed("tdx fmspc", &level.fmspc, |d| hex::encode(d));
        self.listed("tdx pce_id", &level.pce_id, |d| hex::encode(d));
        self.collateral(tdx.collateral);
    }

    fn attributes(&mut self, rules: &TdAttributeRules) {
        for (name, rule) in [
            ("tdx debug", rules.debug),
            ("tdx profiling", rules.profiling),
            // No other word is read.
            ("tdx migratable", Forbid::Forbidden),
            ("tdx pks", rules.pks),
            ("tdx key_locker", rules.key_locker),
            ("tdx perfmon", rules.perfmon),
        ] {
            self.add(name, forbid(rule));
        }
        self.add("tdx sept_ve_disable", need(Need::Required));
    }

    fn collateral(&mut self, rules: CollateralRules) {
        self.add("tdx collateral", format!("at most {} days old", rules.max_age_days));
        self.add("tdx root list", format!("number {} or higher", rules.min_root_crl_number));
        self.add("tdx PCK list", format!("number {} or higher", rules.min_pck_crl_number));
    }

    fn add(&mut self, name: &str, demand: impl Display) {
        self.0.push((name.to_owned(), demand.to_string()));
    }

    fn listed<T>(&mut self, name: &str, list: &Listed<T>, text: impl Fn(&T) -> String) {
        match list {
            Listed::Any => self.add(name, "any"),
            Listed::Only(entries) if entries.is_empty() => self.add(name, "none"),
            Listed::Only(entries) => entries.iter().for_each(|e| self.add(name, text(e))),
        }
    }
}

fn join<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

const fn forbid(rule: Forbid) -> &'static str {
    match rule {
        Forbid::Forbidden => "forbidden",
        Forbid::Allowed => "allowed",
    }
}

const fn need(rule: Need) -> &'static str {
    match rule {
        Need::Required => "required",
        Need::Any => "any",
    }
}

/// A CPU's source stands beside it where it is not that of its table.
fn tcb(floor: &TcbFloor, source: &str) -> String {
    let mut text = floor.fmc.map(|f| format!("fmc {f:#04x}, ")).unwrap_or_default();
    text += &format!("bootloader {:#04x}, tee {:#04x}, snp {:#04x}", floor.bootloader, floor.tee, floor.snp);
    for cpu in &floor.microcode {
        let stepping = cpu.stepping.map_or_else(|| "*".to_owned(), |s| format!("{s:#x}"));
        text += &format!("; microcode {:#04x} on {:#x}/{:#x}/{stepping}", cpu.min, cpu.family, cpu.model);
        if cpu.source != source {
            text += &format!(" ({})", cpu.source);
        }
    }
    text
}
