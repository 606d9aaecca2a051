//! Turns a message and a field number into what that field may hold, after onnx.proto of ONNX 1.20 (IR version 13).
//! A field that is not here is refused; what a field's content must be beside its form is the business of `close` and its neighbours.

use crate::error::Reason;
use crate::limits::Limits;

/// The messages of onnx.proto. `TensorType` also stands for a sparse tensor's type, `External` for the entries of `external_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Model,
    Opset,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Value,
    Type,
    TensorType,
    SequenceType,
    MapType,
    OptionalType,
    Shape,
    Dimension,
    Entry,
    External,
    Annotation,
    Configuration,
    NodeConfiguration,
    Sharding,
    Group,
    ShardedDimension,
    SimpleSharding,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Int64,
    Int32,
    /// An integer from 0 to this.
    Enum(u64),
    Float,
    /// A name that a rule needs: remembered, UTF-8.
    Name,
    /// A name that a rule needs when it is one of the first two of its list, or in a function.
    First,
    /// A name that no rule needs: counted.
    Label,
    /// Long text or a string element: counted.
    Text,
    /// The bytes of a tensor: counted.
    Raw,
    Message(Message),
    /// Integers, packed or one by one.
    Ints,
    /// Numbers of four bytes, packed or one by one.
    Floats,
    /// Numbers of eight bytes, packed or one by one.
    Doubles,
    /// A field of onnx.proto that no served model needs.
    Never(Reason),
}

/// How often a field may stand in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    Once,
    /// One of these numbers may stand once: in C++ a later one would erase an earlier one.
    OneOf(&'static [u8]),
    Many(Cap),
}

/// Which limit counts a repeated field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cap {
    Nodes,
    NodeAttributes,
    NodeValues,
    Tensors,
    Rank,
    List,
    Strings,
    Values,
    Entries,
    Functions,
    Opsets,
}

impl Cap {
    /// The word for a message, and the number.
    pub fn of(self, limits: &Limits) -> (&'static str, u64) {
        match self {
            Self::Nodes => ("nodes", limits.nodes),
            Self::NodeAttributes => ("attributes of one node", limits.node_attributes),
            Self::NodeValues => ("inputs or outputs of one node", limits.node_values),
            Self::Tensors => ("tensors", limits.tensors),
            Self::Rank => ("dimensions", u64::try_from(limits.rank).unwrap_or(u64::MAX)),
            Self::List => ("elements of one list", limits.list),
            Self::Strings => ("strings", limits.strings),
            Self::Values => ("descriptions of values", limits.values),
            Self::Entries => ("entries of one message", limits.entries),
            Self::Functions => ("functions", limits.functions),
            Self::Opsets => ("operator sets", limits.opsets),
        }
    }
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub number: u8,
    pub name: &'static str,
    pub holds: Holds,
    pub times: Times,
}

/// One more than the highest field number of onnx.proto.
pub(crate) const FIELDS: usize = 27;
/// `TensorProto.DataType` of IR version 13 ends here.
const DATA_TYPES: u64 = 26;
/// `AttributeProto.AttributeType` ends here.
const ATTRIBUTE_TYPES: u64 = 14;
/// The members of `TypeProto.value`.
const TYPE_VALUE: &[u8] = &[1, 4, 5, 7, 8, 9];
/// The members of the two unions of a number and a symbol.
const NUMBER_OR_SYMBOL: &[u8] = &[1, 2];

