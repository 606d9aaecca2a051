//! Turns what is wrong with a request or an answer into a stable code, an HTTP status, an exit status and a sentence.
//! It does not quote the request: no name, number or text of a caller is in any message.

use std::fmt;

/// Why a request or an answer is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OipError {
    /// The JSON part is not the JSON of a request: syntax, an unknown or repeated key, a wrong type, nested deeper than 100 levels.
    JsonInvalid,
    /// The JSON part is declared longer than the body.
    HeaderInvalid,
    /// A parameter that this server does not know, or one that asks for what it does not do.
    ParameterUnsupported,
    /// The model has no input of that name.
    InputUnknown,
    /// An input of the model is missing.
    InputMissing,
    /// An input is given twice.
    InputRepeated,
    /// The datatype of an input is not the model's.
    InputDtype,
    /// The shape of an input is not the model's, or is absurd.
    InputShape,
    /// The data of an input does not fit its shape and datatype.
    InputData(&'static str),
    /// The inputs are larger in memory than this many bytes.
    InputTooLarge(usize),
    /// The model has no output of that name, or it is asked for twice.
    OutputUnknown,
    /// An output is infinite or not a number and is wanted as JSON.
    OutputNotFinite,
    /// An output's string is no UTF-8 and is wanted as JSON.
    OutputNotText,
    /// The model answered with other outputs than were asked for, or their bytes do not fit their shapes.
    OutputMismatch,
    /// A content encoding that this server does not know.
    ContentEncoding,
    /// The compressed body is damaged, cut short, or something follows it.
    ContentDamaged,
    /// The body is larger than this many bytes once it is inflated.
    BodyTooLarge(usize),
}

const CALLER: &str = "correct the request";
const BINARY: &str = "ask for the output as binary data";

impl OipError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::JsonInvalid => "JSON_INVALID",
            Self::HeaderInvalid => "HEADER_INVALID",
            Self::ParameterUnsupported => "PARAMETER_UNSUPPORTED",
            Self::InputUnknown => "INPUT_UNKNOWN",
            Self::InputMissing => "INPUT_MISSING",
            Self::InputRepeated => "INPUT_REPEATED",
            Self::InputDtype => "INPUT_DTYPE",
            Self::InputShape => "INPUT_SHAPE",
            Self::InputData(_) => "INPUT_DATA",
            Self::InputTooLarge(_) => "INPUT_TOO_LARGE",
            Self::OutputUnknown => "OUTPUT_UNKNOWN",
            Self::OutputNotFinite => "OUTPUT_NOT_FINITE",
            Self::OutputNotText => "OUTPUT_NOT_TEXT",
            Self::OutputMismatch => "OUTPUT_MISMATCH",
            Self::ContentEncoding => "CONTENT_ENCODING",
            Self::ContentDamaged => "CONTENT_DAMAGED",
            Self::BodyTooLarge(_) => "BODY_TOO_LARGE",
        }
    }

    /// The exit status of a process that this ends.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        8
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::InputTooLarge(_) | Self::BodyTooLarge(_) => 413,
            Self::ContentEncoding => 415,
            Self::OutputNotFinite | Self::OutputNotText => 422,
            Self::OutputMismatch => 500,
            _ => 400,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::InputTooLarge(_) | Self::BodyTooLarge(_) => "send smaller batches",
            Self::ContentEncoding => "send the body plain, or with gzip or deflate",
            Self::OutputNotFinite | Self::OutputNotText => BINARY,
            Self::OutputMismatch => "compare the input with what the model expects",
            _ => CALLER,
        }
    }
}

impl fmt::Display for OipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JsonInvalid => "the body is not the JSON of this request",
            Self::HeaderInvalid => "the header Inference-Header-Content-Length is wrong",
            Self::ParameterUnsupported => "a parameter is not supported",
            Self::InputUnknown => "the model has no input of that name",
            Self::InputMissing => "an input of the model is missing",
            Self::InputRepeated => "an input is given twice",
            Self::InputDtype => "the datatype of an input is not the model's",
            Self::InputShape => "the shape of an input is not the model's",
            Self::InputData(what) => return write!(f, "the data of an input is wrong: {what}"),
            Self::InputTooLarge(limit) => return write!(f, "the inputs are larger than {limit} bytes"),
            Self::OutputUnknown => "the model has no output of that name, or it is asked for twice",
            Self::OutputNotFinite => "an output is infinite or not a number, which JSON cannot hold",
            Self::OutputNotText => "an output is not UTF-8, which JSON cannot hold",
            Self::OutputMismatch => "the model's answer is not what was asked for",
            Self::ContentEncoding => "the body has a content encoding that is not supported",
            Self::ContentDamaged => "the compressed body is damaged",
            Self::BodyTooLarge(limit) => return write!(f, "the body is larger than {limit} bytes"),
        })
    }
}

impl std::error::Error for OipError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_code_a_status_and_words_of_its_own() {
        let all = [
            (OipError::JsonInvalid, 400),
            (OipError::HeaderInvalid, 400),
            (OipError::ParameterUnsupported, 400),
            (OipError::InputUnknown, 400),
            (OipError::InputMissing, 400),
            (OipError::InputRepeated, 400),
            (OipError::InputDtype, 400),
            (OipError::InputShape, 400),
            (OipError::InputData("x"), 400),
            (OipError::InputTooLarge(7), 413),
            (OipError::OutputUnknown, 400),
            (OipError::OutputNotFinite, 422),
            (OipError::OutputNotText, 422),
            (OipError::OutputMismatch, 500),
            (OipError::ContentEncoding, 415),
            (OipError::ContentDamaged, 400),
            (OipError::BodyTooLarge(9), 413),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (error, status) in all {
            assert_eq!(error.status(), status, "{error}");
            assert!(error.exit() == 8 && !error.advice().is_empty());
            assert!(seen.insert(error.code()) && seen.insert(&*error.to_string().leak()));
            assert!(error.code().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
        }
        assert_eq!(OipError::BodyTooLarge(9).to_string(), "the body is larger than 9 bytes");
    }
}
