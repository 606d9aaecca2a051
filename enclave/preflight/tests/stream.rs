//! Turns good models, cut, split and mutated, into the rule that the stream's shape changes nothing and nothing panics.
//! Which rule a hostile model breaks is the business of `hostile.rs`.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use support::{good, model, model_with, msg, node, one, relu, scan, scan_in, walker};
use vouchsafe_preflight::{Limits, Report, ValueType, Warning, element_name};

const BREAST_CANCER: &[u8] = include_bytes!("../../../examples/breast-cancer/model.onnx");

#[test]
fn the_report_of_a_good_model_names_what_is_in_it() {
    let report = scan(&good()).unwrap();
    assert_eq!((report.ir_version, report.producer.as_str(), report.bytes), (10, "test", good().len() as u64));
    let names: Vec<_> = report.inputs.iter().map(|value| value.name.as_str()).collect();
    assert_eq!(names, ["x"], "w is an initialiser");
    assert_eq!(report.inputs[0].value_type, ValueType::Tensor { element: 1, shape: Some(vec![-1, 4]) });
    assert_eq!(report.outputs.len(), 1);
    assert_eq!((report.nodes, report.expanded_nodes, report.depth), (11, 11, 1));
    assert_eq!(report.operators[&(String::new(), "Identity".to_owned())], 2);
    assert_eq!(report.operators[&("local".to_owned(), "f".to_owned())], 1);
    assert_eq!((report.functions.len(), report.functions[0].nodes), (1, 1));
    assert_eq!(report.initializers.count, 7);
    assert_eq!(report.initializers.bytes, 24 + 12 + 16 + 5 + 2 + 16 + (8 + 16));
    assert_eq!(
        (report.external[0].name.as_str(), report.external[0].tensors, report.external[0].bytes),
        ("weights.bin", 1, 16)
    );
    assert_eq!(report.opsets.len(), 4);
    assert_eq!(report.warnings, []);
}

#[test]
fn the_committed_example_is_accepted() {
    let report = scan(BREAST_CANCER).unwrap();
    assert_eq!(report.inputs.len(), 1);
    assert_eq!(report.inputs[0].name, "features");
    let ValueType::Tensor { element, shape: Some(shape) } = &report.inputs[0].value_type else { panic!() };
    assert_eq!((element_name(*element), shape.as_slice()), ("FLOAT", [-1, 30].as_slice()));
    assert_eq!(report.warnings, [Warning::UnusedFile]);
}

/// Protobuf has no mark for the end, so these models have a field last that every model needs.
#[test]
fn every_truncation_of_a_good_model_is_refused() {
    let mut cut = 0;
    for model in [good(), BREAST_CANCER.to_vec(), one(relu())] {
        scan(&model).unwrap();
        for end in 0..model.len() {
            let refused = scan(&model[..end]).unwrap_err();
            assert!(
                ["MODEL_TRUNCATED", "MODEL_INCOMPLETE", "MODEL_OPSET"].contains(&refused.code()),
                "{end}: {refused}"
            );
            cut += 1;
        }
    }
    println!("{cut} truncations refused");
}

#[test]
fn every_split_of_a_good_model_gives_the_same_report() {
    let model = good();
    let whole = scan(&model).unwrap();
    for piece in 1..model.len() {
        assert_eq!(scan_in(&model, piece, Limits::default()).as_ref(), Ok(&whole), "pieces of {piece}");
    }
    for at in 0..=model.len() {
        let mut walker = walker(Limits::default());
        walker.feed(&model[..at]).unwrap();
        walker.feed(&[]).unwrap();
        walker.feed(&model[at..]).unwrap();
        assert_eq!(walker.finish(), Ok(whole.clone()), "split at {at}");
    }
    println!("{} sizes of pieces and {} splits", model.len() - 1, model.len() + 1);
}

#[test]
fn nothing_is_read_after_a_refusal() {
    let mut walker = walker(Limits::default());
    let refused = walker.feed(&[0x0b; 8]).unwrap_err();
    assert_eq!(walker.feed(&one(relu())), Err(refused.clone()));
    assert_eq!(walker.finish(), Err(refused));
}

