//! Turns calls into the bytes of an ONNX model: a small protobuf writer, and models to begin from.
//! It writes whatever it is told, also what no exporter would.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use vouchsafe_preflight::{ExternalFile, Limits, Refused, Report, Walker};

/// A message that is being written.
#[derive(Clone, Default)]
pub struct Msg(pub Vec<u8>);

pub fn msg() -> Msg {
    Msg::default()
}

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

impl Msg {
    pub fn key(mut self, field: u64, wire: u64) -> Self {
        self.0.extend(varint(field << 3 | wire));
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn int(self, field: u64, value: i64) -> Self {
        self.key(field, 0).raw(&varint(value.cast_unsigned()))
    }

    pub fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        self.key(field, 2).raw(&varint(bytes.len() as u64)).raw(bytes)
    }

    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn sub(self, field: u64, message: Msg) -> Self {
        self.bytes(field, &message.0)
    }

    pub fn subs(self, field: u64, messages: impl IntoIterator<Item = Msg>) -> Self {
        messages.into_iter().fold(self, |out, message| out.sub(field, message))
    }

    pub fn float(self, field: u64, value: f32) -> Self {
        self.key(field, 5).raw(&value.to_le_bytes())
    }

    pub fn packed(self, field: u64, values: &[i64]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| varint(value.cast_unsigned())).collect();
        self.bytes(field, &bytes)
    }

    pub fn and(self, more: Msg) -> Self {
        self.raw(&more.0)
    }
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Msg {
    let out = inputs.iter().fold(msg(), |out, name| out.text(1, name));
    outputs.iter().fold(out, |out, name| out.text(2, name)).text(4, op)
}

pub fn attribute(name: &str, kind: i64, content: Msg) -> Msg {
    msg().text(1, name).and(content).int(20, kind)
}

/// A tensor with raw data.
pub fn tensor(name: &str, element: i64, dims: &[i64], raw: &[u8]) -> Msg {
    shaped(element, dims).text(8, name).bytes(9, raw)
}

/// A tensor without data.
pub fn shaped(element: i64, dims: &[i64]) -> Msg {
    dims.iter().fold(msg(), |out, size| out.int(1, *size)).int(2, element)
}

pub fn entry(key: &str, value: &str) -> Msg {
    msg().text(1, key).text(2, value)
}

/// A tensor of four floats in a file.
pub fn external(entries: &[(&str, &str)]) -> Msg {
    shaped(1, &[4]).text(8, "outside").subs(13, entries.iter().map(|(key, value)| entry(key, value))).int(14, 1)
}

/// A dimension is a number, or a symbol when negative.
pub fn tensor_type(element: i64, dims: &[i64]) -> Msg {
    let dimension = |size: &i64| if *size < 0 { msg().text(2, "N") } else { msg().int(1, *size) };
    msg().sub(1, msg().int(1, element).sub(2, msg().subs(1, dims.iter().map(dimension))))
}

pub fn value(name: &str, element: i64, dims: &[i64]) -> Msg {
    msg().text(1, name).sub(2, tensor_type(element, dims))
}

/// `x` to `y` through the nodes.
pub fn graph(nodes: impl IntoIterator<Item = Msg>) -> Msg {
    msg().subs(1, nodes).text(2, "g").sub(11, value("x", 1, &[-1, 4])).sub(12, value("y", 1, &[-1, 4]))
}

pub fn relu() -> Msg {
    node("Relu", &["x"], &["y"])
}

pub fn opset(domain: &str, version: i64) -> Msg {
    if domain.is_empty() { msg().int(2, version) } else { msg().text(1, domain).int(2, version) }
}

/// A model of that graph, with something besides.
pub fn model_with(graph: Msg, more: Msg) -> Vec<u8> {
    msg().int(1, 10).text(2, "test").sub(7, graph).and(more).sub(8, opset("", 21)).0
}

pub fn model(graph: Msg) -> Vec<u8> {
    model_with(graph, msg())
}

/// A model of one node.
pub fn one(node: Msg) -> Vec<u8> {
    model(graph([node]))
}

/// A model with an initialiser.
pub fn with_initializer(tensor: Msg) -> Vec<u8> {
    model(graph([relu()]).sub(5, tensor))
}

/// A function of `x` and `a` without outputs, which is enough for a rule to be broken in it.
pub fn function(name: &str, nodes: impl IntoIterator<Item = Msg>) -> Msg {
    let head = msg().text(1, name).text(4, "x").text(4, "a").subs(7, nodes);
    head.sub(9, opset("", 21)).sub(9, opset("local", 1)).text(10, "local")
}

pub fn call_to(name: &str, output: &str) -> Msg {
    node(name, &["x"], &[output]).text(7, "local")
}

pub fn call(name: &str) -> Msg {
    node(name, &["x"], &["y"]).text(7, "local")
}

/// A model that calls `f`, with these functions.
pub fn with_functions(functions: impl IntoIterator<Item = Msg>) -> Vec<u8> {
    model_with(graph([call("f")]), msg().subs(25, functions).sub(8, opset("local", 1)))
}

