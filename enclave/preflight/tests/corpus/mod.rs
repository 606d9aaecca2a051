//! Turns names of defects into models that have exactly one each, with the code that must fire.
//! It does not say what else is refused: every rule has a neighbour that is accepted, in `hostile.rs`.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

pub mod externals;
pub mod graphs;
pub mod protobuf;
pub mod sizes;

use crate::support::{Msg, attribute, body, graph, model, msg, node, one, relu, tensor_type};

pub type Case = (&'static str, &'static str, Vec<u8>);

/// A header, then these bytes at the level of the model.
pub fn header(bytes: &[u8]) -> Vec<u8> {
    msg().int(1, 10).raw(bytes).and(Msg(model(graph([relu()]))[2..].to_vec())).0
}

pub fn in_node(content: Msg) -> Vec<u8> {
    one(relu().and(content))
}

pub fn constant(tensor: Msg) -> Msg {
    node("Constant", &[], &["k"]).sub(5, attribute("value", 4, msg().sub(5, tensor)))
}

/// A loop in a loop in a loop, that deep.
pub fn nested(depth: usize) -> Vec<u8> {
    nested_of(depth, 1)
}

/// So many nodes, that many subgraphs deep.
pub fn nested_of(depth: usize, nodes: usize) -> Vec<u8> {
    let innermost = vec![node("Identity", &["x"], &["y"]); nodes];
    one_of((0..depth).fold(innermost, |inner, _| {
        vec![node("Scan", &["x"], &["y"]).sub(5, attribute("body", 5, msg().sub(6, body(inner))))]
    }))
}

/// So many subgraphs, none within another.
pub fn beside(subgraphs: usize) -> Vec<u8> {
    one_of((0..subgraphs).map(|_| node("Scan", &["x"], &["y"]).sub(5, attribute("body", 5, msg().sub(6, body([]))))))
}

pub fn nested_types(depth: usize) -> Vec<u8> {
    let kind = (0..depth).fold(tensor_type(1, &[]), |inner, _| msg().sub(4, msg().sub(1, inner)));
    model(graph([relu()]).sub(13, msg().text(1, "v").sub(2, kind)))
}

pub fn one_of(nodes: impl IntoIterator<Item = Msg>) -> Vec<u8> {
    model(graph(nodes))
}

impl Msg {
    pub fn into_list(self) -> Vec<Self> {
        vec![self]
    }
}
