//! Turns the words of a policy into types: forbidden or allowed, required or any, and the names of what is missing.
//! It decides nothing: the tables of each technology say which word stands where.

use serde::Deserialize;

use crate::{Listed, PolicyError, total::hex_field};

/// Whether something may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forbid {
    /// It may not.
    Forbidden,
    /// It may; the verdict says so.
    Allowed,
}

/// Whether something must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// It must.
    Required,
    /// It need not; the verdict says so.
    Any,
}

/// Names of the fields that a policy leaves out.
#[derive(Debug, Default)]
pub(crate) struct Missing(pub Vec<String>);

impl Missing {
    pub(crate) fn take<T>(&mut self, value: Option<T>, name: &str) -> Option<T> {
        if value.is_none() {
            self.name(name);
        }
        value
    }

    pub(crate) fn name(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    pub(crate) fn forbid(&mut self, value: Option<Forbid>, name: &str) -> Forbid {
        self.take(value, name).unwrap_or(Forbid::Forbidden)
    }

    pub(crate) fn need(&mut self, value: Option<Need>, name: &str) -> Need {
        self.take(value, name).unwrap_or(Need::Required)
    }
}

/// A list of digests or identifiers; an empty one could never pass.
pub(crate) fn hex_list<const N: usize>(
    raw: Option<Listed<String>>,
    field: &str,
    digits: usize,
) -> Result<Listed<[u8; N]>, PolicyError> {
    match raw {
        Some(Listed::Only(list)) if list.is_empty() => {
            Err(PolicyError::invalid(format!("`{field}` is an empty list: nothing could ever pass")))
        }
        Some(listed) => listed.try_map(|text| hex_field(&text, field, digits)),
        None => Ok(Listed::Only(Vec::new())),
    }
}
