//! Turns the JSON part of a request into its parts; tensors' data stays text, to be read once shape and datatype are known to be wanted.
//! It does not know the model.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use crate::error::OipError;

/// A body whose objects and lists are nested deeper is refused.
const MAX_DEPTH: usize = 100;
/// A request has at most so many inputs, and asks for at most so many outputs.
const MAX_TENSORS: usize = 4096;
/// A shape is read as far as so many dimensions, which is further than any is accepted.
const MAX_DIMS: usize = 64;

/// What stands around the data of an input: the body, its list of inputs, the input.
pub const AROUND_INPUT: usize = 3;
/// What stands around the parameters of a request.
pub const AROUND_REQUEST: usize = 1;

/// A request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRequest<'a> {
    /// Echoed in the answer.
    pub id: Option<String>,
    /// The model, which the path names already.
    #[serde(borrow)]
    pub model_name: Option<Cow<'a, str>>,
    /// Its version, likewise.
    #[serde(borrow)]
    pub model_version: Option<Cow<'a, str>>,
    /// The inputs that are given.
    #[serde(borrow, default)]
    pub inputs: Few<Object<RawInput<'a>>, MAX_TENSORS>,
    /// The outputs that are wanted.
    #[serde(borrow)]
    pub outputs: Option<Few<Object<RawOutput<'a>>, MAX_TENSORS>>,
    /// Of the whole request.
    #[serde(borrow)]
    pub parameters: Option<&'a RawValue>,
}

/// An input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawInput<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The word of its datatype.
    #[serde(borrow)]
    pub datatype: Cow<'a, str>,
    /// Sizes of the dimensions. A negative one is refused here already.
    pub shape: Few<usize, MAX_DIMS>,
    /// Its elements, unless they are binary.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    /// Of the input.
    #[serde(borrow)]
    pub parameters: Option<&'a RawValue>,
}

/// An output.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOutput<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Of the output.
    #[serde(borrow)]
    pub parameters: Option<&'a RawValue>,
}

/// Reads the JSON part of a request.
///
/// # Errors
/// `JSON_INVALID`.
pub fn read(text: &str) -> Result<RawRequest<'_>, OipError> {
    let request: Object<RawRequest<'_>> = serde_json::from_str(text).map_err(|_| OipError::JsonInvalid)?;
    Ok(request.0)
}

/// Refuses what is no JSON, or nested too deep: this many levels stand around the text.
///
/// # Errors
/// `JSON_INVALID`.
pub fn judge(text: &str, around: usize) -> Result<(), OipError> {
    refuse_deep(text, around)?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|_| OipError::JsonInvalid)
}

/// Refuses what is nested too deep: this many levels stand around the text.
///
/// # Errors
/// `JSON_INVALID`.
pub fn refuse_deep(text: &str, around: usize) -> Result<(), OipError> {
    let (mut depth, mut in_string, mut escaped) = (around, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(OipError::JsonInvalid);
        }
    }
    Ok(())
}

/// The parameters that this server knows, wherever each may stand.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Of an input: so many bytes of the binary part are its data.
    pub binary_data_size: Option<u64>,
    /// Of an output: whether it is wanted as binary data.
    pub binary_data: Option<bool>,
    /// Of a request: whether outputs that do not say are wanted as binary data.
    pub binary_data_output: Option<bool>,
    unsupported: bool,
    repeated: bool,
}

impl Parameters {
    /// Reads parameters, around which so many levels stand.
    ///
    /// # Errors
    /// `JSON_INVALID` for a key that is there twice or for depth, else `PARAMETER_UNSUPPORTED`.
    pub fn read(raw: Option<&RawValue>, around: usize) -> Result<Self, OipError> {
        let Some(raw) = raw else { return Ok(Self::default()) };
        refuse_deep(raw.get(), around)?;
        let read: Self = serde_json::from_str(raw.get()).map_err(|_| OipError::ParameterUnsupported)?;
        if read.repeated {
            return Err(OipError::JsonInvalid);
        }
        if read.unsupported { Err(OipError::ParameterUnsupported) } else { Ok(read) }
    }

    fn set(&mut self, name: &str, value: &Value) {
        match (name, value) {
            ("binary_data_size", Value::Number(size)) => self.binary_data_size = Some(*size),
            ("binary_data", Value::Bool(binary)) => self.binary_data = Some(*binary),
            ("binary_data_output", Value::Bool(binary)) => self.binary_data_output = Some(*binary),
            // As if they were not there.
            ("binary_data_size" | "binary_data" | "binary_data_output", Value::Null) => {}
            // Triton's own, with the values that ask for nothing: no sequence, no priority, no deadline, no classes.
            ("sequence_id", Value::Number(0) | Value::EmptyString | Value::Null) => {}
            ("sequence_start" | "sequence_end", Value::Bool(false) | Value::Null) => {}
            ("priority" | "timeout" | "classification", Value::Number(0) | Value::Null) => {}
            // Everything else was meant to change something.
            _ => self.unsupported = true,
        }
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Parameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
                let mut parameters = Parameters::default();
                // No longer than the list of known keys: an unknown one ends it.
                let mut seen: Vec<Cow<'_, str>> = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    parameters.set(&name, &map.next_value()?);
                    if parameters.unsupported || seen.contains(&name) {
                        parameters.repeated = !parameters.unsupported;
                        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                        break;
                    }
                    seen.push(name);
                }
                Ok(parameters)
            }
        }
        reader.deserialize_map(Read)
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What the value of a parameter may be.
enum Value {
    Null,
    Bool(bool),
    /// Not negative, without fraction.
    Number(u64),
    EmptyString,
    Other,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Number(value))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
                Ok(if value.is_empty() { Value::EmptyString } else { Value::Other })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
        }
        reader.deserialize_any(Read)
    }
}

/// A JSON object: what is derived would also read the fields from a list, in order.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        reader.deserialize_map(Read(PhantomData))
    }
}

/// A list that ends before it takes more memory than anyone needs.
pub struct Few<T, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for Few<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Few<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Read<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Read<T, MAX> {
            type Value = Few<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T, MAX>, A::Error> {
                let mut out = Vec::new();
                while let Some(item) = list.next_element()? {
                    if out.len() == MAX {
                        return Err(A::Error::custom("too many"));
                    }
                    out.push(item);
                }
                Ok(Few(out))
            }
        }
        reader.deserialize_seq(Read(PhantomData))
    }
}

#[cfg(test)]
mod tests;
