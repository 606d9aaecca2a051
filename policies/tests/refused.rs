//! Policy files that contradict themselves, or say what this format does not have.
//! They are refused before any evidence is looked at.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use common::files::{ROOT, complete, complete_tdx, options, read, refused, simulated, tdx};
use vouchsafe_attestation::{Ed25519Public, lp::sha256, snp::Product};
use vouchsafe_policies::{Check, InitAnchors, InitOptions, Policy, init_text, presets};

#[test]
fn contradictions_are_refused_by_name() {
    let simulation = complete();
    let hardware = init_text(&options(InitAnchors::Hardware));
    let root = format!("[root]\npath = \"root.pem\"\nsha256 = \"{}\"\n", hex::encode(sha256(ROOT)));
    assert!(simulation.contains(&root));
    let one = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    let ones = "01".repeat(48);
    let key = Ed25519Public([4; 32]).to_string();
    let cases = [
        ("POLICY_INVALID", format!("{hardware}{root}")),
        ("POLICY_INVALID", one(&simulation, &root, "")),
        ("POLICY_INVALID", one(&hardware, &format!("[\n  \"{ones}\",\n  \"{}\",\n]", "02".repeat(48)), "\"any\"")),
        ("POLICY_INVALID", one(&simulation, &format!("[\n  \"{ones}\",\n  \"{}\",\n]", "02".repeat(48)), "[]")),
        ("POLICY_INVALID", one(&simulation, &ones, &ones[2..])),
        ("POLICY_INVALID", one(&simulation, &ones, &ones.replace('0', "G"))),
        ("POLICY_INVALID", one(&simulation, "[sev-snp]", "[sev-snp]\nunknown = 1")),
        ("POLICY_INVALID", one(&simulation, "version = 1", "version = 1\nversion = 1")),
        ("POLICY_INVALID", one(&simulation, "mode = \"simulation\"", "mode = \"hardware\"")),
        ("POLICY_INVALID", one(&simulation, "mode = \"simulation\"", "mode = \"simulated\"")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = []")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", &format!("platforms = [\"{}\"]", "00".repeat(64)))),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = \"any\"\nproducts = \"any\"")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = \"any\"\nproducts = [\"Naples\"]")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = \"any\"\nvmpl = [4]")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = \"any\"\nvmpl = []")),
        ("POLICY_INVALID", one(&simulation, "[sev-snp]", "[sev-snp.tcb.Genoa]\nfmc = 1\n[sev-snp]")),
        ("POLICY_INVALID", one(&simulation, "[sev-snp]", "[session]\nmax_evidence_age_s = 0\n[sev-snp]")),
        ("POLICY_INVALID", one(&simulation, &key, &key[1..])),
        ("POLICY_INVALID", one(&simulation, "min_sequence = 7", "min_sequence = -1")),
        ("POLICY_INVALID", one(&simulation, "\"breast-cancer\"", "\"../breast-cancer\"")),
        (
            "POLICY_INVALID",
            format!("{simulation}[[models]]\nid = \"breast-cancer\"\nvendor_keys = \"any\"\nmin_sequence = 1\n"),
        ),
        ("POLICY_INCOMPLETE", one(&simulation, "min_sequence = 7", "")),
        ("POLICY_INCOMPLETE", one(&simulation, "mode = \"simulation\"", "")),
        ("POLICY_INCOMPLETE", one(&simulation, "[sev-snp]", "[sev-snp]\nproducts = [\"Turin\"]")),
        ("POLICY_INCOMPLETE", one(&simulation, "tee = [\"sev-snp\"]", "tee = [\"sev-snp\", \"tdx\"]")),
        ("POLICY_INCOMPLETE", one(&simulation, "tee = [\"sev-snp\"]", "tee = [\"tdx\"]")),
        ("POLICY_INVALID", one(&simulation, "tee = [\"sev-snp\"]", "tee = []")),
        ("POLICY_INVALID", one(&simulation, "tee = [\"sev-snp\"]", "tee = [\"sev-snp\", \"sev-snp\"]")),
        ("POLICY_INVALID", one(&simulation, "tee = [\"sev-snp\"]", "tee = [\"sgx\"]")),
        ("POLICY_INVALID", one(&simulation, "[sev-snp]", "[tdx]\nmrtd = []\n[sev-snp]")),
        ("POLICY_INVALID", one(&simulation, "[sev-snp]", "[tdx]\nmr_td = []\n[sev-snp]")),
        ("POLICY_INVALID", one(&simulation, "[sev-snp]", "[sev-snp.tcb.Genoa]\nmicrocode = []\n[sev-snp]")),
        (
            "POLICY_INVALID",
            one(
                &simulation,
                "[sev-snp]",
                "[sev-snp.tcb.Genoa]\nmicrocode = [{ family = 0x19, min = 0x54 }]\n[sev-snp]",
            ),
        ),
        ("POLICY_UNSUPPORTED", one(&simulation, "version = 1", "version = 2")),
        ("POLICY_UNSUPPORTED", one(&simulation, "[sev-snp]", "[crl]\nmode = \"none\"\n[sev-snp]")),
        ("POLICY_ROOT_UNREADABLE", one(&simulation, "root.pem", "other.pem")),
        ("ANCHOR_DIGEST", one(&simulation, &hex::encode(sha256(ROOT)), &"00".repeat(32))),
    ];
    for (code, text) in cases {
        let error = refused(&text);
        assert_eq!(error.code(), code, "{error}\n{text}");
        let exit = match code {
            "POLICY_ROOT_UNREADABLE" => 9,
            "ANCHOR_DIGEST" => error.exit(),
            _ => 1,
        };
        assert_eq!(error.exit(), exit);
        assert!(!error.advice().is_empty());
    }
}

