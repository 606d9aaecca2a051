//! Models whose bytes are not what onnx.proto and a careful writer allow.
//! Each is refused for its form; what it means does not matter.

use super::{Case, header, in_node};
use crate::support::{
    Msg, attribute, graph, model, msg, one, opset, relu, shaped, tensor, tensor_type, varint, with_initializer,
};

pub fn cases() -> Vec<Case> {
    let good = one(relu());
    vec![
        ("nothing at all", "MODEL_INCOMPLETE", Vec::new()),
        ("no graph", "MODEL_INCOMPLETE", msg().int(1, 10).sub(8, opset("", 21)).0),
        ("no IR version", "MODEL_INCOMPLETE", good[2..].to_vec()),
        ("no operator set", "MODEL_INCOMPLETE", msg().int(1, 10).sub(7, graph([])).0),
        ("a cut varint", "MODEL_TRUNCATED", [&good[..], &[0x80]].concat()),
        ("a message that promises more", "MODEL_TRUNCATED", msg().int(1, 10).key(7, 2).raw(&[9]).0),
        ("field number 0", "MODEL_PROTOBUF", header(&[0x00])),
        ("field number 0 with a length", "MODEL_PROTOBUF", header(&[0x02, 0x00])),
        ("a field number of 30 bits", "MODEL_PROTOBUF", header(&msg().key(1 << 29, 0).raw(&[0]).0)),
        ("a tag whose 33rd bit C++ drops", "MODEL_PROTOBUF", header(&[0x8a, 0x80, 0x80, 0x80, 0x10, 0x00])),
        ("a tag of six bytes", "MODEL_PROTOBUF", header(&[0x8a, 0x80, 0x80, 0x80, 0x80, 0x00])),
        ("a tag that is not shortest", "MODEL_PROTOBUF", header(&[0xba, 0x00, 0x00])),
        ("a length that is not shortest", "MODEL_PROTOBUF", header(&[0x22, 0x80, 0x00])),
        ("an integer of 11 bytes", "MODEL_PROTOBUF", header(&[&[0x28][..], &[0xff; 10], &[0x01]].concat())),
        ("an integer of 70 bits", "MODEL_PROTOBUF", header(&[&[0x28][..], &[0xff; 9], &[0x7f]].concat())),
        ("a group", "MODEL_GROUP", header(&msg().key(7, 3).key(7, 4).0)),
        ("a group's end", "MODEL_GROUP", header(&msg().key(1, 4).0)),
        ("an unknown group", "MODEL_GROUP", header(&msg().key(99, 3).key(99, 4).0)),
        ("wire type 6", "MODEL_WIRE_TYPE", header(&msg().key(5, 6).0)),
        ("wire type 7", "MODEL_WIRE_TYPE", header(&msg().key(5, 7).0)),
        ("the graph as an integer", "MODEL_WIRE_TYPE", header(&msg().int(7, 1).0)),
        ("a version as text", "MODEL_WIRE_TYPE", header(&msg().text(5, "1").0)),
        ("a name as a fixed number", "MODEL_WIRE_TYPE", in_node(msg().key(3, 5).raw(&[0; 4]))),
        ("packed doubles in a float field", "MODEL_WIRE_TYPE", with_initializer(shaped(1, &[]).key(4, 1).raw(&[0; 8]))),
        ("a length of 2^64 - 1", "MODEL_LENGTH", header(&msg().key(4, 2).raw(&varint(u64::MAX)).0)),
        ("a length of 2^63", "MODEL_LENGTH", header(&msg().key(6, 2).raw(&varint(1 << 63)).0)),
        (
            "a child longer than its parent",
            "MODEL_LENGTH",
            msg().int(1, 10).sub(7, msg().key(1, 2).raw(&[100])).raw(&[0; 200]).0,
        ),
        ("an integer across its message's end", "MODEL_LENGTH", msg().sub(8, msg().raw(&[0x10, 0x80])).raw(&[0x01]).0),
        (
            "a packed list that ends within an integer",
            "MODEL_LENGTH",
            with_initializer(shaped(7, &[1]).bytes(7, &[0x80])),
        ),
        ("packed floats of five bytes", "MODEL_LENGTH", with_initializer(shaped(1, &[1]).bytes(4, &[0; 5]))),
        ("an unknown field of the model", "MODEL_UNKNOWN_FIELD", header(&msg().int(9, 1).0)),
        ("an unknown field of a node", "MODEL_UNKNOWN_FIELD", in_node(msg().text(11, "custom.so"))),
        ("a field far away", "MODEL_UNKNOWN_FIELD", header(&msg().text((1 << 29) - 1, "x").0)),
        ("the reserved value field of attributes", "MODEL_UNKNOWN_FIELD", in_node(msg().sub(5, msg().sub(12, msg())))),
        ("two graphs, which C++ merges", "MODEL_REPEATED_FIELD", header(&msg().sub(7, graph([relu()])).0)),
        ("two IR versions", "MODEL_REPEATED_FIELD", header(&msg().int(1, 10).0)),
        ("two operator names, of which C++ takes the last", "MODEL_REPEATED_FIELD", in_node(msg().text(4, "Loop"))),
        ("two domains", "MODEL_REPEATED_FIELD", in_node(msg().text(7, "").text(7, "custom"))),
        (
            "two locations of data",
            "MODEL_REPEATED_FIELD",
            with_initializer(tensor("w", 1, &[1], &[0; 4]).int(14, 0).int(14, 1)),
        ),
        ("raw data twice", "MODEL_REPEATED_FIELD", with_initializer(tensor("w", 1, &[1], &[0; 4]).bytes(9, &[0; 4]))),
        (
            "two members of a union",
            "MODEL_REPEATED_FIELD",
            model(graph([relu()]).sub(13, msg().sub(2, tensor_type(1, &[]).sub(4, msg())))),
        ),
        (
            "a dimension that is number and symbol",
            "MODEL_REPEATED_FIELD",
            model(
                graph([relu()])
                    .sub(13, msg().sub(2, msg().sub(1, msg().sub(2, msg().sub(1, msg().int(1, 2).text(2, "N")))))),
            ),
        ),
        (
            "a sparse tensor's values twice",
            "MODEL_REPEATED_FIELD",
            model(graph([relu()]).sub(15, msg().sub(1, tensor("s", 1, &[0], &[])).sub(1, msg()))),
        ),
        (
            "EXTERNAL plus 2^32, which C++ cuts to EXTERNAL",
            "MODEL_INTEGER",
            with_initializer(tensor("w", 1, &[1], &[0; 4]).int(14, (1 << 32) | 1)),
        ),
        ("a data location of 2", "MODEL_INTEGER", with_initializer(tensor("w", 1, &[1], &[0; 4]).int(14, 2))),
        ("an element type plus 2^32", "MODEL_INTEGER", with_initializer(shaped((1 << 32) | 1, &[1]).bytes(9, &[0; 4]))),
        ("a negative element type", "MODEL_INTEGER", with_initializer(shaped(-1, &[1]).bytes(9, &[0; 4]))),
        ("an attribute type of 15", "MODEL_INTEGER", in_node(msg().sub(5, attribute("a", 15, msg())))),
        ("a pipeline stage of 33 bits", "MODEL_INTEGER", in_node(msg().sub(10, msg().int(3, 1 << 32)))),
        ("bytes of ONNX Runtime's own format", "MODEL_FORMAT", msg().raw(&[0x1c, 0, 0, 0]).raw(b"ORTM").0),
        (
            "a model that is ONNX Runtime's format as well",
            "MODEL_FORMAT",
            msg().int(1, 10).text(2, "ORTM tools").and(Msg(good[2..].to_vec())).0,
        ),
    ]
}