/// The field of that number, if the message has one.
pub(crate) fn field(message: Message, number: u64) -> Option<Field> {
    use Cap as C;
    use Holds::{Doubles, Enum, First, Float, Floats, Int32, Int64, Ints, Label, Name, Never, Raw, Text};
    use Message as M;
    let number = u8::try_from(number).ok().filter(|number| usize::from(*number) < FIELDS)?;
    let once = |name, holds| (name, holds, Times::Once);
    let many = |name, holds, cap| (name, holds, Times::Many(cap));
    let either = |name, holds, members| (name, holds, Times::OneOf(members));
    let sub = Holds::Message;
    let (name, holds, times) = match (message, number) {
        (M::Model, 1) => once("ir_version", Int64),
        (M::Model, 2) => once("producer_name", Name),
        (M::Model, 3) => once("producer_version", Name),
        (M::Model, 4) => once("domain", Label),
        (M::Model, 5) => once("model_version", Int64),
        (M::Model, 6) => once("doc_string", Text),
        (M::Model, 7) => once("graph", sub(M::Graph)),
        (M::Model, 8) => many("opset_import", sub(M::Opset), C::Opsets),
        (M::Model, 14) => many("metadata_props", sub(M::Entry), C::Entries),
        (M::Model, 20) => many("training_info", Never(Reason::Training), C::Entries),
        (M::Model, 25) => many("functions", sub(M::Function), C::Functions),
        (M::Model, 26) => many("configuration", sub(M::Configuration), C::Entries),

        (M::Opset, 1) => once("domain", Name),
        (M::Opset, 2) => once("version", Int64),

        (M::Function, 1) => once("name", Name),
        (M::Function, 4) => many("input", Name, C::NodeValues),
        (M::Function, 5) => many("output", Name, C::NodeValues),
        (M::Function, 6) => many("attribute", Label, C::NodeAttributes),
        (M::Function, 7) => many("node", sub(M::Node), C::Nodes),
        (M::Function, 8) => once("doc_string", Text),
        (M::Function, 9) => many("opset_import", sub(M::Opset), C::Opsets),
        (M::Function, 10) => once("domain", Name),
        (M::Function, 11) => many("attribute_proto", sub(M::Attribute), C::NodeAttributes),
        (M::Function, 12) => many("value_info", sub(M::Value), C::Values),
        (M::Function, 13) => once("overload", Name),
        (M::Function, 14) => many("metadata_props", sub(M::Entry), C::Entries),

        (M::Graph, 1) => many("node", sub(M::Node), C::Nodes),
        (M::Graph, 2) => once("name", Label),
        (M::Graph, 5) => many("initializer", sub(M::Tensor), C::Tensors),
        (M::Graph, 10) => once("doc_string", Text),
        (M::Graph, 11) => many("input", sub(M::Value), C::Values),
        (M::Graph, 12) => many("output", sub(M::Value), C::Values),
        (M::Graph, 13) => many("value_info", sub(M::Value), C::Values),
        (M::Graph, 14) => many("quantization_annotation", sub(M::Annotation), C::Values),
        (M::Graph, 15) => many("sparse_initializer", sub(M::Sparse), C::Tensors),
        (M::Graph, 16) => many("metadata_props", sub(M::Entry), C::Entries),

        (M::Node, 1) => many("input", First, C::NodeValues),
        (M::Node, 2) => many("output", First, C::NodeValues),
        (M::Node, 3) => once("name", Label),
        (M::Node, 4) => once("op_type", Name),
        (M::Node, 5) => many("attribute", sub(M::Attribute), C::NodeAttributes),
        (M::Node, 6) => once("doc_string", Text),
        (M::Node, 7) => once("domain", Name),
        (M::Node, 8) => once("overload", Name),
        (M::Node, 9) => many("metadata_props", sub(M::Entry), C::Entries),
        (M::Node, 10) => many("device_configurations", sub(M::NodeConfiguration), C::Entries),

        (M::Attribute, 1) => once("name", Name),
        (M::Attribute, 2) => once("f", Float),
        (M::Attribute, 3) => once("i", Int64),
        (M::Attribute, 4) => once("s", Text),
        (M::Attribute, 5) => once("t", sub(M::Tensor)),
        (M::Attribute, 6) => once("g", sub(M::Graph)),
        (M::Attribute, 7) => many("floats", Floats, C::List),
        (M::Attribute, 8) => many("ints", Ints, C::List),
        (M::Attribute, 9) => many("strings", Text, C::List),
        (M::Attribute, 10) => many("tensors", sub(M::Tensor), C::Tensors),
        (M::Attribute, 11) => many("graphs", sub(M::Graph), C::Entries),
        (M::Attribute, 13) => once("doc_string", Text),
        (M::Attribute, 14) => once("tp", sub(M::Type)),
        (M::Attribute, 15) => many("type_protos", sub(M::Type), C::Entries),
        (M::Attribute, 20) => once("type", Enum(ATTRIBUTE_TYPES)),
        (M::Attribute, 21) => once("ref_attr_name", Name),
        (M::Attribute, 22) => once("sparse_tensor", sub(M::Sparse)),
        (M::Attribute, 23) => many("sparse_tensors", sub(M::Sparse), C::Tensors),

        (M::Tensor, 1) => many("dims", Ints, C::List),
        (M::Tensor, 2) => once("data_type", Enum(DATA_TYPES)),
        (M::Tensor, 3) => once("segment", Never(Reason::Segment)),
        (M::Tensor, 4) => many("float_data", Floats, C::List),
        (M::Tensor, 5) => many("int32_data", Ints, C::List),
        (M::Tensor, 6) => many("string_data", Text, C::Strings),
        (M::Tensor, 7) => many("int64_data", Ints, C::List),
        (M::Tensor, 8) => once("name", Name),
        (M::Tensor, 9) => once("raw_data", Raw),
        (M::Tensor, 10) => many("double_data", Doubles, C::List),
        (M::Tensor, 11) => many("uint64_data", Ints, C::List),
        (M::Tensor, 12) => once("doc_string", Text),
        (M::Tensor, 13) => many("external_data", sub(M::External), C::Entries),
        (M::Tensor, 14) => once("data_location", Enum(1)),
        (M::Tensor, 16) => many("metadata_props", sub(M::Entry), C::Entries),

        (M::Sparse, 1) => once("values", sub(M::Tensor)),
        (M::Sparse, 2) => once("indices", sub(M::Tensor)),
        (M::Sparse, 3) => many("dims", Ints, C::List),

        (M::Value, 1) => once("name", Name),
        (M::Value, 2) => once("type", sub(M::Type)),
        (M::Value, 3) => once("doc_string", Text),
        (M::Value, 4) => many("metadata_props", sub(M::Entry), C::Entries),

        (M::Type, 1) => either("tensor_type", sub(M::TensorType), TYPE_VALUE),
        (M::Type, 4) => either("sequence_type", sub(M::SequenceType), TYPE_VALUE),
        (M::Type, 5) => either("map_type", sub(M::MapType), TYPE_VALUE),
        (M::Type, 6) => once("denotation", Label),
        (M::Type, 7) => either("opaque_type", Never(Reason::Opaque), TYPE_VALUE),
        (M::Type, 8) => either("sparse_tensor_type", sub(M::TensorType), TYPE_VALUE),
        (M::Type, 9) => either("optional_type", sub(M::OptionalType), TYPE_VALUE),
        (M::TensorType, 1) => once("elem_type", Enum(DATA_TYPES)),
        (M::TensorType, 2) => once("shape", sub(M::Shape)),
        (M::SequenceType | M::OptionalType, 1) => once("elem_type", sub(M::Type)),
        (M::MapType, 1) => once("key_type", Enum(DATA_TYPES)),
        (M::MapType, 2) => once("value_type", sub(M::Type)),
        (M::Shape, 1) => many("dim", sub(M::Dimension), C::Rank),
        (M::Dimension, 1) => either("dim_value", Int64, NUMBER_OR_SYMBOL),
        (M::Dimension, 2) => either("dim_param", Label, NUMBER_OR_SYMBOL),
        (M::Dimension, 3) => once("denotation", Label),

        (M::Entry | M::External, 1) => once("key", Name),
        (M::Entry, 2) => once("value", Text),
        (M::External, 2) => once("value", Name),
        (M::Annotation, 1) => once("tensor_name", Label),
        (M::Annotation, 2) => many("quant_parameter_tensor_names", sub(M::Entry), C::Entries),

        (M::Configuration, 1) => once("name", Label),
        (M::Configuration, 2) => once("num_devices", Int32),
        (M::Configuration, 3) => many("device", Label, C::Entries),
        (M::NodeConfiguration, 1) => once("configuration_id", Label),
        (M::NodeConfiguration, 2) => many("sharding_spec", sub(M::Sharding), C::Entries),
        (M::NodeConfiguration, 3) => once("pipeline_stage", Int32),
        (M::Sharding, 1) => once("tensor_name", Label),
        (M::Sharding, 2) => many("device", Ints, C::Entries),
        (M::Sharding, 3) => many("index_to_device_group_map", sub(M::Group), C::Entries),
        (M::Sharding, 4) => many("sharded_dim", sub(M::ShardedDimension), C::Entries),
        (M::Group, 1) => once("key", Int64),
        (M::Group, 2) => many("value", Ints, C::Entries),
        (M::ShardedDimension, 1) => once("axis", Int64),
        (M::ShardedDimension, 2) => many("simple_sharding", sub(M::SimpleSharding), C::Entries),
        (M::SimpleSharding, 1) => either("dim_value", Int64, NUMBER_OR_SYMBOL),
        (M::SimpleSharding, 2) => either("dim_param", Label, NUMBER_OR_SYMBOL),
        (M::SimpleSharding, 3) => once("num_shards", Int64),
        _ => return None,
    };
    Some(Field { number, name, holds, times })
}
