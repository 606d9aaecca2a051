//! Turns every way in which a model can be refused into fact, stable code, advice and exit status.
//! A message never repeats text from the model: numbers, fixed words and onnx.proto's own field names only.

use core::fmt;

/// Why a model is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The bytes end within a message.
    Truncated,
    /// A field that every model has is missing.
    Incomplete(&'static str),
    /// The bytes carry the mark of ONNX Runtime's own format, which is read by other code.
    Format,

    /// A field number that protobuf does not have.
    Tag,
    /// An integer that does not fit 64 bits.
    Integer,
    /// An integer in a longer form than its shortest.
    IntegerForm,
    /// A wire type that is not the field's.
    WireType,
    /// A group: a form that onnx.proto does not have.
    Group,
    /// A field that leaves its message, or a length that overflows.
    Length,
    /// A field that onnx.proto does not have.
    UnknownField,
    /// A field that may stand once stands again, or two members of a union do.
    RepeatedField,
    /// A number outside of the enumeration or of 32 bits.
    IntegerRange,

    /// Messages nest too deep (limit).
    Messages(usize),
    /// Subgraphs nest too deep (limit).
    Subgraphs(usize),
    /// Calls of functions nest too deep (limit).
    Calls(usize),
    /// Too many of something (what, limit).
    Count(&'static str, u64),
    /// The model is larger than the limit (bytes).
    TooLarge(u64),
    /// A name or text is longer than the limit (bytes).
    StringLength(u64),
    /// A name is not UTF-8.
    StringForm,

    /// A tensor or shape has more dimensions than the limit.
    Rank(usize),
    /// A dimension is negative.
    NegativeDimension,
    /// A dimension, or the product of the dimensions, is beyond the limit.
    Elements(u64),
    /// The sparse tensors are beyond the limit when made dense (bytes).
    Dense(u64),
    /// The parts of a sparse tensor do not fit together.
    Sparse,
    /// A tensor of no or an unusable element type.
    ElementType,
    /// An opaque type, which only custom operators have.
    Opaque,
    /// A tensor's data are not as long as element type and dimensions say.
    DataLength,
    /// A tensor has data in a field that is not its element type's, or in two fields.
    DataField,
    /// A tensor stored in segments.
    Segment,

    /// External data in a file that is not named, or whose name is a path.
    External,
    /// External data of something else than an initialiser of the main graph.
    ExternalPlace,
    /// A marker for an address in memory in place of a file.
    ExternalMemory,
    /// The description of external data has an unknown, repeated, missing or malformed entry.
    ExternalEntry,
    /// External data end beyond their file, or are not as long as element type and dimensions say.
    ExternalRange,
    /// External data are described but not declared, or declared beside data in the model.
    ExternalMixed,

    /// Training information.
    Training,
    /// An IR version that is not supported.
    IrVersion,
    /// An operator set is imported twice, in an unsupported version, or used without being imported.
    Opset,
    /// An operator of a domain that is not supported.
    Domain,
    /// An operator that is not supported.
    Operator,
    /// An attribute whose content is not of its type, has no name, or stands twice.
    Attribute,
    /// A graph as an attribute of something else than If, Loop, Scan or SequenceMap.
    AttributeGraph,
    /// A reference to a function's attribute outside of a function, with content of its own, or to a graph.
    Reference,
    /// A loop without a trip count and without a condition that is computed.
    Loop,
    /// A loop without a condition that is computed, whose trip count is a constant beyond the limit, or one that this walk does not see.
    LoopTrips(i64),
    /// A loop in a function, without a condition that is computed, takes its trip count straight from the function's inputs.
    LoopInput,
    /// A function's name is no identifier, is reserved, or is defined twice.
    FunctionName,
    /// In a function's body a name is used before it is defined, or defined twice.
    FunctionBody,
    /// A call of a function that the model does not define.
    FunctionMissing,
    /// A function that calls itself, directly or through others.
    Recursion,
    /// Calls multiply to more nodes than the limit.
    Expansion(u64),
    /// Nodes, subgraphs and calls, counted twice for every subgraph around them, are more than the limit.
    Nesting(u64),
    /// Calls multiply to more bytes than the limit.
    Copies(u64),
    /// Metadata that ONNX Runtime can take session options from.
    Metadata,
}

impl Reason {
    /// Stable name of the failure.
    pub fn code(self) -> &'static str {
        self.row().0
    }

    fn row(self) -> (&'static str, &'static str) {
        const EXPORT: &str = "Export the model again; this is no file that an exporter writes.";
        const CUT: &str = "Fetch or export the file again; it was cut or changed.";
        const SMALLER: &str =
            "Simplify the model, or tell us about it: the limits are several times what published models need.";
        const TENSOR: &str = "Export the model again, or load it in Python and let onnx.checker name the tensor.";
        const EXTERNAL: &str = "Save the model with onnx.save_model(…, save_as_external_data=True, location=NAME), NAME without folders, and seal that file with it.";
        const OPERATOR: &str =
            "Export with standard operators of opset 25 or lower; what is supported stands in docs/onnx-preflight.md.";
        const FUNCTION: &str = "Let onnx.inliner.inline_local_functions replace the functions by their bodies.";
        const LOOP: &str =
            "Give the loop a trip count that is computed or a small constant, or a condition that its body computes.";
        const PLACE: &str = "Save without convert_attribute=True, and move the weights of subgraphs and functions into initialisers of the main graph, or leave them in the model's own file.";
        match self {
            Self::Truncated => ("MODEL_TRUNCATED", CUT),
            Self::Incomplete(_) => ("MODEL_INCOMPLETE", CUT),
            Self::Format => {
                ("MODEL_FORMAT", "Give the ONNX model, not the one that was converted to ONNX Runtime's format.")
            }
            Self::Tag | Self::Integer | Self::IntegerForm => ("MODEL_PROTOBUF", EXPORT),
            Self::WireType => ("MODEL_WIRE_TYPE", EXPORT),
            Self::Group => ("MODEL_GROUP", EXPORT),
            Self::Length => ("MODEL_LENGTH", CUT),
            Self::UnknownField => ("MODEL_UNKNOWN_FIELD", EXPORT),
            Self::RepeatedField => ("MODEL_REPEATED_FIELD", EXPORT),
            Self::IntegerRange => ("MODEL_INTEGER", EXPORT),
            Self::Messages(_) | Self::Subgraphs(_) | Self::Calls(_) | Self::Nesting(_) => ("MODEL_DEPTH", SMALLER),
            Self::Count(..) => ("MODEL_COUNT", SMALLER),
            Self::TooLarge(_) => ("MODEL_TOO_LARGE", SMALLER),
            Self::StringLength(_) | Self::StringForm => ("MODEL_STRING", "Shorten the text; names are UTF-8."),
            Self::Rank(_) | Self::NegativeDimension | Self::Elements(_) | Self::Dense(_) => {
                ("MODEL_DIMENSIONS", "Write an unknown dimension as a symbol or as -1, and see to the others.")
            }
            Self::Sparse => ("MODEL_SPARSE", TENSOR),
            Self::ElementType | Self::Opaque => ("MODEL_TYPE", TENSOR),
            Self::DataLength => ("MODEL_SIZE", TENSOR),
            Self::DataField => ("MODEL_DATA", TENSOR),
            Self::Segment => ("MODEL_SEGMENT", TENSOR),
            Self::External => ("MODEL_EXTERNAL", EXTERNAL),
            Self::ExternalPlace => ("MODEL_EXTERNAL", PLACE),
            Self::ExternalMemory => ("MODEL_EXTERNAL_MEMORY", EXTERNAL),
            Self::ExternalEntry => ("MODEL_EXTERNAL_ENTRY", EXTERNAL),
            Self::ExternalRange => ("MODEL_EXTERNAL_RANGE", EXTERNAL),
            Self::ExternalMixed => ("MODEL_EXTERNAL_MIXED", EXTERNAL),
            Self::Training => ("MODEL_TRAINING", "Export for inference: del model.training_info[:]."),
            Self::IrVersion => ("MODEL_IR_VERSION", "Save the model with an IR version from 3 to 13."),
            Self::Opset => ("MODEL_OPSET", OPERATOR),
            Self::Domain => ("MODEL_DOMAIN", OPERATOR),
            Self::Operator => ("MODEL_OPERATOR", OPERATOR),
            Self::Attribute | Self::AttributeGraph => ("MODEL_ATTRIBUTE", EXPORT),
            Self::Reference => ("MODEL_REFERENCE", FUNCTION),
            Self::Loop | Self::LoopTrips(_) | Self::LoopInput => ("MODEL_LOOP", LOOP),
            Self::FunctionName | Self::FunctionBody | Self::FunctionMissing => ("MODEL_FUNCTION", FUNCTION),
            Self::Recursion => ("MODEL_RECURSION", FUNCTION),
            Self::Expansion(_) | Self::Copies(_) => ("MODEL_EXPANSION", FUNCTION),
            Self::Metadata => ("MODEL_METADATA", "Remove the metadata entry `ort_config`."),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the model ends in the middle",
            Self::Incomplete(field) => return write!(f, "the model has no {field}"),
            Self::Format => "the file is marked as ONNX Runtime's own format, which is not ONNX",
            Self::Tag => "a field number that protobuf does not have",
            Self::Integer => "an integer has more than 64 bits",
            Self::IntegerForm => "an integer is not in its shortest form",
            Self::WireType => "a field is not of the wire type that onnx.proto gives it",
            Self::Group => "a protobuf group, which onnx.proto does not have",
            Self::Length => "a field is longer than the message that it is in",
            Self::UnknownField => "a field that onnx.proto does not have",
            Self::RepeatedField => "a field stands twice that may stand once",
            Self::IntegerRange => "a number is outside of its range",
            Self::Messages(limit) => return write!(f, "messages nest more than {limit} deep"),
            Self::Subgraphs(limit) => return write!(f, "subgraphs nest more than {limit} deep"),
            Self::Calls(limit) => return write!(f, "calls of functions nest more than {limit} deep"),
            Self::Count(what, limit) => return write!(f, "more than {limit} {what}"),
            Self::TooLarge(limit) => return write!(f, "the model is larger than {limit} bytes"),
            Self::StringLength(limit) => return write!(f, "a name or text is longer than {limit} bytes"),
            Self::StringForm => "a name is not UTF-8",
            Self::Rank(limit) => return write!(f, "more than {limit} dimensions"),
            Self::NegativeDimension => "a dimension is negative",
            Self::Elements(limit) => return write!(f, "the product of the dimensions is beyond {limit}"),
            Self::Dense(limit) => return write!(f, "sparse tensors have more than {limit} bytes when made dense"),
            Self::Sparse => "the values, indices and dimensions of a sparse tensor do not fit together",
            Self::ElementType => "a tensor has no element type",
            Self::Opaque => "an opaque type, which only custom operators have",
            Self::DataLength => "a tensor's data are not as long as its element type and dimensions say",
            Self::DataField => "a tensor has data in a field that is not its element type's, or in two fields",
            Self::Segment => "a tensor in segments, which ONNX Runtime does not read",
            Self::External => "external data in a file that is not named beside the model, or in a path",
            Self::ExternalPlace => {
                "external data of something else than an initialiser of the main graph, where alone they may stand"
            }
            Self::ExternalMemory => "external data at an address in memory",
            Self::ExternalEntry => {
                "the description of external data has an unknown, repeated, missing or malformed entry"
            }
            Self::ExternalRange => "external data are not within their file, or not as long as the tensor",
            Self::ExternalMixed => "external data are described but not declared, or declared beside data in the model",
            Self::Training => "training information, which a served model does not need",
            Self::IrVersion => "the IR version is not from 3 to 13",
            Self::Opset => "an operator set is imported twice, in an unsupported version, or used but not imported",
            Self::Domain => "an operator of a domain that is neither supported nor defined in the model",
            Self::Operator => "an operator that is not supported",
            Self::Attribute => "an attribute without a name, twice, or with content that is not of its type",
            Self::AttributeGraph => "a graph in an attribute of something else than If, Loop, Scan or SequenceMap",
            Self::Reference => {
                "a reference to an attribute outside of a function, with content of its own, or to a graph"
            }
            Self::Loop => "a loop without a trip count, and without a condition that is computed",
            Self::LoopTrips(limit) => {
                return write!(
                    f,
                    "a loop's trip count is a constant beyond {limit} or one outside of the model file, and no condition is computed"
                );
            }
            Self::LoopInput => {
                "a loop without a condition that is computed takes its trip count straight from the inputs of its function, which a call may leave out"
            }
            Self::FunctionName => "a function's name is no identifier, is reserved, or is defined twice",
            Self::FunctionBody => "in a function's body, a name is used before it is defined, or is defined twice",
            Self::FunctionMissing => "a call of a function that the model does not define",
            Self::Recursion => "a function calls itself, directly or through others",
            Self::Expansion(limit) => return write!(f, "calls of functions multiply to more than {limit} nodes"),
            Self::Nesting(limit) => {
                return write!(f, "nodes, subgraphs and calls, counted twice for every subgraph around them, are beyond {limit}");
            }
            Self::Copies(limit) => return write!(f, "calls of functions multiply to more than {limit} bytes"),
            Self::Metadata => "the metadata entry ort_config, from which ONNX Runtime can take session options",
        })
    }
}

/// A model's refusal: the first rule it broke in the order of its bytes, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    reason: Reason,
    place: String,
}

impl Refused {
    pub(crate) fn new(reason: Reason, place: String) -> Self {
        Self { reason, place }
    }

    /// Which rule was broken.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Stable name of the failure.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// Exit status of a command that ends with this: a package or model that is corrupt.
    pub fn exit(&self) -> u8 {
        6
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        self.reason.row().1
    }

    /// Where in the model: names of onnx.proto's fields and indices, as `graph.node[3].op_type`. Empty for the model as a whole.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() { self.reason.fmt(f) } else { write!(f, "{}: {}", self.place, self.reason) }
    }
}

impl core::error::Error for Refused {}

/// A broken rule on its way to becoming a refusal: with a place of its own, or at the field that is being read.
pub(crate) struct Stop(pub Reason, pub Option<String>);

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self(reason, None)
    }
}
