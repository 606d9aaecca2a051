//! Turns statements about a model into entries of a signed manifest, and back: what was named is found, nothing else is.
//! What a statement says is read by nobody here.

use super::support::{Fixture, payload, resign};
use crate::{Provenance, Statement};

fn named() -> Fixture {
    let provenance = Statement::ALL.into_iter().zip(1..).map(|(kind, n)| Provenance { kind, sha256: [n; 32] });
    Fixture { provenance: provenance.collect(), ..Fixture::small() }
}

#[test]
fn named_statements_stand_in_the_manifest_in_their_order() {
    let fixture = named();
    let files = fixture.files();
    assert!(fixture.judge(&files).unwrap() == fixture.plaintexts());
    let manifest = crate::Manifest::parse(payload(&files).as_bytes()).unwrap();
    assert_eq!(manifest.provenance, fixture.provenance);
    // A model without statements says so: the field is always there.
    assert!(payload(&Fixture::small().files()).contains("\"threshold\":1,\"provenance\":[],\"files\":["));
}

#[test]
fn statements_change_the_name_of_the_weights_but_not_their_bytes() {
    let (with, without) = (named().files(), Fixture::small().files());
    assert_ne!(payload(&with), payload(&without));
    for name in with.keys().filter(|name| name.ends_with(".blob") || name.ends_with(".list")) {
        assert!(with[name] == without[name], "{name}");
    }
}

#[test]
fn a_statement_is_one_of_three_kinds_with_a_digest() {
    let fixture = named();
    let base = fixture.files();
    let first = format!("{{\"type\":\"openssf-model-signing\",\"sha256\":\"{}\"}}", "01".repeat(32));
    for (to, code) in [
        (first.replace("openssf-model-signing", "OpenSSF-Model-Signing"), "MANIFEST_FIELDS"),
        (first.replace("openssf-model-signing", ""), "MANIFEST_FIELDS"),
        (first.replace("0101", "01"), "MANIFEST_FIELDS"),
        (first.replace("0101", "AAAA"), "MANIFEST_FIELDS"),
        (first.replace("\"sha256\"", "\"sha512\""), "MANIFEST_FIELDS"),
        (first.replacen('{', "{\"type\":\"slsa-provenance\",", 1), "MANIFEST_FIELDS"),
        ("null".to_owned(), "MANIFEST_FIELDS"),
        (format!("{first},{first}"), "MANIFEST_PROVENANCE"),
        (vec![first.replacen("01", "09", 1); 17].join(","), "MANIFEST_PROVENANCE"),
    ] {
        let mut files = base.clone();
        resign(&mut files, &fixture.seeds, &first, &to);
        assert_eq!(fixture.code(&files), code, "{to}");
    }
}
