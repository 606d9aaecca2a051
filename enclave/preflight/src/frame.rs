//! Turns the fields of one open message into what its rules will need when it ends.
//! It judges single numbers and lengths only; what they say together is judged in `close`.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Reason;
use crate::external::{Entry, ExternalFile};
use crate::limits::Limits;
use crate::report::{Initializers, Reference, Value, ValueType};
use crate::schema::{FIELDS, Field, Message};
use crate::scope::{Function, Graph, Key, Node, Scope};
use crate::tensor::{Sparse, Tensor};

/// What a subgraph, and a call of a function, count besides their nodes: ONNX Runtime needs some 100 microseconds for one at least.
pub(crate) const HEAVY: u64 = 16;

/// A message that has begun and not ended.
pub(crate) struct Frame {
    pub message: Message,
    /// Position of the first byte after it.
    pub end: u64,
    /// How often each field has come.
    pub counts: [u32; FIELDS],
    /// The field that is being read.
    pub current: Option<Field>,
    pub state: State,
}

/// What is known of an open message.
pub(crate) enum State {
    /// Nothing needs to be known.
    Plain,
    Opset(String, i64),
    Function(Box<Function>),
    Graph(Box<Graph>),
    Node(Box<Node>),
    Attribute(Box<Attribute>),
    Tensor(Box<Tensor>),
    Sparse(Box<Sparse>),
    Value(Box<Value>),
    Type(ValueType),
    /// Element type and shape.
    TensorType(u8, Option<Vec<i64>>),
    Shape(Vec<i64>),
    /// -1 for a symbol or an unknown one.
    Dimension(i64),
    /// The key of a metadata entry.
    Metadata(String),
    External(Entry),
}

/// An attribute that has begun.
#[derive(Default)]
pub(crate) struct Attribute {
    pub name: String,
    pub kind: u64,
    pub reference: String,
    /// How many numbers its list has.
    pub numbers: u64,
    /// The first, or only, integer.
    pub first: Option<i64>,
    /// It holds a single integer beyond the limit of trips, or one that is not seen.
    pub large: bool,
    /// It holds a single `true`, or a single truth value that is not seen.
    pub holds: bool,
    /// The condition that its graph makes; empty when that hands on its own.
    pub next: String,
}

/// What is known of the model as a whole, whichever messages are open.
pub(crate) struct Shared {
    pub limits: Limits,
    /// Sorted by name.
    pub files: Vec<ExternalFile>,
    /// By place in `files`.
    pub references: BTreeMap<usize, Reference>,
    /// Bytes of all sparse tensors when made dense.
    pub dense: u64,
    /// The function or main graph that is being read.
    pub scope: Scope,
    /// Whether that is a function.
    pub in_function: bool,
    /// How many subgraphs are open in it.
    pub level: usize,
    pub depth: usize,

    pub ir_version: Option<i64>,
    pub producer: [String; 2],
    pub opsets: Vec<(String, i64)>,
    pub main: Option<Scope>,
    pub functions: Vec<(Function, Scope)>,
    pub function_keys: BTreeSet<Key>,
    /// How often each operator or function is used, by domain and name.
    pub operators: BTreeMap<(String, String), u64>,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
    pub initializer_names: BTreeSet<String>,
    pub initializers: Initializers,
    pub initializer_twice: bool,
    /// Only its condition ends some loop.
    pub long_loop: bool,

    pub nodes: u64,
    attributes: u64,
    tensors: u64,
    values: u64,
    strings: u64,
    held: u64,
}

impl Shared {
    pub fn new(limits: Limits, mut files: Vec<ExternalFile>) -> Self {
        files.sort_by(|a, b| (&a.name, a.length).cmp(&(&b.name, b.length)));
        Self {
            limits,
            files,
            references: BTreeMap::new(),
            dense: 0,
            scope: Scope::default(),
            in_function: false,
            level: 0,
            depth: 0,
            ir_version: None,
            producer: [String::new(), String::new()],
            opsets: Vec::new(),
            main: None,
            functions: Vec::new(),
            function_keys: BTreeSet::new(),
            operators: BTreeMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            initializer_names: BTreeSet::new(),
            initializers: Initializers::default(),
            initializer_twice: false,
            long_loop: false,
            nodes: 0,
            attributes: 0,
            tensors: 0,
            values: 0,
            strings: 0,
            held: 0,
        }
    }

