//! Models that ask for what an enclave does not run: operators, loops, functions, options.
//! Their bytes are as an exporter would write them.

use super::{Case, constant, header, in_node, one_of};
use crate::support::{
    Msg, attribute, body, call, call_to, computing, entry, function, graph, loop_node, model, model_with, msg, node,
    one, opset, relu, shaped, tensor, truth, while_node, with_functions,
};

/// A model that calls a function of these nodes.
fn with_body(nodes: Vec<Msg>) -> Vec<u8> {
    with_functions([function("f", nodes)])
}

pub fn cases() -> Vec<Case> {
    let in_domain = |domain: &str, op: &str| one(node(op, &["x"], &["y"]).text(7, domain));
    let imported = |domain: &str, op: &str| {
        model_with(graph([node(op, &["x"], &["y"]).text(7, domain)]), msg().sub(8, opset(domain, 1)))
    };
    let endless = |content: Msg| one_of([node("Constant", &[], &["m"]).sub(5, content), loop_node("m")]);
    let large = i64::MAX;
    let long = |node: Msg, condition: Msg| {
        model(graph([node]).sub(5, tensor("m", 7, &[], &large.to_le_bytes())).sub(5, condition))
    };
    let referring = |kind| msg().text(1, "value_int").text(21, "n").int(20, kind);
    let scan_over = |inner: Msg| node("Scan", &["x"], &["y"]).sub(5, attribute("body", 5, msg().sub(6, body([inner]))));
    let doubling: Vec<Msg> = (0..40)
        .map(|at| {
            let name = if at == 0 { "f".to_owned() } else { format!("f{at}") };
            let next = format!("f{}", at + 1);
            function(&name, if at == 39 { vec![relu()] } else { vec![call_to(&next, "y"), call_to(&next, "z")] })
        })
        .collect();
    let mut padded: Vec<Msg> = (0..15)
        .map(|at| {
            let name = if at == 0 { "f".to_owned() } else { format!("f{at}") };
            let next = format!("f{}", at + 1);
            function(&name, if at == 14 { vec![relu()] } else { vec![call_to(&next, "y"), call_to(&next, "z")] })
        })
        .collect();
    padded.push(function("unused", (0..60_000).map(|at| node("Relu", &["x"], &[&format!("r{at}")]))));
    let padded = with_functions(padded);
    // Six subgraphs around a call, and six around its 128 nodes.
    let within = |nodes: Vec<Msg>| {
        (0..6).fold(nodes, |inner, _| {
            vec![node("Scan", &["x"], &[]).sub(5, attribute("body", 5, msg().sub(6, body(inner))))]
        })
    };
    let outer = function("f", within(vec![call_to("g", "y")]));
    let many = function("f", within(within((0..16).map(|at| call_to("g", &format!("y{at}"))).collect())));
    let inner = function("g", within(vec![relu(); 128]));
    let heavy = function("h", [constant(tensor("", 1, &[1 << 18], &[0; 1 << 20]))]);
    let calls = |name: &str| (0..80).map(|at| call_to(name, &format!("y{at}"))).collect::<Vec<_>>();
    let copying = with_functions([function("f", calls("g")), function("g", calls("h")), heavy]);
    let chain: Vec<Msg> = (0..70)
        .map(|at| {
            let name = if at == 0 { "f".to_owned() } else { format!("f{at}") };
            function(&name, if at == 69 { relu() } else { call(&format!("f{}", at + 1)) }.into_list())
        })
        .collect();
    let spiral: Vec<Msg> = (0..14)
        .map(|at| {
            let name = if at == 0 { "f".to_owned() } else { format!("f{at}") };
            function(&name, if at == 13 { relu() } else { scan_over(call(&format!("f{}", at + 1))) }.into_list())
        })
        .collect();
    vec![
        ("training information", "MODEL_TRAINING", header(&msg().sub(20, msg()).0)),
        ("session options in the metadata", "MODEL_METADATA", header(&msg().sub(14, entry("ort_config", "{}")).0)),
        ("session options in capitals", "MODEL_METADATA", header(&msg().sub(14, entry("ORT_CONFIG", "{}")).0)),
        (
            "session options in the graph's metadata",
            "MODEL_METADATA",
            model(graph([relu()]).sub(16, entry("ort_config", "{}"))),
        ),
        ("IR version 2", "MODEL_IR_VERSION", msg().int(1, 2).0),
        ("IR version 14", "MODEL_IR_VERSION", msg().int(1, 14).0),
        ("a negative IR version", "MODEL_IR_VERSION", msg().int(1, -1).0),
        ("IR version 10 plus 2^32", "MODEL_IR_VERSION", msg().int(1, (1 << 32) | 10).0),
        ("a future operator set", "MODEL_OPSET", header(&msg().sub(8, opset("ai.onnx", 99)).0)),
        ("an operator set of version 0", "MODEL_OPSET", header(&msg().sub(8, opset("ai.onnx.ml", 0)).0)),
        ("an operator set twice", "MODEL_OPSET", header(&msg().sub(8, opset("ai.onnx", 21)).0)),
        ("an operator whose set is not imported", "MODEL_OPSET", in_domain("com.microsoft", "Gelu")),
        ("a custom domain", "MODEL_DOMAIN", imported("com.example.plugin", "Relu")),
        ("the domain of a plug-in library", "MODEL_DOMAIN", imported("ai.onnx.contrib", "StringUpper")),
        ("the domain of training", "MODEL_DOMAIN", imported("ai.onnx.preview.training", "Gradient")),
        ("an internal domain", "MODEL_DOMAIN", imported("com.microsoft.nchwc", "Conv")),
        ("a domain in other letters", "MODEL_DOMAIN", imported("AI.ONNX", "Relu")),
        ("a domain with a space", "MODEL_DOMAIN", imported("ai.onnx ", "Relu")),
        ("a domain with a zero byte", "MODEL_DOMAIN", imported("ai.onnx\0", "Relu")),
        ("a custom domain in a subgraph", "MODEL_DOMAIN", one(scan_over(node("Custom", &[], &[]).text(7, "custom")))),
        (
            "a custom domain in a function",
            "MODEL_DOMAIN",
            with_functions([function("f", [node("Custom", &[], &[]).text(7, "custom")])]),
        ),
        ("a custom operator in the standard domain", "MODEL_OPERATOR", one(node("Backdoor", &["x"], &["y"]))),
        ("an operator in other letters", "MODEL_OPERATOR", one(node("relu", &["x"], &["y"]))),
        ("an early experiment of ONNX", "MODEL_OPERATOR", one(node("ImageScaler", &["x"], &["y"]))),
        ("no operator", "MODEL_OPERATOR", one(msg().text(1, "x").text(2, "y"))),
        ("an operator with a zero byte", "MODEL_OPERATOR", one(node("Relu\0", &["x"], &["y"]))),
        ("a compiled context", "MODEL_OPERATOR", imported("com.microsoft", "EPContext")),
        ("a foreign engine", "MODEL_OPERATOR", imported("com.microsoft", "Snpe")),
        ("a Python function", "MODEL_OPERATOR", imported("com.microsoft", "PythonOp")),
        ("a search with graphs of its own", "MODEL_OPERATOR", imported("com.microsoft", "BeamSearch")),
        ("a standard operator with an overload", "MODEL_OPERATOR", in_node(msg().text(8, "mine"))),
        (
            "an attribute of another type than its content",
            "MODEL_ATTRIBUTE",
            in_node(msg().sub(5, attribute("a", 2, msg().float(2, 1.0)))),
        ),
        (
            "an attribute of two contents",
            "MODEL_ATTRIBUTE",
            in_node(msg().sub(5, attribute("a", 2, msg().int(3, 1).sub(6, body([]))))),
        ),
        ("an attribute without type", "MODEL_ATTRIBUTE", in_node(msg().sub(5, msg().text(1, "a").int(3, 1)))),
        ("an attribute without name", "MODEL_ATTRIBUTE", in_node(msg().sub(5, msg().int(3, 1).int(20, 2)))),
        (
            "an attribute twice",
            "MODEL_ATTRIBUTE",
            in_node(msg().subs(5, [1, 2].map(|at| attribute("a", 2, msg().int(3, at))))),
        ),
        ("a tensor attribute without tensor", "MODEL_ATTRIBUTE", in_node(msg().sub(5, attribute("a", 4, msg())))),
        (
            "a graph where none belongs",
            "MODEL_ATTRIBUTE",
            in_node(msg().sub(5, attribute("a", 5, msg().sub(6, body([]))))),
        ),
        (
            "a graph for a function",
            "MODEL_ATTRIBUTE",
            model_with(
                graph([call("f").sub(5, attribute("a", 5, msg().sub(6, body([]))))]),
                msg().sub(25, function("f", [])).sub(8, opset("local", 1)),
            ),
        ),
        (
            "a graph as a function's default",
            "MODEL_ATTRIBUTE",
            with_functions([function("f", []).sub(11, attribute("a", 5, msg().sub(6, body([]))))]),
        ),
        ("a reference outside of a function", "MODEL_REFERENCE", in_node(msg().sub(5, referring(2)))),
        (
            "a reference with content",
            "MODEL_REFERENCE",
            with_functions([function("f", [node("Constant", &[], &["b"]).sub(5, referring(2).int(3, 1))])]),
        ),
        (
            "a reference to a graph",
            "MODEL_REFERENCE",
            with_functions([function("f", [node("Constant", &[], &["b"]).sub(5, referring(5))])]),
        ),
        ("a loop without a trip count", "MODEL_LOOP", one(loop_node(""))),
        (
            "a loop without inputs",
            "MODEL_LOOP",
            one(node("Loop", &[], &["y"]).sub(5, attribute("body", 5, msg().sub(6, body([]))))),
        ),
        ("a loop without a trip count in a function", "MODEL_LOOP", with_functions([function("f", [loop_node("")])])),
        ("a loop without a trip count in a subgraph", "MODEL_LOOP", one(scan_over(loop_node("")))),
        (
            "a loop of 2^63 - 1 rounds",
            "MODEL_LOOP",
            endless(attribute("value", 4, msg().sub(5, shaped(7, &[]).packed(7, &[large])))),
        ),
        (
            "a loop of 2^63 - 1 rounds, raw",
            "MODEL_LOOP",
            endless(attribute("value", 4, msg().sub(5, tensor("", 7, &[1], &large.to_le_bytes())))),
        ),
        (
            "a loop of 2^63 - 1 rounds, an integer",
            "MODEL_LOOP",
            endless(attribute("value_int", 2, msg().int(3, large))),
        ),
        ("a loop of 2^63 - 1 rounds, a list", "MODEL_LOOP", endless(attribute("value_ints", 7, msg().int(8, large)))),
        (
            "a loop of 2^63 - 1 rounds, an initialiser",
            "MODEL_LOOP",
            model(graph([loop_node("m")]).sub(5, tensor("m", 7, &[], &large.to_le_bytes()))),
        ),
        (
            "a loop whose trip count is in a file",
            "MODEL_LOOP",
            model(
                graph([loop_node("m")])
                    .sub(5, shaped(7, &[1]).text(8, "m").sub(13, entry("location", "weights.bin")).int(14, 1)),
            ),
        ),
        (
            "a loop whose trip count is sparse",
            "MODEL_LOOP",
            model(
                graph([loop_node("m")]).sub(
                    15,
                    msg()
                        .sub(1, tensor("m", 7, &[1], &large.to_le_bytes()))
                        .sub(2, shaped(7, &[1]).packed(7, &[0]))
                        .int(3, 1),
                ),
            ),
        ),
        (
            "a loop whose trip count is a function's attribute",
            "MODEL_LOOP",
            with_functions([function("f", [node("Constant", &[], &["m"]).sub(5, referring(2)), loop_node("m")])]),
        ),
        (
            "a loop whose trip count a call may leave out",
            "MODEL_LOOP",
            with_functions([function("f", [loop_node("a")])]),
        ),
        (
            "a loop without a trip count while true",
            "MODEL_LOOP",
            model(graph([while_node("", "t", body([]))]).sub(5, truth("t", 1))),
        ),
        ("a loop of 2^63 - 1 rounds while true", "MODEL_LOOP", long(while_node("m", "t", body([])), truth("t", 1))),
        (
            "a loop of 2^63 - 1 rounds while an integer is 2",
            "MODEL_LOOP",
            long(while_node("m", "t", body([])), shaped(9, &[1]).packed(5, &[2]).text(8, "t")),
        ),
        (
            "a loop of 2^63 - 1 rounds while a file says so",
            "MODEL_LOOP",
            long(
                while_node("m", "t", body([])),
                shaped(9, &[]).text(8, "t").sub(13, entry("location", "weights.bin")).int(14, 1),
            ),
        ),
        (
            "a loop of 2^63 - 1 rounds while its own condition stays true",
            "MODEL_LOOP",
            long(while_node("m", "t", computing(node("Identity", &["c"], &["next"]))), truth("t", 1)),
        ),
        (
            "a loop of 2^63 - 1 rounds while another constant is true",
            "MODEL_LOOP",
            long(while_node("m", "t", computing(node("Identity", &["t"], &["next"]))), truth("t", 1)),
        ),
        (
            "a loop of 2^63 - 1 rounds while its body says true",
            "MODEL_LOOP",
            long(
                while_node(
                    "m",
                    "t",
                    computing(
                        node("Constant", &[], &["next"]).sub(5, attribute("value", 4, msg().sub(5, truth("", 1)))),
                    ),
                ),
                truth("t", 1),
            ),
        ),
        (
            "a loop of 2^63 - 1 rounds without a first condition",
            "MODEL_LOOP",
            long(while_node("m", "", computing(node("Not", &["c"], &["next"]))), truth("t", 1)),
        ),
        (
            "a loop whose trip count and condition a call may leave out",
            "MODEL_LOOP",
            with_functions([function("f", [while_node("a", "x", body([]))])]),
        ),
        ("a function called by itself", "MODEL_RECURSION", with_functions([function("f", [call("f")])])),
        (
            "three functions in a ring",
            "MODEL_RECURSION",
            with_functions([
                function("f", [call("g")]),
                function("g", [scan_over(call("h"))]),
                function("h", [call("f")]),
            ]),
        ),
        (
            "a ring that nobody calls",
            "MODEL_RECURSION",
            with_functions([function("f", [relu()]), function("g", [call("g")])]),
        ),
        ("a call of nothing", "MODEL_FUNCTION", with_functions([function("f", [call("g")])])),
        (
            "a call of another overload",
            "MODEL_FUNCTION",
            model_with(graph([call("f").text(8, "v2")]), msg().sub(25, function("f", [])).sub(8, opset("local", 1))),
        ),
        ("a function twice", "MODEL_FUNCTION", with_functions([function("f", []), function("f", [relu()])])),
        ("a function without name", "MODEL_FUNCTION", with_functions([msg().text(10, "local")])),
        ("a function named as a standard operator", "MODEL_FUNCTION", with_functions([msg().text(1, "Relu")])),
        (
            "a function in the standard domain",
            "MODEL_FUNCTION",
            with_functions([msg().text(1, "f").text(10, "ai.onnx")]),
        ),
        (
            "a function in ONNX Runtime's domain",
            "MODEL_FUNCTION",
            with_functions([msg().text(1, "Gelu").text(10, "com.microsoft")]),
        ),
        (
            "a function whose name joins to another's",
            "MODEL_FUNCTION",
            with_functions([msg().text(1, "b:f").text(10, "local")]),
        ),
        (
            "a function whose domain is not imported",
            "MODEL_OPSET",
            model_with(graph([call("f")]), msg().sub(25, function("f", []))),
        ),
        (
            "a function that does not import what it uses",
            "MODEL_OPSET",
            with_functions([msg().text(1, "f").text(10, "local").text(4, "x").sub(7, relu())]),
        ),
        ("calls that double fourteen times beside functions that nobody calls", "MODEL_EXPANSION", padded),
        ("nodes nested through calls", "MODEL_DEPTH", with_functions([outer, inner])),
        (
            "calls of an empty function within twelve subgraphs",
            "MODEL_DEPTH",
            with_functions([many, function("g", [])]),
        ),
        ("calls that double forty times", "MODEL_EXPANSION", with_functions(doubling)),
        ("calls that multiply a function's 1 MiB to 6 GiB", "MODEL_EXPANSION", copying),
        ("calls nested seventy deep", "MODEL_DEPTH", with_functions(chain)),
        ("subgraphs nested through calls", "MODEL_DEPTH", with_functions(spiral)),
        ("a name in a function that nothing defines", "MODEL_FUNCTION", with_body(vec![node("Relu", &["q"], &["y"])])),
        (
            "a function's nodes out of order",
            "MODEL_FUNCTION",
            with_body(vec![node("Relu", &["t"], &["y"]), node("Relu", &["x"], &["t"])]),
        ),
        (
            "a function's nodes in a ring",
            "MODEL_FUNCTION",
            with_body(vec![node("Relu", &["t"], &["y"]), node("Relu", &["y"], &["t"])]),
        ),
        ("two nodes of a function with one output", "MODEL_FUNCTION", with_body(vec![relu(), relu()])),
        ("a function's input that a node makes again", "MODEL_FUNCTION", with_body(vec![node("Relu", &["x"], &["a"])])),
        ("a function's input twice", "MODEL_FUNCTION", with_functions([function("f", [relu()]).text(4, "x")])),
        (
            "a function's output that nothing makes",
            "MODEL_FUNCTION",
            with_functions([function("f", [relu()]).text(5, "gone")]),
        ),
        (
            "a name in a function's subgraph that nothing defines",
            "MODEL_FUNCTION",
            with_body(vec![scan_over(node("Relu", &["q"], &["r"]))]),
        ),
        (
            "a name of another subgraph",
            "MODEL_FUNCTION",
            with_body(vec![scan_over(node("Relu", &["x"], &["r"])), node("Relu", &["r"], &["z"])]),
        ),
        (
            "what crashed ONNX Runtime 1.24",
            "MODEL_FUNCTION",
            with_functions([msg()
                .text(1, "f")
                .text(4, "y")
                .text(4, "w")
                .text(5, "y")
                .text(10, "local")
                .sub(9, opset("", 21))
                .sub(7, node("MatMul", &["x", "w"], &["t"]))
                .sub(7, node("Elu", &["t"], &["y"]))]),
        ),
    ]
}
