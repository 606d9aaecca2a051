//! Turns a place on some machine into builds that do not show it: the same sources give the same program everywhere.
//! It does not make two compilers alike: rust-toolchain.toml pins Rust, and the C compiler is the machine's own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ChoreError;
use crate::workspace::{Workspace, ended_well};

/// Where cargo works, and what of it must not be seen in the result.
pub(crate) struct Place {
    /// The folder of the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// Cargo's target directory for these builds alone: ordinary builds have other flags.
    pub(crate) target: PathBuf,
    /// Cargo's own folder, where it unpacks the sources of crates.
    pub(crate) cargo_home: PathBuf,
}

impl Place {
    /// The place of the user's own workspace.
    pub(crate) fn of(workspace: &Workspace) -> Result<Self, ChoreError> {
        Ok(Self {
            root: workspace.root().to_owned(),
            target: workspace.target().join("measured"),
            cargo_home: cargo_home()?,
        })
    }

    /// Builds one package's program alone; beside other crates, their features would change it.
    pub(crate) fn build(
        &self,
        workspace: &Workspace,
        package: &str,
        program: &str,
        profile: &str,
    ) -> Result<PathBuf, ChoreError> {
        // The sources of crates must lie there before their places can be named.
        let mut fetch = self.cargo(workspace);
        fetch.args(["fetch", "--locked", "--quiet", "--target", "x86_64-unknown-linux-gnu"]);
        run(fetch)?;
        let mut build = self.cargo(workspace);
        build.args(["build", "--locked", "--profile", profile, "--package", package, "--bin", program]);
        let mut rust = Vec::new();
        let mut c = String::new();
        for (from, to) in self.prefixes()? {
            let from = from.to_str().filter(|path| !path.contains([' ', '\t', '\n', '=', '\u{1f}']));
            let from = from.ok_or_else(|| {
                ChoreError::Usage("a measured build needs paths without spaces and equals signs".to_owned())
            })?;
            rust.push(format!("--remap-path-prefix={from}={to}"));
            c.push_str(&format!("-ffile-prefix-map={from}={to} "));
        }
        // Cargo separates these by one control character (Cargo Book, Environment Variables).
        build.env("CARGO_ENCODED_RUSTFLAGS", rust.join("\u{1f}")).env("CFLAGS", c.trim_end());
        run(build)?;
        let folder = if profile == "dev" { "debug" } else { profile };
        Ok(self.target.join(folder).join(program))
    }

    /// What is replaced in every path that a compiler writes down. Where two match, the later one counts.
    fn prefixes(&self) -> Result<Vec<(PathBuf, String)>, ChoreError> {
        let mut prefixes = vec![
            (self.cargo_home.clone(), "/cargo".to_owned()),
            (self.root.clone(), "/vouchsafe".to_owned()),
            (self.target.clone(), "/target".to_owned()),
        ];
        // A mirror of the registry has a folder of another name.
        let sources = self.cargo_home.join("registry/src");
        let mut registries: Vec<PathBuf> =
            fs::read_dir(&sources).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        registries.sort();
        prefixes.extend(registries.into_iter().map(|path| (path, "/cargo/registry".to_owned())));
        prefixes.push(standard_library()?);
        Ok(prefixes)
    }

    /// Cargo at this place, without anybody's own flags.
    fn cargo(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.cargo();
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).env("CARGO_HOME", &self.cargo_home);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if is_flag(&text) {
                command.env_remove(&name);
            }
        }
        command
    }
}

/// Variables by which a user changes what compilers produce.
fn is_flag(name: &str) -> bool {
    const WORDS: [&str; 7] = ["RUSTFLAGS", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "RUSTC_BOOTSTRAP", "ARFLAGS"];
    name.starts_with("CARGO_PROFILE_")
        || name.starts_with("AWS_LC_")
        || name.starts_with("RING_")
        || WORDS
            .iter()
            .any(|word| name == *word || name.contains(&format!("{word}_")) || name.ends_with(&format!("_{word}")))
}

/// Where this toolchain keeps the standard library's sources, if it has them: then rustc names them by their real path.
fn standard_library() -> Result<(PathBuf, String), ChoreError> {
    let ask = |args: &[&str]| {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
        let output = Command::new(rustc)
            .args(args)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| ChoreError::Start { program: "rustc", source })?;
        Ok::<_, ChoreError>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let sysroot = ask(&["--print", "sysroot"])?;
    let version = ask(&["--version", "--verbose"])?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
    Ok((Path::new(sysroot.trim()).join("lib/rustlib/src/rust"), format!("/rustc/{commit}")))
}

/// Cargo's own folder, as cargo finds it.
pub(crate) fn cargo_home() -> Result<PathBuf, ChoreError> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let missing = || ChoreError::Usage("neither CARGO_HOME nor HOME is set".to_owned());
    let path = named.or_else(home).ok_or_else(missing)?;
    std::path::absolute(&path).map_err(ChoreError::file(path))
}

fn run(mut command: Command) -> Result<(), ChoreError> {
    let status = command.status().map_err(|source| ChoreError::Start { program: "cargo", source })?;
    if ended_well(status)? { Ok(()) } else { Err(ChoreError::Build) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_user_are_known_by_their_names() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "CARGO_PROFILE_IMAGE_LTO",
            "CFLAGS",
            "CFLAGS_x86_64-unknown-linux-gnu",
            "TARGET_CFLAGS",
            "AWS_LC_SYS_CFLAGS",
        ] {
            assert!(is_flag(name), "{name}");
        }
        for name in ["PATH", "CARGO_HOME", "RUSTUP_HOME", "CC", "HOME", "HTTPS_PROXY", "CARGO"] {
            assert!(!is_flag(name), "{name}");
        }
    }
}
