//! Turns an ONNX file into what the enclave's pre-flight says of it: the same code, run by the vendor before sealing.
//! It does not run the model, and does not open its external data: their names and lengths are all that counts.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde_json::{Value, json};
use vouchsafe_policies::usage::InputRule;
use vouchsafe_preflight::{ExternalFile, Limits, Refused, Report, ValueType, Walker, Warning, element_name};

use crate::failure::{Failure, Outcome};

/// The file is read in pieces of this size.
const PIECE: usize = 1 << 20;
/// No folder with more files beside a model is listed.
const MAX_BESIDE: usize = 1 << 16;
/// No usage policy is proposed for a graph with more inputs.
const MAX_INPUTS: usize = 256;

/// Look into an ONNX model as the enclave does before it loads one.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe model scan model.onnx")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether an enclave would load this model, and what is in it.
    ///
    /// The file is read as a stream and may be of any size. External data are looked for beside the model, by name and length;
    /// they are not opened. A model that an enclave would refuse ends with status 6, the place and the reason.
    #[command(after_help = "Example:\n  vouchsafe model scan model.onnx")]
    Scan(Which),
}

#[derive(clap::Args)]
struct Which {
    /// The ONNX file.
    #[arg(value_name = "FILE.onnx")]
    model: PathBuf,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let Command::Scan(Which { model }) = &args.command;
    let report = walk(model, beside(model)?)?.map_err(|refused| failure(&refused).about(model))?;
    if json {
        println!("{}", to_json(&report));
    } else {
        print(model, &report);
    }
    Ok(())
}

/// Reads a model as a stream; the pre-flight's verdict, or a failure to read the file.
pub fn walk(model: &Path, external: Vec<ExternalFile>) -> Result<Result<Report, Refused>, Failure> {
    // A pipe without a writer is told, not waited for.
    let meta = fs::metadata(model).map_err(|e| Failure::file(model, "opened", &e))?;
    if !meta.is_file() {
        return Err(Failure::new("FILE", 9, format!("{} is not a regular file", model.display()), "name another file"));
    }
    let mut file = File::open(model).map_err(|e| Failure::file(model, "opened", &e))?;
    // As in the enclave, which knows the length too: no field may promise more than the file has.
    let limits = Limits { model_bytes: meta.len(), ..Limits::default() };
    let mut walker = Walker::new(limits, external);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(|e| Failure::file(model, "read", &e))?;
        if read == 0 {
            return Ok(walker.finish());
        }
        if let Err(refused) = walker.feed(&piece[..read]) {
            return Ok(Err(refused));
        }
    }
}

/// The inputs of an accepted model as rules of a usage policy: name, datatype in the words of the Open Inference Protocol, shape
/// (-1 = any). `None` when there are none, too many, or one of a type that the protocol has no word for.
pub fn input_rules(report: &Report) -> Option<Vec<InputRule>> {
    let rule = |value: &vouchsafe_preflight::Value| {
        let ValueType::Tensor { element, shape: Some(shape) } = &value.value_type else { return None };
        let datatype = datatype(*element)?.parse().ok()?;
        let shape = shape.iter().map(|size| if *size > 0 { *size } else { -1 }).collect();
        (!value.name.is_empty()).then(|| InputRule::new(&value.name, datatype, shape))
    };
    let rules: Vec<_> = report.inputs.iter().map(rule).collect::<Option<_>>()?;
    (1..=MAX_INPUTS).contains(&rules.len()).then_some(rules)
}

/// Regular files beside the model, the model itself left out.
fn beside(model: &Path) -> Result<Vec<ExternalFile>, Failure> {
    let folder = match model.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let failed = |e: &std::io::Error| Failure::file(folder, "listed", e);
    let mut out = Vec::new();
    // A missing model is told as such, not as a missing folder.
    fs::metadata(model).map_err(|e| Failure::file(model, "opened", &e))?;
    for entry in fs::read_dir(folder).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // One that vanished meanwhile is none, and a symbolic link is no file of the model.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() && model.file_name().is_none_or(|own| own != name.as_str()) {
            out.push(ExternalFile { name, length: meta.len() });
        }
        if out.len() > MAX_BESIDE {
            let fact = format!("{} holds more than {MAX_BESIDE} files", folder.display());
            return Err(Failure::new(
                "FILE",
                9,
                fact,
                "put the model and its external data into a folder of their own",
            ));
        }
    }
    Ok(out)
}

fn failure(refused: &Refused) -> Failure {
    let more = Box::new(json!({ "place": refused.place() }));
    Failure { more, ..Failure::new(refused.code(), refused.exit(), refused.to_string(), refused.advice()) }
}

/// `TensorProto.DataType` to the protocol's word.
fn datatype(element: u8) -> Option<&'static str> {
    Some(match element_name(element) {
        "FLOAT" => "FP32",
        "DOUBLE" => "FP64",
        "FLOAT16" => "FP16",
        "BFLOAT16" => "BF16",
        "STRING" => "BYTES",
        name @ ("UINT8" | "INT8" | "UINT16" | "INT16" | "INT32" | "INT64" | "BOOL" | "UINT32" | "UINT64") => name,
        _ => return None,
    })
}

/// A name of the model on a terminal: nothing in it can move the cursor or turn the line around.
fn plain(name: &str) -> String {
    name.escape_default().collect()
}

fn domain(name: &str) -> String {
    if name.is_empty() { "ai.onnx".to_owned() } else { plain(name) }
}

