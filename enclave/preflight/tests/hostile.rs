//! Turns a corpus of hostile models, one defect each, into the code that must fire, whole and a byte at a time.
//! What is beyond single defects (cuts, splits, mutations) is in `stream.rs`.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod corpus;
mod support;

use corpus::{
    beside, constant, externals, graphs, header, in_node, nested, nested_of, nested_types, one_of, protobuf, sizes,
};
use support::{
    Msg, attribute, body, call, call_to, computing, external, function, graph, loop_node, model, msg, node, one, opset,
    relu, scan, scan_in, shaped, tensor, truth, value, while_node, with_functions, with_initializer,
};
use vouchsafe_preflight::{ExternalFile, Limits, Reason, ValueType, Walker, Warning};

#[test]
fn every_hostile_model_is_refused_with_its_code() {
    let mut names = std::collections::BTreeSet::new();
    let mut codes = std::collections::BTreeMap::<_, u32>::new();
    let mut wrong = Vec::new();
    for (name, code, bytes) in [protobuf::cases(), sizes::cases(), externals::cases(), graphs::cases()].concat() {
        assert!(names.insert(name), "{name} stands twice");
        let whole = scan(&bytes);
        assert_eq!(scan_in(&bytes, 1, Limits::default()), whole, "{name}, a byte at a time");
        match whole {
            Err(refused) if refused.code() == code => {
                assert_eq!(refused.exit(), 6);
                assert!(!refused.advice().is_empty() && !refused.to_string().contains("passwd"), "{name}");
                *codes.entry(code).or_default() += 1;
            }
            Err(refused) => wrong.push(format!("{name}: {code}, not {} ({refused})", refused.code())),
            Ok(_) => wrong.push(format!("{name}: {code}, not accepted")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} hostile models, {} codes: {codes:?}", names.len(), codes.len());
    assert!(names.len() >= 200 && codes.len() >= 36, "the corpus shrank");
}

/// A defect's neighbour that is fine: no rule above fires for another reason.
#[test]
fn what_is_next_to_a_defect_is_accepted() {
    let small = tensor("m", 7, &[1], &1000_i64.to_le_bytes());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("subgraphs nested 12 deep", nested(12)),
        ("90 nodes within 11 subgraphs", nested_of(11, 90)),
        ("5000 subgraphs side by side", beside(5_000)),
        ("100 nodes in each of 20 loops in an If in a loop", detection(100, 20)),
        (
            "calls that double twelve times",
            with_functions((0..13).map(|at| {
                let name = if at == 0 { "f".to_owned() } else { format!("f{at}") };
                let next = format!("f{}", at + 1);
                function(&name, if at == 12 { vec![] } else { vec![call_to(&next, "y"), call_to(&next, "z")] })
            })),
        ),
        (
            "20000 nodes in functions that are called once",
            with_functions([
                function("f", [call_to("g", "y"), call_to("h", "z")]),
                function("g", (0..10_000).map(|at| node("Relu", &["x"], &[&format!("r{at}")]))),
                function("h", (0..10_000).map(|at| node("Relu", &["x"], &[&format!("r{at}")]))),
            ]),
        ),
        (
            "a function's descriptions of values before its nodes",
            with_functions([msg()
                .text(1, "f")
                .text(4, "x")
                .text(5, "b")
                .sub(12, value("b", 1, &[2]))
                .sub(7, node("Relu", &["x"], &["b"]))
                .sub(9, opset("", 21))
                .text(10, "local")]),
        ),
        ("types nested 20 deep", nested_types(20)),
        ("a name of 4096 bytes", in_node(msg().text(3, &"n".repeat(4096)))),
        (
            "data to the file's last byte",
            with_initializer(external(&[("location", "weights.bin"), ("offset", "16"), ("length", "16")])),
        ),
        ("a checksum", with_initializer(external(&[("location", "weights.bin"), ("checksum", &"0a".repeat(20))]))),
        ("no elements, no data", with_initializer(shaped(1, &[0]))),
        ("empty raw data", with_initializer(tensor("w", 1, &[0, 5], &[]))),
        ("a scalar", with_initializer(tensor("w", 1, &[], &[0; 4]))),
        ("complex numbers", with_initializer(shaped(14, &[2]).bytes(4, &[0; 16]))),
        ("two-bit integers", with_initializer(tensor("w", 26, &[5], &[0; 2]))),
        ("the other name of the standard domain", in_node(msg().text(7, "ai.onnx"))),
        ("an empty list", in_node(msg().sub(5, attribute("axes", 7, msg())))),
        ("an integer that a writer left out because it is 0", in_node(msg().sub(5, attribute("axis", 2, msg())))),
        ("a loop of a thousand rounds", model(graph([loop_node("m")]).sub(5, small))),
        ("a loop over an input", one(loop_node("x"))),
        (
            "a large number that no loop takes",
            model(graph([relu()]).sub(5, tensor("m", 7, &[1], &i64::MAX.to_le_bytes()))),
        ),
        (
            "calls that double ten times",
            with_functions((0..10).map(|at| {
                let name = if at == 0 { "f".to_owned() } else { format!("f{at}") };
                let next = format!("f{}", at + 1);
                function(&name, if at == 9 { vec![relu()] } else { vec![call_to(&next, "y"), call_to(&next, "z")] })
            })),
        ),
        ("a function that nobody calls", with_functions([function("f", [relu()]), function("g", [relu()])])),
        (
            "a reference in a function",
            with_functions([function(
                "f",
                [node("Elu", &["a"], &["b"]).sub(5, msg().text(1, "alpha").text(21, "n").int(20, 1))],
            )]),
        ),
        (
            "functions before the graph",
            msg()
                .int(1, 10)
                .sub(25, function("f", [relu()]))
                .sub(8, opset("local", 1))
                .sub(8, opset("", 21))
                .sub(7, graph([call("f")]))
                .0,
        ),
        ("an unused foreign operator set", header(&msg().sub(8, opset("ai.onnx.training", 1)).0)),
        ("device configurations", header(&msg().sub(26, msg().text(1, "two").int(2, 2).text(3, "cpu")).0)),
        ("ORTM elsewhere", header(&msg().text(4, "an ORTM").0)),
    ];
    for (name, bytes) in cases {
        let whole = scan(&bytes);
        assert!(whole.is_ok(), "{name}: {whole:?}");
        assert_eq!(scan_in(&bytes, 1, Limits::default()), whole, "{name}, a byte at a time");
    }
}

#[test]
fn a_refusal_tells_where() {
    let place = |bytes: &[u8]| scan(bytes).unwrap_err().place().to_owned();
    assert_eq!(place(&one(node("Backdoor", &[], &[]))), "graph.node[0]");
    assert_eq!(
        place(&model(graph([relu(), constant(external(&[("location", "../x")]))]))),
        "graph.node[1].attribute[0].t.external_data[0]"
    );
    assert_eq!(place(&with_functions([function("f", [relu(), call_to("gone", "z")])])), "functions[0].node[1]");
    assert_eq!(
        place(&one_of([
            relu(),
            loop_node("m"),
            node("Constant", &[], &["m"]).sub(5, attribute("value_int", 2, msg().int(3, i64::MAX)))
        ])),
        "graph.node[1]"
    );
    assert_eq!(place(&[]), "");
}

/// What tf2onnx and TorchScript write for `while`: a trip count of 2^63 - 1, or none, and a condition that is computed.
#[test]
fn a_loop_that_only_its_condition_ends_is_accepted_with_a_warning() {
    let large = || tensor("m", 7, &[], &i64::MAX.to_le_bytes());
    let not = || computing(node("Not", &["c"], &["next"]));
    let constant = |value: i64| node("Constant", &[], &["m"]).sub(5, attribute("value_int", 2, msg().int(3, value)));
    let less = || node("Less", &["x", "x"], &["t"]);
    let long: [(&str, Msg); 7] = [
        ("a computed condition", graph([less(), while_node("m", "t", body([]))]).sub(5, large())),
        ("a computed condition, a Constant", graph([constant(i64::MAX), less(), while_node("m", "t", body([]))])),
        ("an input", graph([while_node("m", "x", body([]))]).sub(5, large())),
        ("no trip count", graph([less(), while_node("", "t", body([]))])),
        ("no round", graph([while_node("m", "t", body([]))]).sub(5, large()).sub(5, truth("t", 0))),
        ("true, then computed", graph([while_node("m", "t", not())]).sub(5, large()).sub(5, truth("t", 1))),
        ("no trip count, true, then computed", graph([while_node("", "t", not())]).sub(5, truth("t", 1))),
    ];
    for (name, graph) in long {
        let report = scan(&model(graph)).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert!(report.warnings.contains(&Warning::LongLoop), "{name}");
    }
    let short = graph([constant(1000), while_node("m", "t", body([]))]).sub(5, truth("t", 1));
    assert!(!scan(&model(short)).unwrap().warnings.contains(&Warning::LongLoop));
    // In a function, a condition that a call may leave out does not count, and a computed one does.
    let in_function = |nodes: Vec<Msg>| scan(&with_functions([function("f", nodes)])).map(|report| report.warnings);
    assert_eq!(in_function(vec![while_node("a", "x", body([]))]).unwrap_err().reason(), Reason::LoopInput);
    assert!(in_function(vec![less(), while_node("a", "t", body([]))]).unwrap().contains(&Warning::LongLoop));
}

/// Some converters write an unknown size as -1.
#[test]
fn minus_one_is_an_unknown_size() {
    let shape = msg().sub(1, msg().int(1, -1)).sub(1, msg().int(1, 4));
    let input = msg().text(1, "z").sub(2, msg().sub(1, msg().int(1, 1).sub(2, shape)));
    let report = scan(&model(graph([relu()]).sub(11, input))).unwrap();
    assert_eq!(report.inputs[1].value_type, ValueType::Tensor { element: 1, shape: Some(vec![-1, 4]) });
}

/// Some limits share a code; each fires.
#[test]
fn a_refusal_tells_which_limit() {
    let cases = graphs::cases();
    let within = |wanted: &str, limits: Limits| {
        let (_, _, bytes) = cases.iter().find(|(name, ..)| *name == wanted).unwrap();
        scan_in(bytes, bytes.len(), limits).unwrap_err().reason()
    };
    let reason = |wanted: &str| within(wanted, Limits::default());
    assert_eq!(reason("calls that double forty times"), Reason::Expansion(1 << 14));
    assert_eq!(reason("calls that multiply a function's 1 MiB to 6 GiB"), Reason::Copies(1 << 32));
    let flat = Limits { nested_nodes: u64::MAX, ..Limits::default() };
    assert_eq!(within("subgraphs nested through calls", flat), Reason::Subgraphs(12));
    assert_eq!(reason("nodes nested through calls"), Reason::Nesting(1 << 18));
}

/// Loops within an If within a loop, as detection models have them.
fn detection(nodes: usize, loops: usize) -> Vec<u8> {
    let over = |inner: Vec<Msg>| while_node("x", "x", body(inner));
    let inner: Vec<_> = (0..loops).map(|_| over(vec![relu(); nodes])).collect();
    let choice = node("If", &["x"], &["y"]).sub(5, attribute("then_branch", 5, msg().sub(6, body(inner))));
    one_of([over(vec![choice.sub(5, attribute("else_branch", 5, msg().sub(6, body([relu()]))))])])
}

#[test]
fn a_file_is_for_initialisers_of_the_main_graph() {
    scan(&with_initializer(external(&[("location", "weights.bin")]))).unwrap();
    for (_, name, place) in externals::PLACES {
        let refused = scan(&place(external(&[("location", "weights.bin")]))).unwrap_err();
        assert_eq!(refused.reason(), Reason::ExternalPlace, "{name}");
        assert!(refused.to_string().contains("initialiser of the main graph"), "{refused}");
    }
}

/// The list may come from a folder: what lies there does not make a path a name.
#[test]
fn a_path_is_refused_even_when_it_is_listed() {
    for name in ["../w", "a/w", "/w", ".w", "a\\w", "w:1", "*/_ORT_MEM_ADDR_/*"] {
        let mut walker = Walker::new(Limits::default(), vec![ExternalFile { name: name.to_owned(), length: 1 << 20 }]);
        assert!(walker.feed(&with_initializer(external(&[("location", name)]))).is_err(), "{name}");
    }
}

/// The page that explains the codes, the code that gives them, and the corpus that fires them name the same ones.
#[test]
fn the_document_names_every_code_and_the_corpus_fires_it() {
    let codes = |text: &str| -> std::collections::BTreeSet<String> {
        let words = text.split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_'));
        words.filter(|word| word.starts_with("MODEL_")).map(str::to_owned).collect()
    };
    let source = codes(include_str!("../src/error.rs"));
    let mut fired: std::collections::BTreeSet<String> =
        [protobuf::cases(), sizes::cases(), externals::cases(), graphs::cases()]
            .concat()
            .iter()
            .map(|(_, code, _)| (*code).to_owned())
            .collect();
    // A model of more than 1 TiB; the test of limits has it.
    fired.insert("MODEL_TOO_LARGE".to_owned());
    assert_eq!(codes(include_str!("../../../docs/onnx-preflight.md")), source);
    assert_eq!(fired, source);
}