#[test]
fn seeded_mutations_never_panic_and_read_alike_in_any_split() {
    let mut random = Random(0x5eed);
    let (mut accepted, mut refused) = (0, std::collections::BTreeMap::<&str, u32>::new());
    for base in [good(), BREAST_CANCER.to_vec(), model(support::graph([node("Concat", &["x", "x"], &["y"])]))] {
        for _ in 0..10_000 {
            let mut model = base.clone();
            for _ in 0..=random.below(3) {
                mutate(&mut model, &mut random);
            }
            let whole = scan(&model);
            assert_eq!(scan_in(&model, 1 + random.below(9), Limits::default()), whole);
            match whole {
                Ok(_) => accepted += 1,
                Err(refusal) => *refused.entry(refusal.code()).or_default() += 1,
            }
        }
    }
    println!("30000 mutations: {accepted} accepted (names, weights, documentation), refused: {refused:?}");
    assert!(refused.len() > 10, "mutations reach many rules");
}

#[test]
fn hostile_sizes_cost_no_memory() {
    // A tensor of 1 TiB whose bytes never come, and a name that says it is a gigabyte.
    let mut walker = walker(Limits::default());
    walker.feed(&msg().key(7, 2).raw(&support::varint(1 << 39)).key(5, 2).raw(&support::varint(1 << 38)).0).unwrap();
    walker.feed(&msg().key(9, 2).raw(&support::varint(1 << 37)).0).unwrap();
    for _ in 0..64 {
        walker.feed(&[0; 1 << 20]).unwrap();
    }
    assert_eq!(walker.finish().unwrap_err().code(), "MODEL_TRUNCATED");
    let name = msg().key(2, 2).raw(&support::varint(1 << 30)).0;
    assert_eq!(scan(&name).unwrap_err().code(), "MODEL_STRING");
}

/// Protobuf's own parser stops at 2 GiB; the walk does not, and says so.
#[test]
fn a_model_of_three_gibibytes_is_walked() {
    const SIZE: u64 = 3 << 30;
    let tensor = support::shaped(2, &[i64::try_from(SIZE).unwrap()]).key(9, 2).raw(&support::varint(SIZE));
    let in_graph = msg().key(5, 2).raw(&support::varint(tensor.0.len() as u64 + SIZE)).and(tensor);
    let graph = msg().key(7, 2).raw(&support::varint(in_graph.0.len() as u64 + SIZE)).and(in_graph);
    let mut walker = walker(Limits::default());
    walker.feed(&msg().int(1, 10).and(graph).0).unwrap();
    let piece = vec![0; 1 << 20];
    for _ in 0..SIZE >> 20 {
        walker.feed(&piece).unwrap();
    }
    walker.feed(&msg().sub(8, support::opset("", 21)).0).unwrap();
    let report = walker.finish().unwrap();
    assert_eq!(report.initializers.bytes, SIZE);
    assert_eq!(report.warnings, [Warning::TwoGibibytes, Warning::UnusedFile]);
}

/// Lowering a limit below what a good model has refuses it: no limit is a mere word.
#[test]
fn every_limit_is_kept() {
    type Lower = (&'static str, fn(&mut Limits), &'static str);
    let lower: [Lower; 27] = [
        ("model_bytes at a field's end", |l| l.model_bytes = 2, "MODEL_TOO_LARGE"),
        ("model_bytes", |l| l.model_bytes = 100, "MODEL_LENGTH"),
        ("messages", |l| l.messages = 5, "MODEL_DEPTH"),
        ("subgraphs", |l| l.subgraphs = 0, "MODEL_DEPTH"),
        ("calls", |l| l.calls = 0, "MODEL_DEPTH"),
        ("nodes", |l| l.nodes = 10, "MODEL_COUNT"),
        ("nested_nodes", |l| l.nested_nodes = 156, "MODEL_DEPTH"),
        ("attributes", |l| l.attributes = 5, "MODEL_COUNT"),
        ("node_attributes", |l| l.node_attributes = 3, "MODEL_COUNT"),
        ("node_values", |l| l.node_values = 1, "MODEL_COUNT"),
        ("tensors", |l| l.tensors = 8, "MODEL_COUNT"),
        ("rank", |l| l.rank = 1, "MODEL_DIMENSIONS"),
        ("elements", |l| l.elements = 5, "MODEL_DIMENSIONS"),
        ("dense_bytes", |l| l.dense_bytes = 35, "MODEL_DIMENSIONS"),
        ("copied_bytes", |l| l.copied_bytes = 40, "MODEL_EXPANSION"),
        ("initializer_bytes", |l| l.initializer_bytes = 98, "MODEL_COUNT"),
        ("list", |l| l.list = 1, "MODEL_COUNT"),
        ("strings", |l| l.strings = 3, "MODEL_COUNT"),
        ("name_bytes", |l| l.name_bytes = 8, "MODEL_STRING"),
        ("text_bytes", |l| l.text_bytes = 3, "MODEL_STRING"),
        ("values", |l| l.values = 3, "MODEL_COUNT"),
        ("entries", |l| l.entries = 2, "MODEL_COUNT"),
        ("functions", |l| l.functions = 0, "MODEL_COUNT"),
        ("opsets", |l| l.opsets = 3, "MODEL_COUNT"),
        ("held_bytes", |l| l.held_bytes = 200, "MODEL_COUNT"),
        ("trips", |l| l.trips = 299, "MODEL_LOOP"),
        ("none", |_| {}, ""),
    ];
    for (name, change, code) in lower {
        let mut limits = Limits::default();
        change(&mut limits);
        let found = scan_in(&good(), 7, limits).map(|_: Report| ()).map_err(|refused| refused.code());
        assert_eq!(found.err().unwrap_or_default(), code, "{name}");
    }
}

