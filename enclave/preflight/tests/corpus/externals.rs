//! Models that would make their runtime read another file, or memory.
//! The one file that may be read is `weights.bin`, of 32 bytes.

use super::{Case, constant, in_node};
use crate::support::{
    Msg, attribute, body, entry, external, function, graph, model, msg, node, one, relu, shaped, tensor,
    with_functions, with_initializer,
};

type Place = (&'static str, &'static str, fn(Msg) -> Vec<u8>);

fn body_with(tensor: Msg) -> Msg {
    attribute("body", 5, msg().sub(6, body([]).sub(5, tensor)))
}

/// Where a tensor may stand that is no initialiser of the main graph, with a path and with the listed name.
pub const PLACES: [Place; 13] = [
    ("EXTERNAL in a Constant", "the listed file in a Constant", |tensor| one(constant(tensor))),
    ("EXTERNAL in another attribute", "the listed file in another attribute", |tensor| {
        one(node("ConstantOfShape", &["x"], &["y"]).sub(5, attribute("value", 4, msg().sub(5, tensor))))
    }),
    ("EXTERNAL in a list of tensors", "the listed file in a list of tensors", |tensor| {
        in_node(msg().sub(5, attribute("a", 9, msg().sub(10, tensor))))
    }),
    ("EXTERNAL in a subgraph", "the listed file in a subgraph", |tensor| {
        one(node("Scan", &["x"], &["y"]).sub(5, body_with(tensor)))
    }),
    ("EXTERNAL in a subgraph's Constant", "the listed file in a subgraph's Constant", |tensor| {
        one(node("Scan", &["x"], &["y"]).sub(5, attribute("body", 5, msg().sub(6, body([constant(tensor)])))))
    }),
    ("EXTERNAL in a list of graphs", "the listed file in a list of graphs", |tensor| {
        in_node(msg().sub(5, attribute("a", 10, msg().sub(11, msg().sub(5, tensor)))))
    }),
    ("EXTERNAL in a function", "the listed file in a function", |tensor| {
        with_functions([function("f", [constant(tensor)])])
    }),
    ("EXTERNAL in a function's default", "the listed file in a function's default", |tensor| {
        with_functions([function("f", [relu()]).sub(11, attribute("t", 4, msg().sub(5, tensor)))])
    }),
    ("EXTERNAL in a subgraph of a function", "the listed file in a subgraph of a function", |tensor| {
        with_functions([function("f", [node("Scan", &["a"], &["b"]).sub(5, body_with(tensor))])])
    }),
    ("EXTERNAL in sparse values", "the listed file in sparse values", |tensor| {
        model(graph([relu()]).sub(15, msg().sub(1, tensor)))
    }),
    ("EXTERNAL in sparse indices", "the listed file in sparse indices", |tensor| {
        model(graph([relu()]).sub(15, msg().sub(2, tensor)))
    }),
    ("EXTERNAL in a sparse attribute", "the listed file in a sparse attribute", |tensor| {
        in_node(msg().sub(5, attribute("a", 11, msg().sub(22, msg().sub(1, tensor)))))
    }),
    ("EXTERNAL in a list of sparse tensors", "the listed file in a list of sparse tensors", |tensor| {
        in_node(msg().sub(5, attribute("a", 12, msg().sub(23, msg().sub(2, tensor)))))
    }),
];

