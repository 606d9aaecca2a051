//! Turns a verdict, an address and a date into one page of plain words for a privacy officer, in Markdown.
//! The page proves nothing by itself: it names what to verify again, and what no attestation can say.

use std::fmt::Write as _;

use vouchsafe_attestation::{Facts, Mode, Tee, UnixTime, claims::Release};
use vouchsafe_policies::Appraised;

/// The page.
#[must_use]
pub fn report(appraised: &Appraised, address: &str, date: UnixTime) -> String {
    let mut page = String::new();
    head(&mut page, appraised, address, date);
    code(&mut page, appraised);
    models(&mut page, appraised);
    let title = match appraised.mode() {
        Mode::Simulation => "What would have been proven on real hardware",
        Mode::Hardware => "What was proven",
    };
    list(&mut page, title, &proven(appraised));
    list(&mut page, "What was not proven", appraised.not_proven());
    list(&mut page, "What the policy leaves open", appraised.notes());
    let _written = writeln!(
        page,
        "## How to repeat this\n\nRun `vouchsafe verify {}` with the policy whose SHA-256 stands above, on a machine that you control. \
         A connection that fails any step gets no data.",
        plain(address)
    );
    page
}

fn head(page: &mut String, appraised: &Appraised, address: &str, date: UnixTime) {
    let _written = match appraised.mode() {
        Mode::Simulation => writeln!(
            page,
            "# SIMULATED: rehearsal of an attested inference service\n\n\
             **This was a rehearsal. No hardware protected anything; do not send personal data.**\n"
        ),
        Mode::Hardware => writeln!(page, "# Attested inference service: what was verified\n"),
    };
    let verdict = match appraised.mode() {
        Mode::Simulation => "accepted, in simulation",
        Mode::Hardware => "accepted",
    };
    rows(
        page,
        &[
            ("Date", date.to_string()),
            ("Service", format!("`{}`", plain(address))),
            ("Verdict", verdict.to_owned()),
            (
                "Policy",
                format!("{} (SHA-256 `{}`)", plain(appraised.policy_name()), hex::encode(appraised.policy_digest())),
            ),
        ],
    );
}

fn code(page: &mut String, appraised: &Appraised) {
    let authentic = appraised.authentic();
    let version = appraised.claims().map_or("unknown".to_owned(), |c| plain(&c.version));
    let _written = writeln!(page, "## Which machine and which code\n");
    let mut all = machine(appraised.mode(), authentic.facts());
    all.push(("Code, measured at launch", format!("`{}`", hex::encode(authentic.measurement()))));
    for (name, register) in REGISTERS.into_iter().zip(authentic.registers()) {
        let zero = register.iter().all(|b| *b == 0);
        all.push((name, if zero { "nothing".to_owned() } else { format!("`{}`", hex::encode(register)) }));
    }
    all.push(("Configuration, bound at launch", format!("`{}`", hex::encode(authentic.config_digest()))));
    all.push(("Version, as the code calls itself", version));
    rows(page, &all);
}

/// What a TD measures after its launch, in the order of RTMR0 to RTMR3.
const REGISTERS: [&str; 4] = [
    "Measured later: firmware settings",
    "Measured later: boot loader and kernel",
    "Measured later: kernel arguments and initrd",
    "Measured later: by the program itself",
];

fn machine(mode: Mode, facts: &Facts) -> Vec<(&'static str, String)> {
    match facts {
        Facts::SevSnp(snp) => {
            let words = match (mode, &snp.csp) {
                (Mode::Simulation, _) => format!("a SIMULATED processor that plays an AMD EPYC {}", snp.product),
                (Mode::Hardware, None) => format!("an AMD EPYC {} processor", snp.product),
                (Mode::Hardware, Some(csp)) => {
                    format!("an AMD EPYC {} processor of the provider {}", snp.product, plain(csp))
                }
            };
            vec![("Machine", words), ("Chip", format!("`{}`", chip(&snp.report.chip_id)))]
        }
        Facts::Tdx(tdx) => {
            let words = match mode {
                Mode::Simulation => "a SIMULATED processor that plays an Intel TDX platform",
                Mode::Hardware => "an Intel TDX platform",
            };
            vec![
                ("Machine", format!("{words} (family {})", hex::encode(tdx.fmspc))),
                ("Platform", format!("`{}`", hex::encode(tdx.ppid))),
                ("Level of its updates, as Intel rates it", tdx.status.as_str().to_owned()),
            ]
        }
    }
}

fn models(page: &mut String, appraised: &Appraised) {
    let _written = writeln!(page, "## Which model\n");
    let models = appraised.claims().map_or(&[][..], |c| &c.models);
    if models.is_empty() {
        let _written = writeln!(page, "No model was being served.\n");
    }
    for model in models {
        let right = match model.release {
            Release::Online => "The vendor can end the right to use it.",
            Release::Static => "The right to use it was given without an end.",
        };
        let _written = writeln!(
            page,
            "- **{}**, version number {}, exact weights `{}`. {right}",
            plain(&model.id),
            model.sequence,
            hex::encode(model.manifest_digest)
        );
    }
    let _written = writeln!(page);
}

/// The findings that a reader without a technical training can use.
fn proven(appraised: &Appraised) -> Vec<String> {
    let by = match (appraised.mode(), appraised.tee()) {
        (Mode::Simulation, _) => "by a SIMULATED processor, which proves nothing about hardware",
        (Mode::Hardware, Tee::SevSnp) => "by the processor, under AMD's root certificates",
        (Mode::Hardware, Tee::Tdx) => "by the processor, under Intel's root certificate",
    };
    vec![
        format!("The program at this address is exactly the measured code above; said {by}."),
        "The encrypted connection ends inside that program: nobody on the way, the operator included, can read it."
            .to_owned(),
        "The evidence was made for this very connection, just now; it is no recording.".to_owned(),
        "The measured code had verified the vendor's signature over the model before it said which one it serves."
            .to_owned(),
        format!(
            "{} single findings were compared with the policy; `vouchsafe verify` prints them all.",
            appraised.rows().len()
        ),
    ]
}

fn list(page: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _written = writeln!(page, "## {title}\n");
    for item in items {
        let _written = writeln!(page, "- {}", plain(item));
    }
    let _written = writeln!(page);
}

fn rows(page: &mut String, rows: &[(&str, String)]) {
    let _written = writeln!(page, "| | |\n|---|---|");
    for (name, value) in rows {
        let _written = writeln!(page, "| {name} | {value} |");
    }
    let _written = writeln!(page);
}

/// The first 16 bytes are enough to tell chips apart on a page; a masked chip says so.
fn chip(id: &[u8; 64]) -> String {
    if id.iter().all(|b| *b == 0) { "masked".to_owned() } else { format!("{}…", hex::encode(&id[..16])) }
}

/// Text that cannot leave its place in a page: no control characters, no markup.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .map(|c| if matches!(c, '|' | '<' | '>' | '[' | ']' | '*') { '_' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(plain("a|b\n<c>[d](e)"), "a_b _c__d_(e)");
        assert_eq!(chip(&[0; 64]), "masked");
    }
}
