//! Turns the sources of this machine's apt, or a named mirror, into sources of our own for the suites that are wanted.
//! It does not verify what comes from there: apt verifies signatures, and the lock names every digest.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::error::ImageError;

/// Where Debian's own keys are, for a mirror that was named and not configured.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Suites by which a Debian archive is known.
const DEBIAN: [&str; 10] =
    ["bookworm", "trixie", "forky", "duke", "sid", "unstable", "testing", "stable", "oldstable", "bullseye"];
/// Suites that have no updates and no security updates of their own.
const ROLLING: [&str; 3] = ["sid", "unstable", "experimental"];
/// The largest sources file; people write them by hand.
const MAX_SOURCES: usize = 1 << 20;

/// A Debian archive, as apt knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    archive: Place,
    security: Option<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    uri: String,
    /// The value of `Signed-By`, its further lines included; without one, apt's own keyrings count.
    signed_by: Option<String>,
}

/// One line or stanza of a sources file.
#[derive(Default)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

impl Mirror {
    /// The archive that this machine's apt is set up with; `etc` is `/etc/apt`.
    pub(crate) fn of_system(etc: &Path) -> Result<Self, ImageError> {
        let mut files = vec![etc.join("sources.list")];
        if let Ok(parts) = fs::read_dir(etc.join("sources.list.d")) {
            files.extend(parts.flatten().map(|part| part.path()));
        }
        files.sort();
        let mut entries = Vec::new();
        for path in files {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if text.len() > MAX_SOURCES => {}
                Some("sources") => entries.extend(stanzas(&text)),
                Some("list") => entries.extend(text.lines().filter_map(one_line)),
                _ => {}
            }
        }
        entries.retain(|entry| entry.components.iter().any(|component| component == "main"));
        // Archives of others use Debian's words, too; the one signed by Debian's own keyring comes first.
        entries.sort_by_key(|entry| !entry.signed_by.as_ref().is_some_and(|keys| keys.contains("debian-archive")));
        let is_security = |suite: &str| suite.ends_with("-security");
        let find = |wanted: &dyn Fn(&str) -> bool| {
            let entry = entries.iter().find(|entry| entry.suites.iter().any(|suite| wanted(suite)))?;
            Some(Place { uri: entry.uris.first()?.clone(), signed_by: entry.signed_by.clone() })
        };
        let archive = find(&|suite| !is_security(suite) && is_debian(suite)).ok_or(ImageError::NoArchive)?;
        Ok(Self { archive, security: find(&|suite| is_security(suite) && is_debian(suite)) })
    }

    /// An archive that the caller names, signed by Debian's own keys.
    pub(crate) fn at(uri: &str) -> Result<Self, ImageError> {
        let plain = uri.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain || !["https://", "http://", "file:/", "copy:/"].iter().any(|scheme| uri.starts_with(scheme)) {
            return Err(ImageError::NoArchive);
        }
        let signed_by = Path::new(KEYRING).is_file().then(|| KEYRING.to_owned());
        Ok(Self { archive: Place { uri: uri.to_owned(), signed_by }, security: None })
    }

    /// A deb822 sources file (sources.list(5)) for these suites and their updates.
    pub(crate) fn sources(&self, suites: &[&str]) -> String {
        let mut plain: Vec<String> = suites.iter().map(|suite| (*suite).to_owned()).collect();
        let stable = suites.iter().filter(|suite| is_stable(suite));
        plain.extend(stable.clone().map(|suite| format!("{suite}-updates")));
        plain.sort();
        plain.dedup();
        let mut text = self.archive.stanza(&plain.join(" "));
        if let Some(security) = &self.security {
            let mut names: Vec<String> = stable.map(|suite| format!("{suite}-security")).collect();
            names.sort();
            names.dedup();
            if !names.is_empty() {
                text += &security.stanza(&names.join(" "));
            }
        }
        text
    }
}

/// Whether a suite of the archive counts as the one that a lock names.
pub(crate) fn same_suite(locked: &str, found: &str) -> bool {
    let rest = found.strip_prefix(locked);
    rest == Some("") || is_stable(locked) && matches!(rest, Some("-updates" | "-security"))
}

fn is_stable(suite: &str) -> bool {
    !ROLLING.contains(&suite) && !suite.contains('-')
}

fn is_debian(suite: &str) -> bool {
    let (name, rest) = suite.split_once('-').unwrap_or((suite, ""));
    DEBIAN.contains(&name) && matches!(rest, "" | "updates" | "security" | "backports")
}

