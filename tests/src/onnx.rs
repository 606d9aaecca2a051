//! Turns a few words into an ONNX model: small graphs that tests seal and serve, written as protobuf by hand.
//! It does not know what the operators mean, and refuses nothing.

/// ONNX's number for a datatype.
pub const FLOAT: u64 = 1;
/// The same.
pub const INT64: u64 = 7;
/// The same.
pub const STRING: u64 = 8;

/// A graph in the making; operator set 17.
#[derive(Clone, Default)]
pub struct Graph {
    nodes: Vec<u8>,
    values: Vec<u8>,
}

/// One attribute of a node.
pub enum Attribute<'a> {
    /// A number.
    Int(&'a str, i64),
    /// A graph of its own.
    Graph(&'a str, Graph),
}

impl Graph {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An input; -1 is any size.
    #[must_use]
    pub fn input(mut self, name: &str, kind: u64, shape: &[i64]) -> Self {
        self.values.extend(bytes(11, &value(name, kind, shape)));
        self
    }

    /// An output.
    #[must_use]
    pub fn output(mut self, name: &str, kind: u64, shape: &[i64]) -> Self {
        self.values.extend(bytes(12, &value(name, kind, shape)));
        self
    }

    /// A constant of 64-bit numbers.
    #[must_use]
    pub fn numbers(mut self, name: &str, shape: &[u64], data: &[i64]) -> Self {
        let data: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.values.extend(bytes(5, &tensor(name, INT64, shape, &data)));
        self
    }

    /// A constant of floats.
    #[must_use]
    pub fn floats(mut self, name: &str, shape: &[u64], data: &[f32]) -> Self {
        let data: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.values.extend(bytes(5, &tensor(name, FLOAT, shape, &data)));
        self
    }

    /// A node.
    #[must_use]
    pub fn node(mut self, operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Attribute<'_>]) -> Self {
        let names = |field, names: &[&str]| names.iter().flat_map(|n| bytes(field, n.as_bytes())).collect::<Vec<u8>>();
        let attributes = attributes.iter().flat_map(|a| bytes(5, &a.encode())).collect();
        let node = [names(1, inputs), names(2, outputs), bytes(4, operator.as_bytes()), attributes].concat();
        self.nodes.extend(bytes(1, &node));
        self
    }

    fn encode(&self, name: &str) -> Vec<u8> {
        [self.nodes.clone(), bytes(2, name.as_bytes()), self.values.clone()].concat()
    }

    /// The model as a file has it.
    #[must_use]
    pub fn model(&self) -> Vec<u8> {
        [number(1, 8), bytes(7, &self.encode("main")), bytes(8, &number(2, 17))].concat()
    }
}

impl Attribute<'_> {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Int(name, value) => {
                [bytes(1, name.as_bytes()), number(3, value.cast_unsigned()), number(20, 2)].concat()
            }
            Self::Graph(name, graph) => {
                [bytes(1, name.as_bytes()), bytes(6, &graph.encode(name)), number(20, 5)].concat()
            }
        }
    }
}

/// `y = x + mark`, for any number of 64-bit numbers: who answered can be told from the answer.
#[must_use]
pub fn marked(mark: i64) -> Vec<u8> {
    let graph = Graph::new().input("x", INT64, &[-1]).output("y", INT64, &[-1]).numbers("mark", &[1], &[mark]);
    graph.node("Add", &["x", "mark"], &["y"], &[]).model()
}

/// `y = n + mark`, counted up in `n` turns of a loop: the caller says how long it takes.
#[must_use]
pub fn counting(mark: i64) -> Vec<u8> {
    let body = Graph::new()
        .input("turn", INT64, &[])
        .input("before", BOOL, &[])
        .input("sum", INT64, &[1])
        .output("after", BOOL, &[])
        .output("next", INT64, &[1])
        .node("Identity", &["before"], &["after"], &[])
        .node("Add", &["sum", "one"], &["next"], &[]);
    let graph = Graph::new().input("n", INT64, &[1]).output("y", INT64, &[1]).numbers("one", &[1], &[1]).numbers(
        "mark",
        &[1],
        &[mark],
    );
    graph.node("Loop", &["n", "", "mark"], &["y"], &[Attribute::Graph("body", body)]).model()
}

const BOOL: u64 = 9;

fn value(name: &str, kind: u64, shape: &[i64]) -> Vec<u8> {
    let dims = shape.iter().map(|dim| u64::try_from(*dim).map_or_else(|_| bytes(2, b"n"), |dim| number(1, dim)));
    let dims: Vec<u8> = dims.flat_map(|dim| bytes(1, &dim)).collect();
    let tensor = [number(1, kind), bytes(2, &dims)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

fn tensor(name: &str, kind: u64, shape: &[u64], data: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|dim| number(1, *dim)).collect();
    [dims, number(2, kind), bytes(8, name.as_bytes()), bytes(9, data)].concat()
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, body: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(body.len() as u64), body.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 128 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