#[test]
fn contradictions_of_tdx_are_refused_by_name() {
    let simulation = complete_tdx(simulated());
    let hardware = complete_tdx(InitAnchors::Hardware);
    let add = |text: &str, line: &str| text.replacen("[tdx]\n", &format!("[tdx]\n{line}\n"), 1);
    let listed = |text: &str, field: &str, to: &str| {
        let (before, after) = text.split_once(&format!("\n{field} = [\n")).unwrap();
        format!("{before}\n{field} = {to}{}", after.split_once(']').unwrap().1)
    };
    Policy::parse(&listed(&hardware, "rtmr3", "\"any\""), &read).unwrap();
    Policy::parse(&listed(&simulation, "mr_td", "\"any\""), &read).unwrap();
    let dated = |table: &str, until: &str, source: &str| {
        format!(
            "{simulation}\n[tdx.tcb.grace]\nstatuses = {table}\nadvisories = []\nuntil = \"{until}\"\nsource = \"{source}\"\n"
        )
    };
    let grace = |lines: &str| format!("{simulation}[tdx.tcb.grace]\nstatuses = [\"OutOfDate\"]\n{lines}\n");
    let (day, source) = ("2027-03-01T00:00:00Z", "INTEL-SA-00000");
    Policy::parse(&dated("[\"OutOfDate\"]", day, source), &read).unwrap();
    let cases = [
        ("rtmr0", listed(&simulation, "rtmr0", "\"any\"")),
        ("rtmr1", listed(&simulation, "rtmr1", "\"any\"")),
        ("rtmr2", listed(&simulation, "rtmr2", "\"any\"")),
        ("rtmr0", listed(&simulation, "rtmr0", "[]")),
        ("mr_td", listed(&hardware, "mr_td", "\"any\"")),
        ("mr_td", listed(&simulation, "mr_td", "[]")),
        ("mr_td", listed(&simulation, "mr_td", "[\"00\"]")),
        ("mr_signer_seam", add(&hardware, "mr_signer_seam = \"any\"")),
        ("platforms", listed(&simulation, "platforms", &format!("[\"{}\"]", "00".repeat(16)))),
        ("platforms", listed(&simulation, "platforms", &format!("[\"{}\"]", "06".repeat(64)))),
        ("min_quote_version", add(&simulation, "min_quote_version = 3")),
        ("xfam", add(&simulation, "xfam = 0xe4")),
        ("statuses", add(&simulation, "tcb.statuses = []")),
        ("Revoked", add(&simulation, "tcb.statuses = [\"Revoked\"]")),
        ("statuses", add(&simulation, "tcb.statuses = [\"uptodate\"]")),
        ("twice", add(&simulation, "tcb.statuses = [\"UpToDate\", \"UpToDate\"]")),
        ("advisories", add(&simulation, "tcb.advisories_accepted = [\"INTEL SA\"]")),
        ("max_age_days", add(&simulation, "collateral.max_age_days = 0")),
        ("forbidden", add(&simulation, "attributes.debug = \"no\"")),
        ("debug", add(&simulation, "attributes.debugg = \"forbidden\"")),
        ("twice", add(&simulation, "xfam = 3\nxfam = 3")),
        ("until", dated("[\"OutOfDate\"]", "2027-03-01", source)),
        ("until", dated("[\"OutOfDate\"]", "2100-01-01T00:00:00Z", source)),
        ("until", dated("[\"OutOfDate\"]", "2023-12-31T23:59:59Z", source)),
        ("source", dated("[\"OutOfDate\"]", day, " ")),
        ("source", dated("[\"OutOfDate\"]", day, &"s".repeat(257))),
        ("Revoked", dated("[\"Revoked\"]", day, source)),
        ("for ever", dated("[\"UpToDate\"]", day, source)),
        ("source", grace(&format!("advisories = []\nuntil = \"{day}\""))),
        ("until", grace("advisories = []\nsource = \"s\"")),
        ("grace.advisories", grace(&format!("until = \"{day}\"\nsource = \"s\""))),
        ("grace.advisories", grace(&format!("advisories = [\"\"]\nuntil = \"{day}\"\nsource = \"s\""))),
        ("statuses", format!("{simulation}[tdx.tcb.grace]\nuntil = \"{day}\"\nsource = \"s\"\n")),
        ("from", format!("{simulation}[[tdx.tcb.announced]]\nsource = \"s\"\nmin_tcb_evaluation_number = 20\n")),
        ("number", format!("{simulation}[[tdx.tcb.announced]]\nfrom = \"{day}\"\nsource = \"s\"\n")),
        ("32", format!("{simulation}{}", "[[tdx.tcb.announced]]\n".repeat(33))),
    ];
    for (named, text) in cases {
        let error = refused(&text);
        assert_eq!((error.code(), error.exit()), ("POLICY_INVALID", 1), "{error}\n{text}");
        assert!(error.to_string().contains(named), "{named} is not in: {error}");
    }
    // What verification never lets pass cannot be allowed here.
    for (field, loose, strict) in [("sept_ve_disable", "any", "required"), ("migratable", "allowed", "forbidden")] {
        for text in [&simulation, &hardware] {
            Policy::parse(&add(text, &format!("attributes.{field} = \"{strict}\"")), &read).unwrap();
            let error = refused(&add(text, &format!("attributes.{field} = \"{loose}\"")));
            assert_eq!((error.code(), error.exit()), ("POLICY_UNSUPPORTED", 1), "{error}");
            let said = error.to_string();
            assert!(said.contains(field) && said.contains(loose) && said.contains(strict), "{said}");
        }
    }
    let alone =
        refused(&simulation.replacen("rtmr0 = [", "# [", 1).replacen(&format!("  \"{}\",\n]", "0a".repeat(48)), "", 1));
    assert_eq!(alone.code(), "POLICY_INCOMPLETE");
    assert!(alone.to_string().contains("tdx.rtmr0 missing"), "{alone}");
}