impl Place {
    fn stanza(&self, suites: &str) -> String {
        let mut text =
            format!("Types: deb\nURIs: {}\nSuites: {suites}\nComponents: main\nArchitectures: amd64\n", self.uri);
        if let Some(keys) = &self.signed_by {
            let _ = writeln!(text, "Signed-By: {keys}");
        }
        text.push('\n');
        text
    }
}

/// The entries of a deb822 file; disabled ones, and ones for source packages only, are left out.
fn stanzas(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let words = |name| field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let enabled = field("enabled").is_none_or(|value| !value.eq_ignore_ascii_case("no"));
        if enabled && words("types").iter().any(|kind| kind == "deb") {
            let signed_by = field("signed-by").map(str::to_owned);
            let (suites, components) = (words("suites"), words("components"));
            entries.push(Entry { uris: words("uris"), suites, components, signed_by });
        }
    }
    entries
}

/// The entry of a line `deb [signed-by=… …] URI SUITE COMPONENT…`.
fn one_line(line: &str) -> Option<Entry> {
    let mut rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut signed_by = None;
    if let Some(after) = rest.strip_prefix('[') {
        let (options, after) = after.split_once(']')?;
        signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned);
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uris, suites) = (vec![words.next()?], vec![words.next()?]);
    Some(Entry { uris, suites, components: words.collect(), signed_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Result<Mirror, ImageError> {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(etc.path().join(name), text).unwrap();
        }
        Mirror::of_system(etc.path())
    }

    #[test]
    fn both_forms_of_sources_are_read_and_others_passed_over() {
        let deb822 = "# x\nTypes: deb\n# y\nURIs: http://a.invalid/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\
                      Signed-By: /k.gpg\n\nTypes: deb deb-src\nURIs: http://a.invalid/security\nSuites: bookworm-security\nComponents: main\n";
        let other = "deb [arch=amd64 signed-by=/x.gpg] https://b.invalid/tool bookworm-tool main\n\
                     deb https://b.invalid/tool bookworm stable\n";
        let first = of(&[("sources.list.d/debian.sources", deb822), ("sources.list.d/b.list", other)]);
        let classic = "deb-src http://c.invalid/debian bookworm main\n# deb http://d.invalid sid main\n\
                       deb [ signed-by=/k.gpg ] http://a.invalid/debian bookworm main contrib\n\
                       deb http://a.invalid/security bookworm-security main\n";
        assert_eq!(first.unwrap(), of(&[("sources.list", classic)]).unwrap());
        let foreign = "deb http://b.invalid/tool bookworm main\n";
        let debian = "deb [signed-by=/usr/debian-archive.gpg] http://a.invalid/debian bookworm main\n";
        let both = of(&[("sources.list", foreign), ("sources.list.d/a.list", debian)]).unwrap();
        assert_eq!(both, of(&[("sources.list", debian)]).unwrap());
        for none in
            ["", "Types: deb\nEnabled: no\nURIs: http://a.invalid\nSuites: sid\n", "Types: deb\nSuites: noble\n"]
        {
            assert_eq!(of(&[("sources.list.d/a.sources", none)]).unwrap_err().code(), "IMAGE_NO_ARCHIVE", "{none}");
        }
    }

    #[test]
    fn our_own_sources_have_the_updates_of_a_stable_suite_only() {
        let mirror = of(&[(
            "sources.list",
            "deb http://a.invalid/debian sid main\ndeb http://s.invalid trixie-security main\n",
        )]);
        let text = mirror.unwrap().sources(&["bookworm", "bookworm-backports", "sid", "bookworm"]);
        assert!(text.contains("\nSuites: bookworm bookworm-backports bookworm-updates sid\n"), "{text}");
        assert!(text.contains("URIs: http://s.invalid\nSuites: bookworm-security\n"), "{text}");
        assert!(same_suite("bookworm", "bookworm-security") && same_suite("sid", "sid"));
        assert!(!same_suite("bookworm", "bookworm-backports") && !same_suite("sid", "sid-updates"));
    }

    #[test]
    fn a_named_mirror_is_a_plain_address() {
        assert!(
            Mirror::at("https://a.invalid/debian")
                .unwrap()
                .sources(&["sid"])
                .contains("URIs: https://a.invalid/debian\n")
        );
        for wrong in ["", "a.invalid", "https://a.invalid/\nURIs: x", "https://a b", "-o"] {
            assert_eq!(Mirror::at(wrong).unwrap_err().code(), "IMAGE_NO_ARCHIVE");
        }
    }
}
