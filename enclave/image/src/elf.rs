//! Turns ELF files into what the dynamic loader will look for: libraries by name, and the versions of their symbols.
//! It does not run the loader; a library that a program opens by itself later is not seen.

use std::collections::{BTreeMap, BTreeSet};

use object::Endianness;
use object::elf::{DT_NEEDED, EM_X86_64, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionTable};

use crate::error::ImageError;

/// The loader's file name; every dynamic program of this platform names it by this path with a slash before it.
pub(crate) const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

/// What one file wants from others, and offers to them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    loader: Option<String>,
    needs: BTreeSet<String>,
    /// Library -> versions of its symbols that must be there.
    versions_needed: BTreeMap<String, BTreeSet<String>>,
    versions_offered: BTreeSet<String>,
}

/// The names of all libraries that these programs need, directly or through another library, the loader's included.
/// `library` gives the bytes of a library by its file name.
pub(crate) fn libraries<'a>(
    programs: &[(&str, &'a [u8])],
    library: &dyn Fn(&str) -> Option<&'a [u8]>,
) -> Result<BTreeMap<String, &'a [u8]>, ImageError> {
    let loader = LOADER.rsplit_once('/').map_or(LOADER, |(_, name)| name);
    let mut found: BTreeMap<String, &[u8]> = BTreeMap::new();
    let mut facts: BTreeMap<String, Facts> = BTreeMap::new();
    let mut todo: Vec<(String, &[u8])> = Vec::new();
    for (name, bytes) in programs {
        todo.push(((*name).to_owned(), bytes));
    }
    while let Some((file, bytes)) = todo.pop() {
        let about = Facts::of(bytes).ok_or_else(|| ImageError::NotElf { file: file.clone() })?;
        if let Some(other) = about.loader.as_deref().filter(|path| path.strip_prefix('/') != Some(LOADER)) {
            return Err(ImageError::Library { file, needs: printable(other) });
        }
        let loader = about.loader.is_some().then(|| loader.to_owned());
        for name in about.needs.iter().chain(&loader) {
            if !found.contains_key(name) {
                let missing = || ImageError::Library { file: file.clone(), needs: printable(name) };
                let bytes = library(name).ok_or_else(missing)?;
                found.insert(name.clone(), bytes);
                todo.push((name.clone(), bytes));
            }
        }
        facts.insert(file, about);
    }
    for (file, about) in &facts {
        for (library, versions) in &about.versions_needed {
            let Some(offered) = facts.get(library) else { continue };
            if let Some(missing) = versions.difference(&offered.versions_offered).next() {
                let (file, library, needs) = (file.clone(), printable(library), printable(missing));
                return Err(ImageError::LibraryOld { file, library, needs });
            }
        }
    }
    Ok(found)
}

impl Facts {
    fn of(data: &[u8]) -> Option<Self> {
        let header = FileHeader64::<Endianness>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        if header.e_machine(endian) != EM_X86_64 || endian != Endianness::Little {
            return None;
        }
        let mut facts = Self::default();
        for segment in header.program_headers(endian, data).ok()? {
            if let Some(path) = segment.interpreter(endian, data).ok()? {
                facts.loader = Some(text(path)?);
            }
        }
        let sections = header.sections(endian, data).ok()?;
        if let Some((dynamic, strings)) = sections.dynamic(endian, data).ok()? {
            let strings = sections.strings(endian, data, strings).ok()?;
            for entry in dynamic.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
                facts.needs.insert(text(entry.string(endian, strings).ok()?)?);
            }
        }
        facts.versions(&sections, endian, data)?;
        Some(facts)
    }

    /// Reads the sections `.gnu.version_r` and `.gnu.version_d`.
    fn versions(
        &mut self,
        sections: &SectionTable<'_, FileHeader64<Endianness>>,
        endian: Endianness,
        data: &[u8],
    ) -> Option<()> {
        if let Some((needs, strings)) = sections.gnu_verneed(endian, data).ok()? {
            let strings = sections.strings(endian, data, strings).ok()?;
            for need in needs {
                let (need, versions) = need.ok()?;
                let library = self.versions_needed.entry(text(need.file(endian, strings).ok()?)?).or_default();
                for version in versions {
                    library.insert(text(version.ok()?.name(endian, strings).ok()?)?);
                }
            }
        }
        if let Some((definitions, strings)) = sections.gnu_verdef(endian, data).ok()? {
            let strings = sections.strings(endian, data, strings).ok()?;
            for definition in definitions {
                // The first name is the version; others are the versions that it continues.
                if let Some(name) = definition.ok()?.1.next().ok()? {
                    self.versions_offered.insert(text(name.name(endian, strings).ok()?)?);
                }
            }
        }
        Some(())
    }
}

/// The bytes of a section of a kernel module, which is an ELF file that is not linked yet.
pub(crate) fn section<'a>(data: &'a [u8], name: &str) -> Option<&'a [u8]> {
    use object::read::elf::SectionHeader as _;
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let (_, section) = header.sections(endian, data).ok()?.section_by_name(endian, name.as_bytes())?;
    section.data(endian, data).ok()
}

/// Text that ends before the first zero byte.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
    (!text.is_empty() && text.len() <= 200).then(|| text.to_owned())
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '!'..='~')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_test_needs_the_c_library_and_the_loader() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let facts = Facts::of(&program).unwrap();
        assert_eq!(facts.loader.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert!(facts.needs.contains("libc.so.6"), "{facts:?}");
        assert!(facts.versions_needed["libc.so.6"].iter().any(|version| version.starts_with("GLIBC_2.")));
        let error = libraries(&[("init", &program)], &|_| None).unwrap_err();
        assert_eq!(error.code(), "IMAGE_LIBRARY_MISSING");
        // A C library that offers no versions at all stands for one that is too old.
        let old = libraries(&[("init", &program)], &|_| Some(&program)).unwrap_err();
        assert_eq!(old.code(), "IMAGE_LIBRARY_OLD", "{old}");
        for cut in (0..program.len().min(4096)).step_by(13) {
            let _ = libraries(&[("init", &program[..cut])], &|_| None).unwrap_err();
        }
    }
}
