//! Turns cargo's own view of the crates into the rule of who may use whom.
//! It does not look into the sources; see `sources.rs`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

use crate::tree::{member, metadata, none};

/// An arrow points to what is used. Anything else is a defect.
const MAY_USE: [(&str, &[&str]); 18] = [
    ("vouchsafe-attestation", &[]),
    ("vouchsafe-measurement", &["attestation"]),
    ("vouchsafe-policies", &["attestation"]),
    ("vouchsafe-sealed", &["attestation"]),
    ("vouchsafe-release", &["attestation", "policies", "sealed"]),
    ("vouchsafe-enclave", &["attestation", "release", "policies", "sealed", "preflight", "oip", "runner", "system"]),
    ("vouchsafe-preflight", &[]),
    ("vouchsafe-oip", &[]),
    ("vouchsafe-runner", &["oip", "system"]),
    ("vouchsafe-system", &[]),
    ("vouchsafe-image", &[]),
    ("vouchsafe-launcher", &["attestation", "measurement"]),
    ("vouchsafe-broker", &["attestation", "policies", "release", "sealed"]),
    ("vouchsafe-customer", &["attestation", "policies"]),
    (
        "vouchsafe",
        &[
            "attestation",
            "measurement",
            "release",
            "policies",
            "sealed",
            "preflight",
            "image",
            "launcher",
            "broker",
            "customer",
        ],
    ),
    ("vouchsafe-simulator", &["attestation", "measurement"]),
    ("vouchsafe-tests", &[]),
    ("xtask", &[]),
];

#[test]
fn every_arrow_between_crates_is_one_of_the_design() {
    let metadata = metadata();
    let table: BTreeMap<_, _> = MAY_USE.into_iter().collect();
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, table.keys().copied().collect(), "the table above names every crate");

    let mut broken = Vec::new();
    for package in &members {
        let allowed: Vec<String> =
            table[package.name.as_str()].iter().map(|short| format!("vouchsafe-{short}")).collect();
        for dependency in &package.dependencies {
            let inside = names.contains(dependency.name.as_str());
            let arrow = format!("{} -> {} ({})", package.name, dependency.name, dependency.kind);
            match dependency.kind {
                _ if !inside => {}
                DependencyKind::Normal if allowed.contains(&dependency.name) => {}
                // Tests of a crate may look further, but never at the simulator's or a chore's insides.
                DependencyKind::Development
                    if package.name.as_str() == "vouchsafe-tests"
                        || !matches!(dependency.name.as_str(), "vouchsafe-simulator" | "xtask") => {}
                _ => broken.push(arrow),
            }
        }
    }
    none("these crates must not use each other", &broken);
}

#[test]
fn the_verifier_links_no_network_no_runtime_and_no_other_tls() {
    const FORBIDDEN: [&str; 8] = ["tokio", "hyper", "rustls", "reqwest", "mio", "socket2", "ort", "openssl-sys"];
    let metadata = metadata();
    for name in ["vouchsafe-attestation", "vouchsafe-policies", "vouchsafe-sealed", "vouchsafe-release"] {
        let linked = links(&metadata, member(&metadata, name));
        let broken: Vec<_> =
            FORBIDDEN.iter().filter(|bad| linked.contains(**bad)).map(|bad| format!("{name} links {bad}")).collect();
        none("these stay pure", &broken);
    }
    let enclave = links(&metadata, member(&metadata, "vouchsafe-enclave"));
    assert!(enclave.contains("tokio") && enclave.contains("ort"), "control: the enclave does link them");
}

#[test]
fn the_launcher_links_no_key_code() {
    const KEY_CODE: [&str; 6] = [
        "vouchsafe-sealed",
        "vouchsafe-release",
        "vouchsafe-policies",
        "vouchsafe-broker",
        "vouchsafe-enclave",
        "vouchsafe-customer",
    ];
    let metadata = metadata();
    let launcher = links(&metadata, member(&metadata, "vouchsafe-launcher"));
    let broken: Vec<_> =
        KEY_CODE.iter().filter(|name| launcher.contains(**name)).map(|name| (*name).to_owned()).collect();
    none("vouchsafe-launch must not link", &broken);
    assert!(!launcher.contains("vouchsafe-image"), "it reads an image's manifest itself and builds none");
    let broker = links(&metadata, member(&metadata, "vouchsafe-broker"));
    assert!(broker.contains("vouchsafe-release"), "control: the broker does link it");
}

#[test]
fn the_preflight_links_nothing() {
    let metadata = metadata();
    let linked = links(&metadata, member(&metadata, "vouchsafe-preflight"));
    assert_eq!(
        linked,
        BTreeSet::from(["vouchsafe-preflight"]),
        "what judges a hostile model is the standard library's only"
    );
}

#[test]
fn only_the_simulator_links_the_simulator() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let linked = links(&metadata, package);
        let itself = package.name.as_str() == "vouchsafe-simulator";
        assert_eq!(linked.contains("vouchsafe-simulator"), itself, "{}", package.name);
    }
}

#[test]
fn crates_have_no_features_inherit_the_lints_and_are_named_for_what_they_are() {
    /// Crates with lints of their own, because they hold `unsafe` blocks.
    const OWN_LINTS: [&str; 1] = ["vouchsafe-system"];
    const VAGUE: [&str; 8] = ["common", "utils", "util", "core", "types", "misc", "helpers", "shared"];
    let metadata = metadata();
    let mut broken = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        if !package.features.is_empty() || manifest.contains("[features]") {
            broken.push(format!("{name} has features; unification would carry them into other programs"));
        }
        let inherits = manifest.contains("[lints]\nworkspace = true");
        if inherits == OWN_LINTS.contains(&name) {
            broken.push(format!("{name} must inherit the workspace's lints"));
        }
        if VAGUE.contains(&name.strip_prefix("vouchsafe-").unwrap_or(name)) {
            broken.push(format!("{name} says nothing"));
        }
        if package.publish.as_ref().is_none_or(|registries| !registries.is_empty()) {
            broken.push(format!("{name} could be published by accident"));
        }
        for dependency in &package.dependencies {
            let path_or_registry = dependency.source.as_ref().is_none_or(|source| source.repr.starts_with("registry+"));
            if !path_or_registry {
                broken.push(format!("{name} takes {} from somewhere else than the registry", dependency.name));
            }
        }
    }
    none("rules for every crate", &broken);
    let root = std::fs::read_to_string(vouchsafe_tests::programs::workspace().join("Cargo.toml")).unwrap();
    assert!(root.contains("unsafe_code = \"forbid\""));
}

/// The names of everything that is compiled into a crate, itself included: normal dependencies only.
fn links<'a>(metadata: &'a Metadata, package: &'a Package) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<&PackageId, _> =
        metadata.resolve.as_ref().unwrap().nodes.iter().map(|node| (&node.id, node)).collect();
    let mut seen = BTreeSet::from([&package.id]);
    let mut next = vec![&package.id];
    while let Some(id) = next.pop() {
        for dependency in &nodes[id].deps {
            let normal = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if normal && seen.insert(&dependency.pkg) {
                next.push(&dependency.pkg);
            }
        }
    }
    seen.into_iter().map(|id| metadata[id].name.as_str()).collect()
}