pub fn cases() -> Vec<Case> {
    let at = |location: &str| external(&[("location", location)]);
    let more = |key, value| with_initializer(external(&[("location", "weights.bin"), (key, value)]));
    let mut cases: Vec<Case> = [
        ("an absolute path", "/etc/passwd"),
        ("a parent folder", "../weights.bin"),
        ("parents behind a folder", "a/../../weights.bin"),
        ("a folder", "sub/weights.bin"),
        ("this folder", "./weights.bin"),
        ("a trailing slash", "weights.bin/"),
        ("two slashes", "//weights.bin"),
        ("a backslash", "..\\weights.bin"),
        ("a drive", "C:\\weights.bin"),
        ("a drive without a backslash", "C:weights.bin"),
        ("a network share", "\\\\host\\share\\weights.bin"),
        ("a URL", "file:///weights.bin"),
        ("the process's own memory", "/proc/self/mem"),
        ("a zero byte behind the name", "weights.bin\0"),
        ("a zero byte behind another path", "/etc/passwd\0weights.bin"),
        ("a line feed behind the name", "weights.bin\n"),
        ("a space before the name", " weights.bin"),
        ("another case", "Weights.bin"),
        ("an alternate stream", "weights.bin::$DATA"),
        ("two dots", ".."),
        ("one dot", "."),
        ("no name", ""),
        ("a hidden file", ".weights.bin"),
        ("a name that is not in the manifest", "other.bin"),
        ("the beginning of a name", "weights"),
        ("look-alike letters", "weıghts.bin"),
        ("percent signs", "%2e%2e%2fweights.bin"),
        ("a home folder", "~/weights.bin"),
    ]
    .map(|(name, location)| (name, "MODEL_EXTERNAL", with_initializer(at(location))))
    .into();
    // There ONNX Runtime would open the file, whatever it was given in memory: a name that is listed makes no difference.
    for (path, listed, place) in PLACES {
        cases.push((path, "MODEL_EXTERNAL", place(at("/etc/passwd"))));
        cases.push((listed, "MODEL_EXTERNAL", place(at("weights.bin"))));
    }
    cases.extend([
        (
            "an address in memory",
            "MODEL_EXTERNAL_MEMORY",
            with_initializer(external(&[("location", "*/_ORT_MEM_ADDR_/*"), ("offset", "4096"), ("length", "16")])),
        ),
        (
            "another mark of an address",
            "MODEL_EXTERNAL_MEMORY",
            with_initializer(at("*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*")),
        ),
        (
            "the mark after the path",
            "MODEL_EXTERNAL",
            with_initializer(msg().sub(13, entry("location", "../x")).int(14, 1).and(shaped(1, &[4]))),
        ),
        ("EXTERNAL without a location", "MODEL_EXTERNAL_ENTRY", with_initializer(external(&[("offset", "0")]))),
        ("EXTERNAL without entries", "MODEL_EXTERNAL_ENTRY", with_initializer(external(&[]))),
        ("an unknown key", "MODEL_EXTERNAL_ENTRY", more("url", "http://localhost")),
        ("weights in a kernel's own layout", "MODEL_EXTERNAL_ENTRY", more("prepacked_0", "key|0;16;0")),
        ("two locations", "MODEL_EXTERNAL_ENTRY", more("location", "weights.bin")),
        (
            "two offsets",
            "MODEL_EXTERNAL_ENTRY",
            with_initializer(external(&[("location", "weights.bin"), ("offset", "0"), ("offset", "16")])),
        ),
        (
            "a key without value",
            "MODEL_EXTERNAL_ENTRY",
            with_initializer(external(&[("location", "weights.bin")]).sub(13, msg().text(1, "offset"))),
        ),
        ("a negative offset", "MODEL_EXTERNAL_ENTRY", more("offset", "-1")),
        ("an offset with a space", "MODEL_EXTERNAL_ENTRY", more("offset", " 0")),
        ("an offset with a plus", "MODEL_EXTERNAL_ENTRY", more("offset", "+0")),
        ("an offset with a zero in front", "MODEL_EXTERNAL_ENTRY", more("offset", "010")),
        ("an empty offset", "MODEL_EXTERNAL_ENTRY", more("offset", "")),
        ("an offset of 2^63", "MODEL_EXTERNAL_ENTRY", more("offset", "9223372036854775808")),
        ("a checksum that is none", "MODEL_EXTERNAL_ENTRY", more("checksum", "../../x")),
        ("an offset of 2^63 - 1", "MODEL_EXTERNAL_RANGE", more("offset", "9223372036854775807")),
        ("one byte beyond the file", "MODEL_EXTERNAL_RANGE", more("offset", "17")),
        ("a length that is not the tensor's", "MODEL_EXTERNAL_RANGE", more("length", "12")),
        (
            "a tensor larger than the file",
            "MODEL_EXTERNAL_RANGE",
            with_initializer(shaped(1, &[9]).sub(13, entry("location", "weights.bin")).int(14, 1)),
        ),
        (
            "external entries without the mark",
            "MODEL_EXTERNAL_MIXED",
            with_initializer(tensor("w", 1, &[1], &[0; 4]).sub(13, entry("location", "weights.bin"))),
        ),
        (
            "external entries with DEFAULT",
            "MODEL_EXTERNAL_MIXED",
            with_initializer(tensor("w", 1, &[1], &[0; 4]).sub(13, entry("location", "weights.bin")).int(14, 0)),
        ),
        (
            "EXTERNAL beside raw data",
            "MODEL_EXTERNAL_MIXED",
            with_initializer(external(&[("location", "weights.bin")]).bytes(9, &[0; 16])),
        ),
        (
            "EXTERNAL beside floats",
            "MODEL_EXTERNAL_MIXED",
            with_initializer(external(&[("location", "weights.bin")]).bytes(4, &[0; 16])),
        ),
        (
            "external strings",
            "MODEL_DATA",
            with_initializer(shaped(8, &[1]).sub(13, entry("location", "weights.bin")).int(14, 1)),
        ),
    ]);
    cases
}
