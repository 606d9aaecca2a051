//! Turns the files of the container image, Cargo.lock and the guest image's manifest into one list of what is inside (CycloneDX 1.6).
//! It lists; it does not say that anything in the list is free of defects, nor look into the C++ libraries that ONNX Runtime carries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::ChoreError;
use crate::onnxruntime;
use crate::workspace::{Workspace, sha256_of};

/// Where the image keeps what people read.
pub(crate) const DOCUMENTS: &str = "usr/share/doc/vouchsafe";
/// Where the image keeps ONNX Runtime's licence and notices.
pub(crate) const ONNX_DOCUMENTS: &str = "usr/share/doc/onnxruntime";

/// Where a file of the image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// A program of this workspace, by the name of its package.
    Program(&'static str),
    /// A Debian package.
    Debian(&'static str),
    /// The wheel of ONNX Runtime.
    Wheel,
    /// A text of this project.
    Document,
}

/// A crate, as `cargo tree` and Cargo.lock name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
}

impl Crate {
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, percent(&self.version))
    }
}

/// What `cargo tree` says of a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct About {
    licence: String,
    /// It runs while others compile, and nothing of it is in the program.
    compile_time: bool,
}

/// The document for the image below `root`; `manifest` is the guest image's `image.json`, from which its libraries came.
pub(crate) fn document(workspace: &Workspace, root: &Path, manifest: &Value) -> Result<Value, ChoreError> {
    let mut by_source: BTreeMap<Source, Vec<Value>> = BTreeMap::new();
    for path in files(root)? {
        let source = source(&path).ok_or_else(|| ChoreError::Sbom { what: format!("{path} is of no known origin") })?;
        let digest = sha256_of(&root.join(&path))?.unwrap_or_default();
        let entry = json!({ "type": "file", "name": format!("/{path}"), "hashes": sha256(&digest) });
        by_source.entry(source).or_default().push(entry);
    }
    let lock = fs::read_to_string(workspace.root().join("Cargo.lock")).map_err(ChoreError::file("Cargo.lock"))?;
    let checksums = checksums(&lock);
    let (mut components, mut dependencies) = (Vec::new(), Vec::new());
    let mut crates: BTreeMap<Crate, About> = BTreeMap::new();
    let mut refs: BTreeMap<Source, String> = BTreeMap::new();
    for source in by_source.keys() {
        let name = match source {
            Source::Program(package) => format!("pkg:cargo/{package}@{}", env!("CARGO_PKG_VERSION")),
            Source::Debian(package) => debian_purl(&debian(manifest, package)?),
            Source::Wheel => format!("pkg:pypi/onnxruntime@{}", onnxruntime::VERSION),
            Source::Document => DOCUMENTS.to_owned(),
        };
        refs.insert(*source, name);
    }
    let libraries: Vec<&String> =
        refs.iter().filter(|(source, _)| matches!(source, Source::Debian(_))).map(|(_, name)| name).collect();
    for (source, files) in &by_source {
        let bom_ref = &refs[source];
        components.push(match source {
            Source::Program(package) => {
                let linked = tree(workspace, package)?;
                let itself = |c: &&Crate| c.name != *package;
                let mut needs: BTreeSet<String> = linked.keys().filter(itself).map(Crate::purl).collect();
                needs.extend(libraries.iter().map(|name| (*name).clone()));
                dependencies.push(json!({ "ref": bom_ref, "dependsOn": needs }));
                crates.extend(linked.into_iter().filter(|(c, _)| c.name != *package));
                json!({
                    "type": "application", "bom-ref": bom_ref, "purl": bom_ref, "name": package,
                    "version": env!("CARGO_PKG_VERSION"), "licenses": licences("Apache-2.0"), "components": files,
                })
            }
            Source::Debian(package) => {
                let input = debian(manifest, package)?;
                json!({
                    "type": "library", "bom-ref": bom_ref, "purl": bom_ref, "name": package, "version": input["version"],
                    "hashes": sha256(input["sha256"].as_str().unwrap_or_default()), "components": files,
                })
            }
            Source::Wheel => json!({
                "type": "library", "bom-ref": bom_ref, "purl": bom_ref, "name": "onnxruntime",
                "version": onnxruntime::VERSION, "hashes": sha256(onnxruntime::WHEEL_SHA256),
                "licenses": licences("MIT"), "components": files,
                "description": "the wheel's own libraries are listed in its notices",
            }),
            Source::Document => json!({
                "type": "data", "bom-ref": bom_ref, "name": "documents", "licenses": licences("Apache-2.0"),
                "components": files,
            }),
        });
    }
    for (dependency, about) in &crates {
        let mut component = json!({
            "type": "library", "bom-ref": dependency.purl(), "purl": dependency.purl(), "name": dependency.name,
            "version": dependency.version, "scope": if about.compile_time { "excluded" } else { "required" },
        });
        if !about.licence.is_empty() {
            component["licenses"] = licences(&about.licence);
        }
        match checksums.get(dependency) {
            Some(Some(checksum)) => component["hashes"] = sha256(checksum),
            Some(None) => {}
            None => {
                let what = format!("{} {} is not in Cargo.lock", dependency.name, dependency.version);
                return Err(ChoreError::Sbom { what });
            }
        }
        components.push(component);
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": { "type": "container", "bom-ref": "vouchsafe", "name": "vouchsafe", "version": env!("CARGO_PKG_VERSION") },
            "tools": { "components": [{ "type": "application", "name": "cargo xtask container" }] },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// The one source of a file of the image, by its path.
fn source(path: &str) -> Option<Source> {
    let (folder, name) = path.rsplit_once('/')?;
    Some(match (folder, name) {
        ("usr/bin", "vouchsafe") => Source::Program("vouchsafe"),
        ("usr/bin", "vouchsafe-enclave") => Source::Program("vouchsafe-enclave"),
        ("usr/bin", "vouchsafe-launch") => Source::Program("vouchsafe-launcher"),
        ("usr/bin", "vouchsafe-simulator") => Source::Program("vouchsafe-simulator"),
        ("usr/bin", onnxruntime::LIBRARY_NAME) | (ONNX_DOCUMENTS, _) => Source::Wheel,
        (DOCUMENTS, _) => Source::Document,
        ("lib64" | "lib/x86_64-linux-gnu", name) => Source::Debian(match name.split(".so").next()? {
            "ld-linux-x86-64" | "libc" | "libm" | "libdl" | "libpthread" | "librt" => "libc6",
            "libgcc_s" => "libgcc-s1",
            "libstdc++" => "libstdc++6",
            _ => return None,
        }),
        _ => return None,
    })
}

/// Every regular file below `root`, sorted.
fn files(root: &Path) -> Result<BTreeSet<String>, ChoreError> {
    let (mut found, mut todo) = (BTreeSet::new(), vec![String::new()]);
    while let Some(folder) = todo.pop() {
        let at = root.join(&folder);
        for entry in fs::read_dir(&at).map_err(ChoreError::file(&at))? {
            let entry = entry.map_err(ChoreError::file(&at))?;
            let name =
                entry.file_name().into_string().map_err(|_| ChoreError::Sbom { what: "a name is no text".into() })?;
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type().map_err(ChoreError::file(&at))?;
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_file() {
                found.insert(path);
            } else {
                return Err(ChoreError::Sbom { what: format!("{path} is neither file nor folder") });
            }
        }
    }
    Ok(found)
}

/// What one program is made of: its own dependencies with the features that a build of it alone has.
fn tree(workspace: &Workspace, package: &str) -> Result<BTreeMap<Crate, About>, ChoreError> {
    let output = workspace
        .cargo()
        .args(["tree", "--locked", "--package", package, "--edges", "normal", "--prefix", "none"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--format", "{p}|{l}"])
        .output()
        .map_err(|source| ChoreError::Start { program: "cargo", source })?;
    if !output.status.success() {
        return Err(ChoreError::Sbom { what: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(tree_line).collect())
}

/// `name v1.2.3 (proc-macro)|MIT OR Apache-2.0`; a path stands in the brackets for crates of this workspace.
fn tree_line(line: &str) -> Option<(Crate, About)> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let compile_time = package.contains("(proc-macro)");
    // A slash is how licences were joined before SPDX expressions; `(*)` marks a repetition.
    let licence = licence.trim_end_matches("(*)").trim().replace('/', " OR ");
    Some((Crate { name: name.to_owned(), version: version.to_owned() }, About { licence, compile_time }))
}

/// Each crate of Cargo.lock with its checksum; crates of this workspace have none.
fn checksums(lock: &str) -> BTreeMap<Crate, Option<String>> {
    let field = |block: &str, name: &str| {
        let value = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""))?;
        value.strip_suffix('"').map(str::to_owned)
    };
    let packages = lock.split("[[package]]").skip(1);
    let known = packages.filter_map(|block| {
        let found = Crate { name: field(block, "name")?, version: field(block, "version")? };
        Some((found, field(block, "checksum")))
    });
    known.collect()
}

/// The locked package of that name in the guest image's manifest.
fn debian(manifest: &Value, package: &str) -> Result<Value, ChoreError> {
    let packages = manifest["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let found = packages.iter().find(|input| input["name"] == package);
    found.cloned().ok_or_else(|| ChoreError::Sbom { what: format!("the guest image names no package {package}") })
}

fn debian_purl(input: &Value) -> String {
    let word = |name: &str| percent(input[name].as_str().unwrap_or_default());
    let (name, version, arch, suite) = (word("name"), word("version"), word("architecture"), word("suite"));
    format!("pkg:deb/debian/{name}@{version}?arch={arch}&distro={suite}")
}

/// What a package URL does not take as it is.
fn percent(text: &str) -> String {
    text.replace('%', "%25").replace('+', "%2B").replace(':', "%3A")
}

fn sha256(digest: &str) -> Value {
    json!([{ "alg": "SHA-256", "content": digest }])
}

fn licences(expression: &str) -> Value {
    json!([{ "expression": expression }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::make_dir;

    fn crate_of(name: &str, version: &str) -> Crate {
        Crate { name: name.into(), version: version.into() }
    }

    #[test]
    fn lines_of_the_tree_are_read() {
        let about = |licence: &str, compile_time| About { licence: licence.into(), compile_time };
        assert_eq!(
            tree_line("ring v0.17.14|Apache-2.0 AND ISC"),
            Some((crate_of("ring", "0.17.14"), about("Apache-2.0 AND ISC", false)))
        );
        assert_eq!(
            tree_line("serde_derive v1.0.228 (proc-macro)|MIT OR Apache-2.0 (*)"),
            Some((crate_of("serde_derive", "1.0.228"), about("MIT OR Apache-2.0", true)))
        );
        assert_eq!(
            tree_line("old v1.0.0|MIT/Apache-2.0"),
            Some((crate_of("old", "1.0.0"), about("MIT OR Apache-2.0", false)))
        );
        assert_eq!((tree_line(""), tree_line("ring|x"), tree_line("ring v1")), (None, None, None));
    }

    #[test]
    fn the_lock_of_this_workspace_is_read_whole() {
        let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let found = checksums(&lock);
        assert_eq!(found.len(), lock.matches("[[package]]").count());
        assert_eq!(found[&crate_of("xtask", env!("CARGO_PKG_VERSION"))], None);
        let foreign = found.values().flatten();
        assert!(foreign.clone().all(|sum| sum.len() == 64) && foreign.count() > 100);
    }

    #[test]
    fn every_file_has_one_source_or_stops_the_build() {
        assert_eq!(source("usr/bin/vouchsafe-launch"), Some(Source::Program("vouchsafe-launcher")));
        assert_eq!(source("usr/bin/libonnxruntime.so"), Some(Source::Wheel));
        assert_eq!(source("lib64/ld-linux-x86-64.so.2"), Some(Source::Debian("libc6")));
        assert_eq!(source("lib/x86_64-linux-gnu/libstdc++.so.6"), Some(Source::Debian("libstdc++6")));
        for unknown in ["usr/bin/sh", "etc/passwd", "lib/x86_64-linux-gnu/libssl.so.3", "init"] {
            assert_eq!(source(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_document_names_every_file_and_every_crate_of_every_program() {
        let root = std::env::temp_dir().join(format!("xtask-sbom-{}", std::process::id()));
        let paths = [
            "usr/bin/vouchsafe-enclave",
            "usr/bin/vouchsafe-launch",
            "usr/bin/libonnxruntime.so",
            "lib64/ld-linux-x86-64.so.2",
            "lib/x86_64-linux-gnu/libc.so.6",
            "usr/share/doc/vouchsafe/LICENSE",
        ];
        for path in paths {
            make_dir(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), path).unwrap();
        }
        let libc = json!({ "name": "libc6", "version": "2.36-9", "suite": "bookworm", "architecture": "amd64", "sha256": "ab" });
        let manifest = json!({ "packages": [libc] });
        let workspace = Workspace::find().unwrap();
        let document = document(&workspace, &root, &manifest).unwrap();
        let components = document["components"].as_array().unwrap();
        let named = |name: &str| components.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}"));

        let listed = |c: &Value| c["components"].as_array().cloned().unwrap_or_default();
        let mut files: Vec<String> =
            components.iter().flat_map(listed).map(|f| f["name"].as_str().unwrap().to_owned()).collect();
        files.sort();
        let mut expected: Vec<String> = paths.iter().map(|path| format!("/{path}")).collect();
        expected.sort();
        assert_eq!(files, expected, "each file once");
        assert_eq!(listed(named("libc6")).len(), 2);
        assert_eq!(named("ring")["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert_eq!(named("serde_derive")["scope"], "excluded");

        // Every reference leads to a component, and no two share one.
        let refs: BTreeSet<&str> = components.iter().map(|c| c["bom-ref"].as_str().unwrap()).collect();
        assert_eq!(refs.len(), components.len());
        for dependency in document["dependencies"].as_array().unwrap() {
            for needed in dependency["dependsOn"].as_array().unwrap() {
                assert!(refs.contains(needed.as_str().unwrap()), "{needed}");
            }
        }
        for component in components {
            let licensed = component["licenses"].is_array()
                || component["purl"].as_str().is_some_and(|p| p.starts_with("pkg:deb/"));
            assert!(licensed, "{}", component["name"]);
        }

        fs::write(root.join("usr/bin/sh"), "").unwrap();
        let error = super::document(&workspace, &root, &manifest).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("SBOM_INCOMPLETE", 9));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn package_urls_are_encoded() {
        let input = json!({ "name": "libstdc++6", "version": "1:12.2.0-14+deb12u1", "suite": "bookworm", "architecture": "amd64" });
        assert_eq!(
            debian_purl(&input),
            "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2.0-14%2Bdeb12u1?arch=amd64&distro=bookworm"
        );
        assert!(debian(&json!({ "packages": [input] }), "libc6").is_err());
        assert_eq!(crate_of("a", "1.0.0+b").purl(), "pkg:cargo/a@1.0.0%2Bb");
    }
}
