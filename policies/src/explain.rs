//! Turns a policy into the list of everything that it demands, its base included, in the words of its fields.
//! It judges nothing; `any` and `allowed` stand there as plainly as a demand.

use core::fmt::Display;

use vouchsafe_attestation::snp::Product;

use crate::{Forbid, Listed, Need, Policy, TcbFloor};

impl Policy {
    /// Every rule: the field's name and what it demands. A list of digests has one row an entry.
    #[must_use]
    pub fn explain(&self) -> Vec<(String, String)> {
        let (snp, crl) = (self.rules().snp(), self.rules().crl());
        let mut rows = Rows(Vec::new());
        rows.add("mode", self.mode());
        rows.add("tee", join(self.tee_accepted()));
        for line in &self.rules().written {
            rows.add("written", line);
        }
        rows.listed("measurements", &snp.measurements, |d| hex::encode(d));
        rows.listed("config_digests", &snp.config_digests, |d| hex::encode(d));
        rows.listed("platforms", &snp.platforms, |d| hex::encode(d));
        rows.listed("csp (VLEK)", &snp.csp, String::clone);
        rows.add("products", join(&snp.products));
        rows.add("report version", format!("at least {}", snp.min_version));
        rows.add("vmpl", join(&snp.vmpl));
        rows.add("provisional firmware", forbid(snp.provisional_firmware));
        rows.add("mitigations", format!("{:#x}", snp.mitigations));
        let guest = &snp.guest_policy;
        for (name, rule) in
            [("debug", guest.debug), ("migrate_ma", guest.migrate_ma), ("smt", guest.smt), ("cxl", guest.cxl)]
        {
            rows.add(&format!("guest {name}"), forbid(rule));
        }
        for (name, rule) in [
            ("guest single_socket", guest.single_socket),
            ("guest mem_aes_256_xts", guest.mem_aes_256_xts),
            ("guest rapl_disabled", guest.rapl_disabled),
            ("guest ciphertext_hiding", guest.ciphertext_hiding),
            ("guest page_swap_disabled", guest.page_swap_disabled),
            ("platform alias_check", snp.platform.alias_check),
            ("platform ciphertext_hiding", snp.platform.ciphertext_hiding),
        ] {
            rows.add(name, need(rule));
        }
        for (product, floor) in [Product::Milan, Product::Genoa, Product::Turin].iter().zip(&snp.tcb) {
            if let Some(floor) = floor.as_ref().filter(|_| snp.products.contains(product)) {
                rows.add(&format!("floor {product}"), tcb(floor));
            }
        }
        rows.add("revocation list", format!("at most {} days old", crl.max_age_days));
        for (product, number) in [Product::Milan, Product::Genoa, Product::Turin].iter().zip(crl.min_number) {
            if snp.products.contains(product) {
                rows.add(&format!("revocation list {product}"), format!("number {number} or higher"));
            }
        }
        rows.add("evidence", format!("at most {} s old", self.max_evidence_age_s()));
        rows.listed("models", self.rules().models(), |m| {
            let keys = match &m.vendor_keys {
                Listed::Any => "any vendor".to_owned(),
                Listed::Only(keys) => join(keys.as_slice()),
            };
            format!("{} from version {} signed by {keys}", m.id, m.min_sequence)
        });
        rows.0
    }
}

struct Rows(Vec<(String, String)>);

impl Rows {
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

fn tcb(floor: &TcbFloor) -> String {
    let mut text = floor.fmc.map(|f| format!("fmc {f:#04x}, ")).unwrap_or_default();
    text += &format!("bootloader {:#04x}, tee {:#04x}, snp {:#04x}", floor.bootloader, floor.tee, floor.snp);
    for cpu in &floor.microcode {
        let stepping = cpu.stepping.map_or_else(|| "*".to_owned(), |s| format!("{s:#x}"));
        text += &format!("; microcode {:#04x} on {:#x}/{:#x}/{stepping}", cpu.min, cpu.family, cpu.model);
    }
    text
}