fn warnings(report: &Report) -> impl Iterator<Item = Warning> {
    // The files were listed, not given: most have nothing to do with the model.
    report.warnings.iter().copied().filter(|warning| *warning != Warning::UnusedFile)
}

fn value_json(value: &vouchsafe_preflight::Value) -> Value {
    let (element, shape) = match &value.value_type {
        ValueType::Tensor { element, shape } => (Some(element_name(*element)), shape.as_ref()),
        _ => (None, None),
    };
    json!({ "name": value.name, "type": kind(&value.value_type), "element": element, "shape": shape })
}

fn kind(value: &ValueType) -> &'static str {
    match value {
        ValueType::Missing => "unknown",
        ValueType::Tensor { .. } => "tensor",
        ValueType::SparseTensor => "sparse tensor",
        ValueType::Sequence => "sequence",
        ValueType::Map => "map",
        ValueType::Optional => "optional",
    }
}

fn to_json(report: &Report) -> Value {
    let named = |name: &String| if name.is_empty() { "ai.onnx".to_owned() } else { name.clone() };
    json!({
        "accepted": true,
        "bytes": report.bytes,
        "ir_version": report.ir_version,
        "producer": report.producer,
        "opsets": report.opsets.iter().map(|(name, version)| json!({ "domain": named(name), "version": version })).collect::<Vec<_>>(),
        "inputs": report.inputs.iter().map(value_json).collect::<Vec<_>>(),
        "outputs": report.outputs.iter().map(value_json).collect::<Vec<_>>(),
        "nodes": report.nodes,
        "expanded_nodes": report.expanded_nodes,
        "depth": report.depth,
        "operators": report.operators.iter().map(|((domain, name), count)| {
            json!({ "domain": named(domain), "name": name, "count": count })
        }).collect::<Vec<_>>(),
        "functions": report.functions.iter().map(|f| {
            json!({ "domain": f.domain, "name": f.name, "overload": f.overload, "nodes": f.nodes })
        }).collect::<Vec<_>>(),
        "initializers": { "count": report.initializers.count, "bytes": report.initializers.bytes },
        "external": report.external.iter().map(|file| {
            json!({ "name": file.name, "tensors": file.tensors, "bytes": file.bytes })
        }).collect::<Vec<_>>(),
        "warnings": warnings(report).map(Warning::text).collect::<Vec<_>>(),
    })
}

fn print(model: &Path, report: &Report) {
    println!("model            {}: {} bytes, IR version {}", model.display(), report.bytes, report.ir_version);
    if !report.producer.is_empty() {
        println!("made by          {}", report.producer);
    }
    for (name, version) in &report.opsets {
        println!("operator set     {} {version}", domain(name));
    }
    for (word, values) in [("input", &report.inputs), ("output", &report.outputs)] {
        for value in values {
            println!("{word:<16} {}: {}", plain(&value.name), type_text(&value.value_type));
        }
    }
    let expanded = match report.expanded_nodes {
        nodes if nodes == report.nodes => String::new(),
        nodes => format!(", {nodes} when functions are put in place"),
    };
    println!("nodes            {}{expanded}; subgraphs nest {} deep", report.nodes, report.depth);
    for ((name, operator), count) in &report.operators {
        println!("operator         {count:>6} x {}.{}", domain(name), plain(operator));
    }
    for function in &report.functions {
        println!("function         {}.{}: {} nodes", domain(&function.domain), plain(&function.name), function.nodes);
    }
    println!("initialisers     {} of {} bytes", report.initializers.count, report.initializers.bytes);
    for file in &report.external {
        println!("external data    {}: {} bytes, tensors: {}", plain(&file.name), file.bytes, file.tensors);
    }
    for warning in warnings(report) {
        println!("warning          {}", warning.text());
    }
    println!("accepted         an enclave of this release finds nothing to refuse in this file");
}

fn type_text(value: &ValueType) -> String {
    let ValueType::Tensor { element, shape } = value else { return kind(value).to_owned() };
    let shape = shape.as_ref().map_or_else(|| "of any shape".to_owned(), |shape| format!("{shape:?}"));
    format!("{} {shape}", element_name(*element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_model_gives_the_rules_of_its_inputs() {
        let model = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/breast-cancer/model.onnx"));
        let report = walk(model, beside(model).unwrap()).unwrap().unwrap();
        let rules = input_rules(&report).unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!((rules[0].name.as_str(), rules[0].dtype.as_str()), ("features", "FP32"));
        assert_eq!(rules[0].shape, [-1, 30]);
    }

    #[test]
    fn inputs_that_the_protocol_has_no_word_for_give_no_rules() {
        let model = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/breast-cancer/model.onnx"));
        let mut report = walk(model, Vec::new()).unwrap().unwrap();
        for value_type in [
            ValueType::Missing,
            ValueType::Sequence,
            ValueType::Tensor { element: 14, shape: Some(vec![1]) },
            ValueType::Tensor { element: 1, shape: None },
        ] {
            report.inputs[0].value_type = value_type;
            assert!(input_rules(&report).is_none());
        }
        report.inputs.clear();
        assert!(input_rules(&report).is_none());
    }

    #[test]
    fn names_cannot_play_with_a_terminal() {
        assert_eq!(plain("a\u{1b}[2J\u{202e}b"), "a\\u{1b}[2J\\u{202e}b");
    }
}
