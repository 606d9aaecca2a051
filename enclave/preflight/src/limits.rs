//! Turns the question "how much is too much?" into numbers, each with its provenance.
//! They bound what is accepted and what the walk remembers; they do not bound what a graph needs when it runs.

/// How large and how deep a model may be. The defaults are several times what published models have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole model file. Protobuf in C++ stops at 2 GiB by itself; a report warns of that.
    pub model_bytes: u64,
    /// Messages within messages, the model itself counted. C++ stops at 100.
    pub messages: usize,
    /// Subgraphs within subgraphs, counted through calls of functions.
    pub subgraphs: usize,
    /// Functions that call functions.
    pub calls: usize,
    /// Nodes in the file, those of subgraphs and functions counted.
    pub nodes: u64,
    /// Nodes after every call is replaced by the body of its function, as ONNX Runtime does in more than linear time. A model in which
    /// more nodes than that are reached in the file may have those, without a copy.
    pub expanded_nodes: u64,
    /// Sum over those nodes, and 16 for each subgraph and call, counted twice for every subgraph around them: ONNX Runtime goes through a subgraph
    /// at least twice whenever it goes through the graph around it.
    pub nested_nodes: u64,
    /// Attributes in the file.
    pub attributes: u64,
    /// Attributes of one node.
    pub node_attributes: u64,
    /// Inputs, and outputs, of one node or function.
    pub node_values: u64,
    /// Tensors in the file: initialisers and attributes.
    pub tensors: u64,
    /// Dimensions of one tensor or shape.
    pub rank: usize,
    /// Product of the dimensions of one tensor or shape, those that are 0 or unknown left out.
    pub elements: u64,
    /// Bytes of all sparse tensors when they are made dense, as ONNX Runtime does.
    pub dense_bytes: u64,
    /// Bytes of function bodies, their external data counted, after every call is replaced by the body.
    pub copied_bytes: u64,
    /// Bytes of all initialisers, inside and outside of the file.
    pub initializer_bytes: u64,
    /// Elements of one list of an attribute. Large tree ensembles have millions.
    pub list: u64,
    /// Strings in tensors and attributes, all of the file.
    pub strings: u64,
    /// Bytes of a name.
    pub name_bytes: u64,
    /// Bytes of a documentation text, a metadata value or a string element.
    pub text_bytes: u64,
    /// Descriptions of values in the file: inputs, outputs and others.
    pub values: u64,
    /// Metadata entries of one message.
    pub entries: u64,
    /// Functions of the model.
    pub functions: u64,
    /// Operator sets that the model, or one function, imports.
    pub opsets: u64,
    /// Bytes of names that the walk must remember to the end.
    pub held_bytes: u64,
    /// Rounds of a loop whose trip count is a constant of the model.
    pub trips: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            model_bytes: 1 << 40,
            messages: 64,
            subgraphs: 12,
            calls: 64,
            nodes: 1 << 17,
            expanded_nodes: 1 << 14,
            nested_nodes: 1 << 18,
            attributes: 1 << 22,
            node_attributes: 256,
            node_values: 1 << 16,
            tensors: 1 << 20,
            rank: 32,
            elements: 1 << 40,
            dense_bytes: 1 << 30,
            copied_bytes: 1 << 32,
            initializer_bytes: 1 << 42,
            list: 1 << 28,
            strings: 1 << 24,
            name_bytes: 4096,
            text_bytes: 1 << 20,
            values: 1 << 20,
            entries: 1024,
            functions: 4096,
            opsets: 64,
            held_bytes: 64 << 20,
            trips: 1 << 20,
        }
    }
}
