//! Turns malformed bytes into a stable code, and holds the two text encodings of byte strings.
//! A value that decodes is well formed, nothing more.

use core::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Why bytes or text could not be read. The messages hold no text of the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingError {
    /// Not the JSON this format asks for: syntax, an unknown or repeated field, a wrong type (the name of the format).
    Json(&'static str),
    /// Longer than the cap (the format, the cap in bytes).
    TooLarge(&'static str, usize),
    /// Not base64url without padding, not lower-case hex, or of another length (the field).
    Bytes(&'static str),
    /// Not one of the words (the field, the words).
    Word(&'static str, &'static str),
    /// Not `YYYY-MM-DDThh:mm:ssZ`.
    Time,
    /// A version number this release does not know (the format).
    Version(&'static str),
    /// The envelope's payload type is another one.
    PayloadType,
    /// Too few of the pinned keys signed (needed).
    Signatures(usize),
    /// An Ed25519 signature does not verify.
    Signature,
    /// A Merkle path that RFC 9162 does not allow: size, index or length.
    MerklePath,
}

impl EncodingError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Json(_) => "ENCODING_JSON",
            Self::TooLarge(..) => "ENCODING_TOO_LARGE",
            Self::Bytes(_) => "ENCODING_BYTES",
            Self::Word(..) => "ENCODING_WORD",
            Self::Time => "ENCODING_TIME",
            Self::Version(_) => "ENCODING_VERSION",
            Self::PayloadType => "DSSE_PAYLOAD_TYPE",
            Self::Signatures(_) => "DSSE_SIGNATURES",
            Self::Signature => "ED25519_SIGNATURE",
            Self::MerklePath => "MERKLE_PATH",
        }
    }
}

impl fmt::Display for EncodingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(what) => write!(f, "{what} is not JSON of the expected form"),
            Self::TooLarge(what, cap) => write!(f, "{what} is larger than {cap} bytes"),
            Self::Bytes(what) => write!(f, "{what} is not an encoded byte string of the expected length"),
            Self::Word(what, words) => write!(f, "{what} is not {words}"),
            Self::Time => f.write_str("a time is not of the form YYYY-MM-DDThh:mm:ssZ"),
            Self::Version(what) => write!(f, "{what} has a version that this release does not know"),
            Self::PayloadType => f.write_str("the signed envelope holds another kind of payload"),
            Self::Signatures(needed) => write!(f, "fewer than {needed} pinned key(s) signed the envelope"),
            Self::Signature => f.write_str("the Ed25519 signature does not verify"),
            Self::MerklePath => f.write_str("the Merkle path is malformed"),
        }
    }
}

impl core::error::Error for EncodingError {}

/// Base64url without padding.
#[must_use]
pub fn b64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64url without padding.
///
/// # Errors
/// `ENCODING_BYTES`, naming `what`.
pub fn from_b64url(text: &str, what: &'static str) -> Result<Vec<u8>, EncodingError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| EncodingError::Bytes(what))
}

/// Reads exactly `N` bytes of lower-case hex.
///
/// # Errors
/// `ENCODING_BYTES`, naming `what`.
pub fn from_hex<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], EncodingError> {
    let mut out = [0; N];
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(EncodingError::Bytes(what));
    }
    hex::decode_to_slice(text, &mut out).map_err(|_| EncodingError::Bytes(what))?;
    Ok(out)
}

/// `#[serde(with = "serde_hex")]` for `[u8; N]`: lower-case hex.
pub mod serde_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes hex.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(bytes))
    }

    /// Reads exactly `N` bytes.
    ///
    /// # Errors
    /// When the text is not lower-case hex of `N` bytes.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(d)?;
        super::from_hex(&text, "hex field").map_err(D::Error::custom)
    }
}

/// `#[serde(with = "serde_b64url")]` for `Vec<u8>`.
pub mod serde_b64url {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes base64url without padding.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::b64url(bytes))
    }

    /// Reads base64url without padding.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        super::from_b64url(&text, "base64url field").map_err(D::Error::custom)
    }
}

/// `#[serde(with = "serde_b64url_array")]` for `[u8; N]`.
pub mod serde_b64url_array {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes base64url without padding.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::b64url(bytes))
    }

    /// Reads exactly `N` bytes.
    ///
    /// # Errors
    /// When the text is not base64url of `N` bytes.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(d)?;
        let bytes = super::from_b64url(&text, "base64url field").map_err(D::Error::custom)?;
        bytes.try_into().map_err(|_| D::Error::custom("wrong length"))
    }
}

/// `#[serde(with = "serde_hex_list")]` for `Vec<[u8; N]>`.
pub mod serde_hex_list {
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer, de::Error};

    /// Writes a list of hex strings.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer, const N: usize>(list: &[[u8; N]], s: S) -> Result<S::Ok, S::Error> {
        list.iter().map(hex::encode).collect::<Vec<_>>().serialize(s)
    }

    /// Reads a list of strings of exactly `N` bytes each.
    ///
    /// # Errors
    /// When one is not lower-case hex of `N` bytes.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<Vec<[u8; N]>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        texts.iter().map(|t| super::from_hex(t, "hex field").map_err(D::Error::custom)).collect()
    }
}
