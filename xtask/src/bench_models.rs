//! Turns a size into an ONNX model of random weights, as one file or with its weights beside it, and a request for it.
//! It establishes nothing about real models: chains of matrix products, which ONNX Runtime packs anew when it loads them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::ChoreError;
use crate::python::{self, Python};
use crate::workspace::{Workspace, ended_well, make_dir};

/// One layer's weights: 2048 times 2048 numbers of four bytes.
const LAYER_MIB: u64 = 16;

/// Where the weights are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In the graph's file.
    Single,
    /// In a file of their own.
    External,
}

/// A model on disk.
pub(crate) struct Model {
    /// The graph.
    pub(crate) graph: PathBuf,
    /// The weights, if they are not in the graph.
    pub(crate) data: Option<PathBuf>,
    /// A request for it: Open Inference Protocol v2 JSON.
    pub(crate) input: PathBuf,
    /// Bytes of the graph and its data.
    pub(crate) bytes: u64,
}

/// Makes a model of about so many MiB in the folder `dir`, always the same one.
pub(crate) fn make(workspace: &Workspace, form: Form, mib: u64, dir: &Path) -> Result<Model, ChoreError> {
    make_dir(dir)?;
    let packages = python::packages(workspace)?;
    let layers = (mib / LAYER_MIB).max(1).to_string();
    let word = if form == Form::Single { "single" } else { "external" };
    let status = Python::find()?
        .command()
        .args(["-I", "-c", SCRIPT])
        .arg(&packages)
        .arg(word)
        .arg(dir)
        .arg(layers)
        .status()
        .map_err(|source| ChoreError::Start { program: "python", source })?;
    if !ended_well(status)? {
        return Err(ChoreError::BenchProgram("the maker of models"));
    }
    let graph = dir.join("model.onnx");
    let data = (form == Form::External).then(|| dir.join("weights.bin"));
    let mut bytes = 0;
    for path in std::iter::once(&graph).chain(&data) {
        bytes += fs::metadata(path).map_err(ChoreError::file(path))?.len();
    }
    Ok(Model { graph, data, input: dir.join("input.json"), bytes })
}

/// External weights are written as they are made, one layer in memory at a time; those of a graph are there three times.
const SCRIPT: &str = "\
import sys
sys.path.insert(0, sys.argv[1])
import json
import os
import numpy as np
from onnx import TensorProto, helper

form, folder, layers = sys.argv[2], sys.argv[3], int(sys.argv[4])
N = 2048
random = np.random.default_rng(5)
data = open(os.path.join(folder, 'weights.bin'), 'wb') if form == 'external' else None
nodes, tensors, offset, value = [], [], 0, 'x'
for i in range(layers):
    weights = (random.random((N, N), dtype=np.float32) - np.float32(0.5)) * np.float32(0.10825)
    raw = weights.tobytes()
    tensor = TensorProto(name=f'w{i}', data_type=TensorProto.FLOAT, dims=[N, N])
    if data:
        data.write(raw)
        tensor.data_location = TensorProto.EXTERNAL
        for key, word in (('location', 'weights.bin'), ('offset', str(offset)), ('length', str(len(raw)))):
            tensor.external_data.add(key=key, value=word)
        offset += len(raw)
    else:
        tensor.raw_data = raw
    tensors.append(tensor)
    nodes.append(helper.make_node('MatMul', [value, f'w{i}'], [f'm{i}']))
    value = 'y' if i == layers - 1 else f'r{i}'
    nodes.append(helper.make_node('Relu', [f'm{i}'], [value]))
if data:
    data.close()
port = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ['rows', N])
graph = helper.make_graph(nodes, 'chain', [port('x')], [port('y')], initializer=tensors)
del tensors
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=10)
del graph
with open(os.path.join(folder, 'model.onnx'), 'wb') as out:
    out.write(model.SerializeToString())
row = [round(float(x), 4) for x in random.random(N)]
request = {'inputs': [{'name': 'x', 'datatype': 'FP32', 'shape': [1, N], 'data': row}]}
with open(os.path.join(folder, 'input.json'), 'w') as out:
    json.dump(request, out)
";