    /// Counts a name that stays to the end.
    pub fn hold(&mut self, name: &str) -> Result<(), Reason> {
        // Besides its letters, a name costs its place in a list.
        self.hold_bytes(u64::try_from(name.len()).unwrap_or(u64::MAX).saturating_add(64))
    }

    /// Counts bytes that stay to the end.
    pub fn hold_bytes(&mut self, more: u64) -> Result<(), Reason> {
        count(&mut self.held, more, "bytes of names", self.limits.held_bytes)
    }

    /// Begins a message of that length.
    pub fn enter(&mut self, message: Message, parent: Message, length: u64) -> Result<State, Reason> {
        Ok(match message {
            Message::Opset => State::Opset(String::new(), 0),
            Message::Function => {
                self.begin(true);
                self.scope.bytes = length;
                State::Function(Box::default())
            }
            Message::Graph if parent == Message::Model => {
                self.begin(false);
                State::Graph(Box::new(Graph { main: true, ..Graph::default() }))
            }
            Message::Graph => {
                self.level += 1;
                if self.level > self.limits.subgraphs {
                    return Err(Reason::Subgraphs(self.limits.subgraphs));
                }
                self.scope.depth = self.scope.depth.max(self.level);
                self.scope.nested = self.scope.nested.saturating_add(weight(self.level).saturating_mul(HEAVY));
                State::Graph(Box::default())
            }
            Message::Node => {
                count(&mut self.nodes, 1, "nodes", self.limits.nodes)?;
                self.scope.nodes += 1;
                self.scope.nested = self.scope.nested.saturating_add(weight(self.level));
                State::Node(Box::default())
            }
            Message::Attribute => {
                count(&mut self.attributes, 1, "attributes", self.limits.attributes)?;
                State::Attribute(Box::default())
            }
            Message::Tensor => {
                count(&mut self.tensors, 1, "tensors", self.limits.tensors)?;
                State::Tensor(Box::default())
            }
            Message::Sparse => State::Sparse(Box::default()),
            Message::Value => {
                count(&mut self.values, 1, "descriptions of values", self.limits.values)?;
                State::Value(Box::default())
            }
            Message::Type => State::Type(ValueType::Missing),
            Message::TensorType => State::TensorType(0, None),
            Message::Shape => State::Shape(Vec::new()),
            Message::Dimension => State::Dimension(-1),
            Message::Entry => State::Metadata(String::new()),
            Message::External => State::External(Entry::default()),
            Message::Model
            | Message::SequenceType
            | Message::MapType
            | Message::OptionalType
            | Message::Annotation
            | Message::Configuration
            | Message::NodeConfiguration
            | Message::Sharding
            | Message::Group
            | Message::ShardedDimension
            | Message::SimpleSharding => State::Plain,
        })
    }

    fn begin(&mut self, function: bool) {
        self.scope = Scope::default();
        self.in_function = function;
        self.level = 0;
    }
}

/// What a node counts within that many subgraphs.
pub(crate) fn weight(level: usize) -> u64 {
    u32::try_from(level).ok().and_then(|level| 1_u64.checked_shl(level)).unwrap_or(u64::MAX)
}

/// Adds to a total unless that passes its limit.
pub(crate) fn count(total: &mut u64, more: u64, what: &'static str, limit: u64) -> Result<(), Reason> {
    *total = total.saturating_add(more);
    if *total > limit { Err(Reason::Count(what, limit)) } else { Ok(()) }
}

impl Frame {
    pub fn new(message: Message, end: u64, state: State) -> Self {
        Self { message, end, counts: [0; FIELDS], current: None, state }
    }

    /// Whether the named field, or one of these, has come.
    pub fn has(&self, numbers: &[usize]) -> bool {
        numbers.iter().any(|number| self.counts.get(*number).is_some_and(|count| *count > 0))
    }

