//! Turns questions about a Debian archive into runs of apt that need no root and leave the system's own apt alone.
//! It does not trust the answers further than apt's signatures; a fetched file counts only by the lock's digest.
//!
//! Everything of this apt lies in one folder: configuration, lists, an empty package database. Of the system's configuration it
//! takes over how to reach the network (`Acquire::…`), never its hooks, pins or sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::ImageError;
use crate::lock::Input;
use crate::sources::{Mirror, same_suite};

/// The programs of apt that are used.
const PROGRAMS: [&str; 3] = ["apt-get", "apt-cache", "apt-config"];
/// The most that is read of one answer.
const MAX_ANSWER: usize = 4 << 20;

/// What packages are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those of a lock, by digest: lists past their date, as an archive of the past serves them, do no harm.
    Locked,
    /// The newest: old lists would hide what came after them.
    Newest,
}

impl Wanted {
    /// The setting of apt.conf(5) for it; of the newest, whatever the system demands.
    const fn setting(self) -> &'static str {
        match self {
            Self::Locked => "Acquire::Check-Valid-Until \"false\";\n",
            Self::Newest => "",
        }
    }
}

/// An apt of our own.
pub(crate) struct Apt {
    programs: PathBuf,
    config: PathBuf,
}

impl Apt {
    /// Sets one up in `home`, for these suites, with the system's programs.
    pub(crate) fn set_up(
        home: &Path,
        programs: &Path,
        mirror: &Mirror,
        suites: &[&str],
        wanted: Wanted,
    ) -> Result<Self, ImageError> {
        if !PROGRAMS.iter().all(|program| programs.join(program).is_file()) {
            return Err(ImageError::NoApt);
        }
        let programs = programs.to_owned();
        let text = home.to_str().filter(|text| text.starts_with('/') && !text.contains(['"', '\\', '\n']));
        let odd = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "apt cannot use a folder of this name");
        let text = text.ok_or_else(|| ImageError::file(home)(odd()))?;
        for dir in ["sources", "none", "state/lists/partial", "cache/archives/partial"] {
            let dir = home.join(dir);
            fs::create_dir_all(&dir).map_err(ImageError::file(dir))?;
        }
        let write = |name: &str, content: &str| {
            let path = home.join(name);
            fs::write(&path, content).map_err(ImageError::file(path))
        };
        write("status", "")?;
        write("sources/image.sources", &mirror.sources(suites))?;
        let (network, dates) = (network_settings(&programs)?, wanted.setting());
        write(
            "apt.conf",
            &format!(
                "{network}{dates}\
                 Dir::Etc::main \"/dev/null\";\n\
                 Dir::Etc::parts \"{text}/none\";\n\
                 Dir::Etc::sourcelist \"/dev/null\";\n\
                 Dir::Etc::sourceparts \"{text}/sources\";\n\
                 Dir::Etc::preferences \"/dev/null\";\n\
                 Dir::Etc::preferencesparts \"{text}/none\";\n\
                 Dir::State \"{text}/state\";\n\
                 Dir::State::status \"{text}/status\";\n\
                 Dir::Cache \"{text}/cache\";\n\
                 APT::Architecture \"amd64\";\n\
                 APT::Architectures {{ \"amd64\"; }};\n\
                 APT::Sandbox::User \"root\";\n\
                 APT::Update::Error-Mode \"any\";\n\
                 Acquire::Languages \"none\";\n"
            ),
        )?;
        Ok(Self { programs, config: home.join("apt.conf") })
    }

    /// Fetches today's lists of packages.
    pub(crate) fn update(&self) -> Result<(), ImageError> {
        self.run("apt-get", &["--quiet=2", "update"], None, "fetching the lists of packages").map(drop)
    }

    /// The versions of a package in a suite, newest first.
    pub(crate) fn versions(&self, package: &str, suite: &str) -> Result<Vec<String>, ImageError> {
        let answer = self.run("apt-cache", &["madison", package], None, "looking for a package")?;
        Ok(versions_in(&answer, package, suite))
    }

    /// What the archive says of one version of a package: a stanza of fields.
    pub(crate) fn show(&self, package: &str, version: &str) -> Result<Stanza, ImageError> {
        let wanted = format!("{package}={version}");
        self.run("apt-cache", &["show", &wanted], None, "reading about a package").map(|text| Stanza { text })
    }

    /// Fetches one package into an empty folder; the path of the only file there afterwards.
    pub(crate) fn download(&self, input: &Input, empty: &Path) -> Result<PathBuf, ImageError> {
        let wanted = format!("{}={}", input.name, input.version);
        self.run("apt-get", &["--quiet=2", "download", &wanted], Some(empty), "fetching a package")?;
        let mut files = fs::read_dir(empty).map_err(ImageError::file(empty))?.flatten().map(|entry| entry.path());
        files.next().ok_or(ImageError::Apt { doing: "fetching a package", said: String::new() })
    }

    fn run(&self, program: &str, args: &[&str], dir: Option<&Path>, doing: &'static str) -> Result<String, ImageError> {
        let mut command = Command::new(self.programs.join(program));
        command.args(args).env("APT_CONFIG", &self.config).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(dir) = dir {
            command.current_dir(dir);
        }
        let Output { status, stdout, stderr } =
            command.output().map_err(ImageError::file(self.programs.join(program)))?;
        if !status.success() {
            return Err(ImageError::Apt { doing, said: last_line(&stderr) });
        }
        if stdout.len() > MAX_ANSWER {
            return Err(ImageError::Apt { doing, said: "it said more than 4 MiB".to_owned() });
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

/// Fields of a package, `Name: value` a line (deb822).
pub(crate) struct Stanza {
    text: String,
}

impl Stanza {
    /// The first field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }
}

/// How the system's apt reaches the network, in the form of a configuration file.
fn network_settings(programs: &Path) -> Result<String, ImageError> {
    let program = programs.join("apt-config");
    let output = Command::new(&program)
        .arg("dump")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(ImageError::file(program))?;
    let mut text = String::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        const NOT: [&str; 4] = ["Languages", "IndexTargets", "Changelogs", "cdrom"];
        let Some(name) = line.strip_prefix("Acquire::") else { continue };
        if !NOT.iter().any(|not| name.starts_with(not)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// Lines `package | version | URI suite/component architecture Packages`, newest first.
fn versions_in(answer: &str, package: &str, suite: &str) -> Vec<String> {
    let mut versions = Vec::new();
    for line in answer.lines() {
        let mut columns = line.split('|').map(str::trim);
        let (Some(name), Some(version), Some(source)) = (columns.next(), columns.next(), columns.next()) else {
            continue;
        };
        let mut words = source.split_whitespace();
        let found = words.nth(1).and_then(|word| word.split_once('/')).map(|(suite, _)| suite);
        let is_binary = words.nth(1) == Some("Packages");
        if name == package && is_binary && found.is_some_and(|found| same_suite(suite, found)) {
            versions.push(version.to_owned());
        }
    }
    versions.dedup();
    versions
}

/// The last line that says something, cut to one screen line of printable ASCII.
fn last_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().filter(|c| matches!(c, ' '..='~')).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_suite_and_its_updates() {
        let answer = " libc6 | 2.42-1 | http://a.invalid/debian sid/main amd64 Packages\n \
                       libc6 | 2.36-9+deb12u13 | http://a.invalid/security bookworm-security/main amd64 Packages\n \
                       libc6 | 2.36-9+deb12u10 | http://a.invalid/debian bookworm/main amd64 Packages\n \
                       glibc | 2.36-9+deb12u10 | http://a.invalid/debian bookworm/main Sources\nnoise\n";
        assert_eq!(versions_in(answer, "libc6", "bookworm"), ["2.36-9+deb12u13", "2.36-9+deb12u10"]);
        assert_eq!(versions_in(answer, "libc6", "sid"), ["2.42-1"]);
        assert!(versions_in(answer, "glibc", "bookworm").is_empty());
    }

    #[test]
    fn what_apt_says_is_told_in_one_printable_line() {
        assert_eq!(last_line(b"W: a\nE: no \x1b[31mroute\n\n"), "E: no [31mroute");
        assert_eq!(last_line(b""), "");
    }
}