#[test]
fn announced_floors_are_whole_or_refused() {
    let simulation = complete();
    let with = |lines: &str| format!("{simulation}[[sev-snp.tcb.announced]]\n{lines}\n");
    let when = "from = \"2027-03-01T00:00:00Z\"\nsource = \"AMD-SB-0000\"";
    let good = with(&format!("product = \"Genoa\"\n{when}\nsnp = 0x18"));
    let policy = Policy::parse(&good, &read).unwrap();
    let [rule] = &policy.rules().snp().unwrap().announced[..] else { panic!("one rule") };
    assert_eq!((rule.product, rule.floor.snp, rule.floor.bootloader), (Product::Genoa, 0x18, 0));
    assert_eq!((rule.from.at.to_string().as_str(), rule.from.source.as_str()), ("2027-03-01T00:00:00Z", "AMD-SB-0000"));
    for (named, text) in [
        ("product", with(&format!("{when}\nsnp = 1"))),
        ("product", with(&format!("product = \"Naples\"\n{when}\nsnp = 1"))),
        ("from", with("product = \"Genoa\"\nsource = \"s\"\nsnp = 1")),
        ("source", with("product = \"Genoa\"\nfrom = \"2027-03-01T00:00:00Z\"\nsnp = 1")),
        ("no floor", with(&format!("product = \"Genoa\"\n{when}"))),
        ("FMC", with(&format!("product = \"Genoa\"\n{when}\nfmc = 1"))),
        (
            "twice",
            with(&format!(
                "product = \"Genoa\"\n{when}\nmicrocode = [{0}, {0}]",
                "{ family = 25, model = 17, min = 1 }"
            )),
        ),
        ("model", with(&format!("product = \"Genoa\"\n{when}\nmicrocode = [{}]", "{ family = 25, min = 1 }"))),
        ("until", with(&format!("product = \"Genoa\"\n{when}\nuntil = \"2027-03-01T00:00:00Z\""))),
    ] {
        let error = refused(&text);
        assert_eq!(error.code(), "POLICY_INVALID", "{error}\n{text}");
        assert!(named == "until" || error.to_string().contains(named), "{named} is not in: {error}");
    }
}