    /// Takes an integer: a field's own, or an element of a list.
    pub fn integer(&mut self, number: u8, value: u64, shared: &mut Shared) -> Result<(), Reason> {
        let signed = value.cast_signed();
        match (&mut self.state, number) {
            (State::Plain, 1) if self.message == Message::Model => {
                if !(3..=13).contains(&signed) {
                    return Err(Reason::IrVersion);
                }
                shared.ir_version = Some(signed);
            }
            (State::Opset(_, version), _) => *version = signed,
            (State::Attribute(attribute), 3) => attribute.first = Some(signed),
            (State::Attribute(attribute), 8) => {
                attribute.first.get_or_insert(signed);
                count(&mut attribute.numbers, 1, "elements of one list", shared.limits.list)?;
            }
            (State::Attribute(attribute), 20) => attribute.kind = value,
            (State::Tensor(tensor), _) => tensor.integer(number, value, &shared.limits)?,
            (State::Sparse(sparse), _) => crate::tensor::dimension(&mut sparse.dims, signed, &shared.limits)?,
            (State::TensorType(element, _), _) => *element = u8::try_from(value).map_err(|_| Reason::IntegerRange)?,
            (State::Dimension(size), _) => {
                // Some converters write an unknown size as -1, and ONNX Runtime takes that.
                if signed < -1 {
                    return Err(Reason::NegativeDimension);
                }
                *size = signed;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the number of elements of a list whose values no rule needs.
    pub fn elements(&mut self, number: u8, more: u64, shared: &Shared) -> Result<(), Reason> {
        match &mut self.state {
            State::Tensor(tensor) => tensor.elements(number, more),
            State::Attribute(attribute) if number == 7 => {
                count(&mut attribute.numbers, more, "elements of one list", shared.limits.list)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the length of a text, of a string element or of raw data.
    pub fn length(&mut self, number: u8, length: u64, shared: &mut Shared) -> Result<(), Reason> {
        match (&mut self.state, number) {
            (State::Tensor(tensor), 9) => tensor.raw = Some(length),
            (State::Tensor(tensor), 6) => {
                tensor.elements(number, 1);
                tensor.string_bytes = tensor.string_bytes.saturating_add(length);
                count(&mut shared.strings, 1, "strings", shared.limits.strings)?;
            }
            (State::Attribute(_), 9) => count(&mut shared.strings, 1, "strings", shared.limits.strings)?,
            _ => {}
        }
        Ok(())
    }

    /// Whether the bytes of raw data of that length are needed: a single element may be a loop's trip count or condition.
    pub fn wants_raw(&self, length: u64) -> bool {
        matches!(length, 1 | 8) && matches!(self.state, State::Tensor(_))
    }

    /// Takes raw data that were wanted.
    pub fn raw(&mut self, bytes: &[u8]) {
        if let State::Tensor(tensor) = &mut self.state {
            tensor.raw_integer = match bytes {
                [byte] => Some(i64::from(*byte)),
                _ => bytes.try_into().ok().map(i64::from_le_bytes),
            };
        }
    }

    /// Takes a name.
    pub fn text(&mut self, number: u8, text: String, shared: &mut Shared) -> Result<(), Reason> {
        match (&mut self.state, number) {
            (State::Plain, 2) if self.message == Message::Model => shared.producer[0] = text,
            (State::Plain, 3) if self.message == Message::Model => shared.producer[1] = text,
            (State::Opset(domain, _), _) => *domain = text,
            (State::Function(function), 1) => function.key.name = text,
            (State::Function(function), 10) => function.key.domain = text,
            (State::Function(function), 13) => function.key.overload = text,
            (State::Function(function), 4) => {
                shared.define(text.clone())?;
                function.inputs.insert(text);
            }
            (State::Function(function), 5) => {
                shared.hold(&text)?;
                function.outputs.push(text);
            }
            (State::Node(node), 1) => {
                if shared.in_function {
                    shared.hold(&text)?;
                    node.inputs.push(text.clone());
                }
                match self.counts[1] {
                    1 => node.trips = text,
                    2 => node.condition = text,
                    _ => {}
                }
            }
            (State::Node(node), 2) => {
                if shared.in_function {
                    // At the function's own level `define` holds it.
                    if shared.level > 0 {
                        shared.hold(&text)?;
                    }
                    node.outputs.push(text.clone());
                }
                node.first_output.get_or_insert(text);
            }
            (State::Node(node), 4) => node.key.name = text,
            (State::Node(node), 7) => node.key.domain = text,
            (State::Node(node), 8) => node.key.overload = text,
            (State::Attribute(attribute), 1) => attribute.name = text,
            (State::Attribute(attribute), 21) => attribute.reference = text,
            (State::Tensor(tensor), _) => tensor.name = text,
            (State::Value(value), _) => value.name = text,
            (State::Metadata(key), _) => *key = text,
            (State::External(entry), 1) => entry.key = Some(text),
            (State::External(entry), _) => entry.value = Some(text),
            _ => {}
        }
        Ok(())
    }
}
