//! Turns what the walk saw of an accepted model into facts for a person and for the code that serves it.
//! Names come from the model: whoever prints them escapes them.

use std::collections::BTreeMap;

/// What an accepted model is and asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes of the model file.
    pub bytes: u64,
    /// Version of the file format.
    pub ir_version: i64,
    /// Name and version of what made the model: at most 64 printable characters.
    pub producer: String,
    /// Domain and version of the operator sets that the model imports; the standard domain is the empty string.
    pub opsets: BTreeMap<String, i64>,
    /// The graph's inputs that are no initialisers, in order.
    pub inputs: Vec<Value>,
    /// The graph's outputs, in order.
    pub outputs: Vec<Value>,
    /// Nodes in the file.
    pub nodes: u64,
    /// Nodes after every call is replaced by its function's body.
    pub expanded_nodes: u64,
    /// How often each operator or function stands in the file, by domain and name.
    pub operators: BTreeMap<(String, String), u64>,
    /// The model's own functions.
    pub functions: Vec<Function>,
    /// Initialisers of the graph and its subgraphs.
    pub initializers: Initializers,
    /// External files that tensors refer to.
    pub external: Vec<Reference>,
    /// How deep subgraphs nest, counted through calls; 0 for none.
    pub depth: usize,
    /// What is accepted and still worth knowing.
    pub warnings: Vec<Warning>,
}

/// An input or output of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Its type.
    pub value_type: ValueType,
}

/// The type of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ValueType {
    /// Not said.
    #[default]
    Missing,
    /// A tensor.
    Tensor {
        /// `TensorProto.DataType`; see [`element_name`].
        element: u8,
        /// Dimensions, -1 for a symbol or an unknown one; none when not even their number is said.
        shape: Option<Vec<i64>>,
    },
    /// A sparse tensor.
    SparseTensor,
    /// A sequence.
    Sequence,
    /// A map.
    Map,
    /// An optional value.
    Optional,
}

/// A function that the model defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its domain.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// What tells it from functions of the same name, if anything.
    pub overload: String,
    /// Nodes of its body, those of subgraphs counted.
    pub nodes: u64,
}

/// How much the initialisers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Initializers {
    /// How many.
    pub count: u64,
    /// Bytes of their elements, inside and outside of the file.
    pub bytes: u64,
}

/// An external file that tensors refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its name, one of those that were given.
    pub name: String,
    /// How many tensors refer to it.
    pub tensors: u64,
    /// Bytes of those tensors.
    pub bytes: u64,
}

/// Something of an accepted model that is worth knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// The file is larger than protobuf's C++ parser takes.
    TwoGibibytes,
    /// Two initialisers have one name.
    InitializerTwice,
    /// An imported operator set is neither supported nor used.
    UnusedDomain,
    /// An input has no type or shape.
    InputShape,
    /// No small constant bounds a loop.
    LongLoop,
    /// A file was named that no tensor refers to.
    UnusedFile,
}

impl Warning {
    /// The warning in plain words.
    pub fn text(self) -> &'static str {
        match self {
            Self::TwoGibibytes => "the file is larger than 2 GiB, which ONNX Runtime does not load: use external data",
            Self::InitializerTwice => "two initialisers have one name: ONNX Runtime takes the later one",
            Self::UnusedDomain => "an operator set is imported that is neither supported nor used",
            Self::InputShape => "an input has no type or shape",
            Self::LongLoop => "a loop has no trip count, or a very large one: only its condition ends it",
            Self::UnusedFile => "an external file was given that no tensor refers to",
        }
    }
}

/// The name of an element type, as onnx.proto writes it.
pub fn element_name(element: u8) -> &'static str {
    const NAMES: [&str; 27] = [
        "UNDEFINED",
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "COMPLEX64",
        "COMPLEX128",
        "BFLOAT16",
        "FLOAT8E4M3FN",
        "FLOAT8E4M3FNUZ",
        "FLOAT8E5M2",
        "FLOAT8E5M2FNUZ",
        "UINT4",
        "INT4",
        "FLOAT4E2M1",
        "FLOAT8E8M0",
        "UINT2",
        "INT2",
    ];
    NAMES.get(usize::from(element)).copied().unwrap_or("UNDEFINED")
}

/// At most 64 printable ASCII characters of what a model says of its maker.
pub(crate) fn printable(parts: &[String]) -> String {
    let text = parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ");
    text.chars().take(64).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}
