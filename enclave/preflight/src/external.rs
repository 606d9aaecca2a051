//! Turns the entries of `external_data` into a range within a named file.
//! It does not open that file, nor compare its content with anything.

use crate::error::Reason;
use crate::frame::Shared;
use crate::report::Reference;

/// A file that external data may be in: one that the manifest names, or that lies beside a vendor's model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalFile {
    /// Its name, without folders.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
}

/// One entry that has begun.
#[derive(Default)]
pub(crate) struct Entry {
    pub key: Option<String>,
    pub value: Option<String>,
}

/// The entries of one tensor so far.
#[derive(Default)]
pub(crate) struct External {
    /// Position in the list of files.
    file: Option<usize>,
    offset: Option<u64>,
    length: Option<u64>,
    checksum: bool,
}

impl External {
    /// Takes an entry. ONNX Runtime also knows keys that begin with `prepacked`: weights in a kernel's own layout, which it
    /// would take as they are. They are unknown here.
    pub fn entry(&mut self, entry: Entry, shared: &mut Shared) -> Result<(), Reason> {
        let (Some(key), Some(value)) = (entry.key, entry.value) else {
            return Err(Reason::ExternalEntry);
        };
        let first = match key.as_str() {
            "location" => self.file.replace(location(&value, shared)?).is_none(),
            "offset" => self.offset.replace(number(&value)?).is_none(),
            "length" => self.length.replace(number(&value)?).is_none(),
            "checksum" if value.len() == 40 && value.bytes().all(|letter| letter.is_ascii_hexdigit()) => {
                !core::mem::replace(&mut self.checksum, true)
            }
            _ => false,
        };
        if first { Ok(()) } else { Err(Reason::ExternalEntry) }
    }

    /// All entries have come; the tensor has that many bytes.
    pub fn end(&self, bytes: u64, shared: &mut Shared) -> Result<(), Reason> {
        let at = self.file.ok_or(Reason::ExternalEntry)?;
        let file = shared.files.get(at).ok_or(Reason::ExternalEntry)?;
        let end = self.offset.unwrap_or(0).checked_add(bytes).ok_or(Reason::ExternalRange)?;
        if self.length.is_some_and(|length| length != bytes) || end > file.length {
            return Err(Reason::ExternalRange);
        }
        let new = || Reference { name: file.name.clone(), tensors: 0, bytes: 0 };
        let reference = shared.references.entry(at).or_insert_with(new);
        reference.tensors += 1;
        reference.bytes = reference.bytes.saturating_add(bytes);
        shared.scope.bytes = shared.scope.bytes.saturating_add(bytes);
        Ok(())
    }
}

/// The place of the named file in the list. A path is refused whatever the list says: the list may come from a folder.
fn location(name: &str, shared: &Shared) -> Result<usize, Reason> {
    // ONNX Runtime's own marks for tensors in its process's memory, with an address as offset.
    if name.starts_with("*/_ORT_") {
        return Err(Reason::ExternalMemory);
    }
    let plain = !name.starts_with('.') && !name.chars().any(|c| matches!(c, '/' | '\\' | ':') || c.is_control());
    let at = shared.files.partition_point(|file| file.name.as_str() < name);
    match shared.files.get(at) {
        Some(file) if plain && !name.is_empty() && file.name == name => Ok(at),
        _ => Err(Reason::External),
    }
}

/// A decimal number in its one spelling: `strtoll`, which ONNX Runtime uses, also takes spaces, signs and zeros in front.
fn number(text: &str) -> Result<u64, Reason> {
    let digits = !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit());
    if !digits || text.len() > 1 && text.starts_with('0') {
        return Err(Reason::ExternalEntry);
    }
    text.parse::<i64>().ok().and_then(|value| u64::try_from(value).ok()).ok_or(Reason::ExternalEntry)
}
