//! Turns "these ones" or the written word `any` into one type, so that nothing left out can mean "skip".
//! It does not decide where `any` is allowed: `raw.rs` does.

use core::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, de};

/// An allow-list, or the word `any` written by hand. Every `any` is printed in the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed<T> {
    /// Written as `"any"`.
    Any,
    /// Exactly these.
    Only(Vec<T>),
}

impl<T> Listed<T> {
    /// The listed entries; none for `any`.
    #[must_use]
    pub fn entries(&self) -> &[T] {
        match self {
            Self::Any => &[],
            Self::Only(list) => list,
        }
    }

    /// Whether the word `any` was written.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }

    /// Maps every entry, stopping at the first failure.
    pub(crate) fn try_map<U, E>(self, f: impl FnMut(T) -> Result<U, E>) -> Result<Listed<U>, E> {
        match self {
            Self::Any => Ok(Listed::Any),
            Self::Only(list) => list.into_iter().map(f).collect::<Result<_, _>>().map(Listed::Only),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnyOrList(PhantomData))
    }
}

struct AnyOrList<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for AnyOrList<T> {
    type Value = Listed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or the word \"any\"")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
        if word == "any" { Ok(Listed::Any) } else { Err(E::invalid_type(de::Unexpected::Other("another word"), &self)) }
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = seq.next_element()? {
            list.push(entry);
        }
        Ok(Listed::Only(list))
    }
}