/// A limit on copies: nodes that stand once in the file are none.
#[test]
fn calls_multiply_up_to_a_limit() {
    let twice = support::with_functions([
        support::function("f", [support::call_to("g", "y"), support::call_to("g", "z")]),
        support::function("g", [relu()]),
    ]);
    let of = |nodes| scan_in(&twice, 7, Limits { expanded_nodes: nodes, ..Limits::default() });
    assert_eq!(of(5).unwrap().expanded_nodes, 5);
    assert_eq!(of(4).unwrap_err().code(), "MODEL_EXPANSION");
    let once = support::with_functions([support::function("f", [relu(), node("Relu", &["x"], &["z"])])]);
    scan_in(&once, 7, Limits { expanded_nodes: 0, ..Limits::default() }).unwrap();
}

/// How many bytes of names a model needs.
fn held(model: &[u8]) -> u64 {
    let fits = |held_bytes| scan_in(model, 64, Limits { held_bytes, ..Limits::default() }).is_ok();
    let (mut low, mut high) = (0_u64, 64 << 20);
    while low < high {
        let middle = low.midpoint(high);
        if fits(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Names of operator sets stay to the end: without a budget, 4096 functions with 64 of them each take a gigabyte.
#[test]
fn the_names_of_operator_sets_are_held() {
    let long = |at: u64| support::opset(&format!("{at}{}", "z".repeat(4000)), 1);
    let function = |more: u64| support::function("f", [relu()]).subs(9, (0..more).map(long));
    let of = |more| support::with_functions([function(more)]);
    assert_eq!(held(&of(3)) - held(&of(2)), 4001 + 64);
    let limits = Limits { held_bytes: 64 * 1024, ..Limits::default() };
    let refused = scan_in(&of(60), 64, limits.clone()).unwrap_err();
    assert_eq!(refused.code(), "MODEL_COUNT");
    assert!(refused.place().starts_with("functions[0].opset_import"), "{refused}");
    let refused =
        scan_in(&model_with(support::graph([relu()]), msg().subs(8, (0..60).map(long))), 64, limits).unwrap_err();
    assert!(refused.place().starts_with("opset_import"), "{refused}");
}

#[test]
fn the_names_of_a_functions_nodes_are_held_once() {
    let nodes = |some: u64| (0..some).map(|at| node("Relu", &["x"], &[&format!("name{at}")]));
    let of = |some| support::with_functions([support::function("f", nodes(some))]);
    assert_eq!(held(&of(8)) - held(&of(7)), (1 + 64) + (5 + 64), "an input and an output");
    let inner = |some| {
        let scan =
            node("Scan", &["x"], &[]).sub(5, support::attribute("body", 5, msg().sub(6, support::body(nodes(some)))));
        support::with_functions([support::function("f", [scan])])
    };
    assert_eq!(held(&inner(8)) - held(&inner(7)), (1 + 64) + (5 + 64), "the same in a subgraph");
}

/// xorshift: the same mutations in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit as u64)).unwrap()
    }
}

fn mutate(model: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(model.len());
    match random.below(7) {
        0 | 1 => model[at] ^= 1 << random.below(8),
        2 => model[at] = u8::try_from(random.next() & 0xff).unwrap(),
        3 => model.insert(at, u8::try_from(random.next() & 0xff).unwrap()),
        4 if model.len() > 2 => {
            model.remove(at);
        }
        5 if model.len() > 2 => model.truncate(at + 1),
        _ => {
            let end = (at + 1 + random.below(24)).min(model.len());
            let piece = model[at..end].to_vec();
            let to = random.below(model.len());
            model.splice(to..to, piece);
        }
    }
}