#[test]
fn a_floor_without_day_or_source_is_refused_by_field() {
    let (snp, tdx) = (complete(), complete_tdx(simulated()));
    let (written, source) = ("written = \"2026-11-21\"\n", "source = \"AMD-SB-0000\"\n");
    let floors = [
        (&snp, "sev-snp.tcb.Genoa", "snp = 0x18\n"),
        (
            &snp,
            "sev-snp.tcb.Turin",
            "fmc = 1\nbootloader = 1\ntee = 1\nsnp = 4\nmicrocode = [{ family = 26, model = 2, min = 1 }]\n",
        ),
        (&tdx, "tdx.tcb", "min_tcb_evaluation_number = 20\n"),
    ];
    for (text, table, floor) in floors {
        let with = |lines: &str| format!("{text}[{table}]\n{floor}{lines}");
        Policy::parse(&with(&format!("{written}{source}")), &read).unwrap();
        for (lines, code, field) in [
            (written.to_owned(), "POLICY_INCOMPLETE", "source"),
            (source.to_owned(), "POLICY_INCOMPLETE", "written"),
            (format!("{written}source = \"\"\n"), "POLICY_INVALID", "source"),
            (format!("{written}source = \"{}\"\n", "s".repeat(201)), "POLICY_INVALID", "source"),
            (format!("{source}written = \"2026-11-21T00:00:00Z\"\n"), "POLICY_INVALID", "written"),
            (format!("{source}written = \"2026-02-30\"\n"), "POLICY_INVALID", "written"),
        ] {
            let error = refused(&with(&lines));
            let said = error.to_string();
            assert_eq!(error.code(), code, "{said}\n{lines}");
            assert!(said.contains(&format!("{table}.{field}")), "{said}");
            // The other one is there.
            let other = if field == "source" { "written" } else { "source" };
            assert!(!said.contains(&format!("{table}.{other}")), "{said}");
        }
        let said = refused(&with("")).to_string();
        assert!(said.contains(&format!("complete: {table}.written, {table}.source missing")), "{said}");
    }
    // An entry may have a source of its own, and nothing else of its own.
    let cpu = |more: &str| {
        format!(
            "{snp}[sev-snp.tcb.Genoa]\n{written}{source}microcode = [{{ family = 25, model = 17, min = 1, {more} }}]\n"
        )
    };
    let policy = Policy::parse(&cpu("source = \"ticket 7\""), &read).unwrap();
    let table = policy.explain_table();
    assert!(table.contains("written 2026-11-21: AMD-SB-0000\n"), "{table}");
    assert!(table.contains("microcode 0x01 on 0x19/0x11/* (ticket 7)\n"), "{table}");
    for more in ["source = \" \"", "written = \"2026-11-21\""] {
        assert_eq!(refused(&cpu(more)).code(), "POLICY_INVALID", "{more}");
    }
}

/// The page that explains the format names every reason, every field of the bases, and shows dates that are read.
#[test]
fn the_page_about_policies_is_whole() {
    const PAGE: &str = include_str!("../../docs/policy.md");
    for check in Check::ALL {
        assert!(PAGE.contains(&format!("`{}`", check.code())), "no word of {}", check.code());
    }
    let mut fields = 0;
    for preset in presets::ALL {
        assert!(PAGE.contains(&format!("`{}`", preset.name)), "{}", preset.name);
        for line in preset.text.lines() {
            let Some((field, _)) =
                line.split_once(" = ").filter(|(f, _)| f.starts_with(|c: char| c.is_ascii_lowercase()))
            else {
                continue;
            };
            let named = [format!("`{field}`"), format!(".{field}`")].iter().any(|form| PAGE.contains(form.as_str()));
            assert!(named, "no word of {field}");
            fields += 1;
        }
    }
    assert!(fields > 90, "{fields}");
    let blocks = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let dates = blocks.clone().find(|block| block.contains("announced")).unwrap();
    let both = InitOptions { tdx: Some(tdx()), ..options(InitAnchors::Hardware) };
    let policy = Policy::parse(&format!("{}{dates}", init_text(&both)), &read).unwrap();
    assert_eq!(policy.rules().snp().unwrap().announced.len(), 1);
    assert!(policy.rules().tdx().unwrap().tcb.grace.is_some());
    assert_eq!(blocks.count(), 3);
}
