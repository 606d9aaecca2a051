//! Models that are too deep, too many, too long, or whose tensors contradict themselves.
//! Limits that only need a large number have their own test in `stream.rs`.

use super::{Case, beside, constant, header, in_node, nested, nested_of, nested_types};
use crate::support::{
    Msg, attribute, entry, graph, model, msg, node, one, opset, relu, shaped, tensor, value, with_initializer,
};

pub fn cases() -> Vec<Case> {
    let wide = "n".repeat(4097);
    let sparse = |values: Msg, indices: Msg, dims: &[i64]| {
        let all = dims.iter().fold(msg().sub(1, values).sub(2, indices), |out, size| out.int(3, *size));
        model(graph([relu()]).sub(15, all))
    };
    let one_value = || tensor("s", 1, &[1], &[0; 4]);
    let index = || shaped(7, &[1]).packed(7, &[0]);
    vec![
        ("subgraphs nested 13 deep", "MODEL_DEPTH", nested(13)),
        ("subgraphs nested 40 deep", "MODEL_DEPTH", nested(40)),
        ("128 nodes within 11 subgraphs", "MODEL_DEPTH", nested_of(11, 128)),
        ("10000 subgraphs side by side", "MODEL_DEPTH", beside(10_000)),
        ("types nested 100 deep", "MODEL_DEPTH", nested_types(100)),
        ("a name of 4097 bytes", "MODEL_STRING", in_node(msg().text(3, &wide))),
        ("an operator name of 4097 bytes", "MODEL_STRING", one(node(&wide, &[], &[]))),
        ("a documentation of more than 1 MiB", "MODEL_STRING", in_node(msg().bytes(6, &vec![b'd'; (1 << 20) + 1]))),
        ("an operator name that is not UTF-8", "MODEL_STRING", one(msg().bytes(4, b"Re\xfflu"))),
        ("1025 metadata entries", "MODEL_COUNT", header(&msg().subs(14, (0..1025).map(|_| entry("a", "b"))).0)),
        ("65 operator sets", "MODEL_COUNT", header(&msg().subs(8, (0..65).map(|at| opset(&format!("d{at}"), 1))).0)),
        (
            "257 attributes of one node",
            "MODEL_COUNT",
            in_node(msg().subs(5, (0..257).map(|at| attribute(&format!("a{at}"), 2, msg().int(3, 1))))),
        ),
        ("33 dimensions", "MODEL_DIMENSIONS", with_initializer(tensor("w", 1, &[1; 33], &[0; 4]))),
        (
            "33 packed dimensions",
            "MODEL_DIMENSIONS",
            with_initializer(msg().packed(1, &[1; 33]).int(2, 1).bytes(9, &[0; 4])),
        ),
        ("a dimension of 2^62", "MODEL_DIMENSIONS", with_initializer(tensor("w", 1, &[1 << 62], &[0; 4]))),
        (
            "four dimensions of 2^16 and more, whose product is 0 in 64 bits",
            "MODEL_DIMENSIONS",
            with_initializer(tensor("w", 2, &[1 << 16, 1 << 16, 1 << 16, 1 << 16], &[])),
        ),
        ("2^62 beside 0", "MODEL_DIMENSIONS", with_initializer(tensor("w", 1, &[0, 1 << 62], &[]))),
        ("2^62 in an input's shape", "MODEL_DIMENSIONS", model(graph([relu()]).sub(11, value("z", 1, &[1 << 62])))),
        ("2^62 in a sparse tensor", "MODEL_DIMENSIONS", sparse(one_value(), index(), &[1 << 62])),
        ("a sparse tensor of 1 EiB when dense", "MODEL_DIMENSIONS", sparse(one_value(), index(), &[1 << 29, 2])),
        ("a negative dimension", "MODEL_DIMENSIONS", with_initializer(tensor("w", 1, &[-1], &[]))),
        (
            "a negative dimension in a shape",
            "MODEL_DIMENSIONS",
            model(graph([relu()]).sub(13, msg().sub(2, msg().sub(1, msg().sub(2, msg().sub(1, msg().int(1, -2))))))),
        ),
        (
            "sparse values of the wrong number",
            "MODEL_SPARSE",
            sparse(one_value(), shaped(7, &[2]).packed(7, &[0, 1]), &[3]),
        ),
        (
            "sparse indices that are no integers",
            "MODEL_SPARSE",
            sparse(one_value(), tensor("", 1, &[1], &[0; 4]), &[3]),
        ),
        (
            "more sparse values than places",
            "MODEL_SPARSE",
            sparse(tensor("s", 1, &[2], &[0; 8]), shaped(7, &[2]).packed(7, &[0, 1]), &[1]),
        ),
        (
            "sparse values without indices",
            "MODEL_SPARSE",
            model(graph([relu()]).sub(15, msg().sub(1, one_value()).int(3, 3))),
        ),
        ("no element type", "MODEL_TYPE", with_initializer(msg().int(1, 1).bytes(9, &[0; 4]))),
        (
            "an opaque type",
            "MODEL_TYPE",
            model(graph([relu()]).sub(13, msg().sub(2, msg().sub(7, msg().text(2, "Custom"))))),
        ),
        ("raw data one byte short", "MODEL_SIZE", with_initializer(tensor("w", 1, &[4], &[0; 15]))),
        ("raw data one byte long", "MODEL_SIZE", with_initializer(tensor("w", 1, &[4], &[0; 17]))),
        ("a Constant's raw data one byte short", "MODEL_SIZE", one(constant(tensor("", 11, &[1], &[0; 7])))),
        ("dimensions and no data", "MODEL_SIZE", with_initializer(shaped(1, &[4]))),
        ("too few floats", "MODEL_SIZE", with_initializer(shaped(1, &[4]).bytes(4, &[0; 12]))),
        ("too many strings", "MODEL_SIZE", with_initializer(shaped(8, &[1]).text(6, "a").text(6, "b"))),
        (
            "four-bit integers, one for each byte",
            "MODEL_SIZE",
            with_initializer(shaped(22, &[4]).packed(5, &[1, 2, 3, 4])),
        ),
        ("raw data and floats", "MODEL_DATA", with_initializer(tensor("w", 1, &[1], &[0; 4]).bytes(4, &[0; 4]))),
        ("empty raw data and floats", "MODEL_DATA", with_initializer(tensor("w", 1, &[1], &[]).bytes(4, &[0; 4]))),
        ("floats in the field of integers", "MODEL_DATA", with_initializer(shaped(1, &[1]).packed(5, &[1]))),
        ("raw strings", "MODEL_DATA", with_initializer(tensor("w", 8, &[1], &[0; 32]))),
        ("a segment", "MODEL_SEGMENT", with_initializer(tensor("w", 1, &[1], &[0; 4]).sub(3, msg().int(1, 0)))),
    ]
}