/// A loop's body: trip number and condition in, condition out.
pub fn body(nodes: impl IntoIterator<Item = Msg>) -> Msg {
    msg()
        .subs(1, nodes)
        .text(2, "body")
        .sub(11, value("i", 7, &[]))
        .sub(11, value("c", 9, &[]))
        .sub(12, value("c", 9, &[]))
}

pub fn loop_node(trips: &str) -> Msg {
    while_node(trips, "", body([]))
}

pub fn while_node(trips: &str, condition: &str, body: Msg) -> Msg {
    node("Loop", &[trips, condition], &["y"]).sub(5, attribute("body", 5, msg().sub(6, body)))
}

/// A loop's body that makes its condition `next` in a node.
pub fn computing(node: Msg) -> Msg {
    let inputs = msg().sub(1, node).sub(11, value("i", 7, &[])).sub(11, value("c", 9, &[]));
    inputs.sub(12, value("next", 9, &[]))
}

/// A truth value.
pub fn truth(name: &str, value: u8) -> Msg {
    tensor(name, 9, &[], &[value])
}

/// One of nearly everything that is accepted, the needed field last, so that no truncation is a model.
pub fn good() -> Vec<u8> {
    let constant = node("Constant", &[], &["k"])
        .sub(5, attribute("value", 4, msg().sub(5, shaped(7, &[1]).packed(7, &[300]).text(8, "k"))));
    let branch = |name| attribute(name, 5, msg().sub(6, body([node("Identity", &["x"], &["c"])])));
    let lists = node("TreeEnsembleRegressor", &["x"], &["t"])
        .text(7, "ai.onnx.ml")
        .sub(5, attribute("nodes_values", 6, msg().float(7, 0.5).float(7, -1.0)))
        .sub(5, attribute("nodes_ids", 7, msg().int(8, 1).int(8, -2).packed(8, &[70000, -70000])))
        .sub(5, attribute("nodes_modes", 8, msg().text(9, "LEAF").text(9, "")))
        .sub(5, attribute("post", 3, msg().text(4, "NONE").text(13, "documented")));
    let graph = graph([
        relu().text(3, "first").sub(9, entry("pkg.trace", "line 1")),
        constant,
        loop_node("k"),
        node("If", &["c"], &["y"]).sub(5, branch("then_branch")).sub(5, branch("else_branch")),
        node("Scan", &["x"], &["y"])
            .sub(5, attribute("body", 5, msg().sub(6, body([]))))
            .sub(5, attribute("num_scan_inputs", 2, msg().int(3, 1))),
        lists,
        node("Gelu", &["x"], &["y"]).text(7, "com.microsoft"),
        call("f"),
    ])
    .sub(5, tensor("w", 1, &[2, 3], &[7; 24]))
    .sub(5, shaped(1, &[3]).bytes(4, &[1; 12]).text(8, "f"))
    .sub(5, shaped(7, &[2]).int(7, 5).int(7, -5).text(8, "i"))
    .sub(5, shaped(8, &[2]).text(6, "yes").text(6, "no").text(8, "s"))
    .sub(5, shaped(22, &[3]).packed(5, &[18, 3]).text(8, "int4"))
    .sub(5, external(&[("location", "weights.bin"), ("offset", "16"), ("length", "16")]).text(12, "outside"))
    .sub(
        15,
        msg().sub(1, tensor("sp", 1, &[2], &[0; 8])).sub(2, shaped(7, &[2]).packed(7, &[0, 5])).int(3, 3).int(3, 3),
    )
    .sub(11, value("w", 1, &[2, 3]))
    .sub(13, msg().text(1, "seq").sub(2, msg().sub(4, msg().sub(1, tensor_type(1, &[])))))
    .sub(14, msg().text(1, "w").sub(2, entry("SCALE_TENSOR", "f")));
    let more = msg()
        .sub(14, entry("author", "somebody"))
        .sub(25, function("f", [node("Relu", &["a"], &["b"])]).text(5, "b").text(8, "doc"))
        .sub(8, opset("ai.onnx.ml", 3))
        .sub(8, opset("com.microsoft", 1))
        .sub(8, opset("local", 1));
    model_with(graph, more)
}

pub fn files() -> Vec<ExternalFile> {
    vec![ExternalFile { name: "weights.bin".to_owned(), length: 32 }]
}

pub fn walker(limits: Limits) -> Walker {
    Walker::new(limits, files())
}

/// The verdict, with the bytes in pieces of that size.
pub fn scan_in(bytes: &[u8], piece: usize, limits: Limits) -> Result<Report, Refused> {
    let mut walker = walker(limits);
    for piece in bytes.chunks(piece.max(1)) {
        walker.feed(piece)?;
    }
    walker.finish()
}

pub fn scan(bytes: &[u8]) -> Result<Report, Refused> {
    scan_in(bytes, bytes.len(), Limits::default())
}
