"""Turns the backend test data of the PyPI package `onnx` into files that a test without Python can send and compare.

Every directory below `simple`, `pytorch-operator` and `pytorch-converted` becomes one entry of OUT/cases.json, and a folder
with the model, one request body (Open Inference Protocol v2, binary tensors) and the expected outputs as raw bytes.
Two kinds of models are changed first, as their vendor would have to, and the entry says so: those of an operator set below
7, where ONNX Runtime does not have their operators, by onnx's own version converter (and PRelu's slopes by hand); and those whose StringNormalizer asks
for the system's locale, which gets the locale C. `--judge` also says which ones ONNX Runtime in this Python answers otherwise.

    python3 onnx_cases.py OUT [--judge]
"""

import collections
import glob
import json
import os
import sys

import numpy as np
import onnx
import onnx.backend.test
import onnxruntime
from onnx import numpy_helper, version_converter

FAMILIES = ("simple", "pytorch-operator", "pytorch-converted")
WORDS = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}
# The first operator set of which ONNX Runtime has every operator that these models use.
OLDEST = 7


def raw(array):
    """Datatype word and bytes, as the binary tensor extension has them."""
    if array.dtype == object:
        texts = [t if isinstance(t, bytes) else str(t).encode() for t in array.flatten()]
        return "BYTES", b"".join(len(t).to_bytes(4, "little") + t for t in texts)
    return WORDS[array.dtype.name], np.ascontiguousarray(array).tobytes()


def tensors(folder, kind, values):
    """The tensors of one data set, under the names of the graph's values."""
    found = []
    for n, value in enumerate(values):
        tensor = onnx.TensorProto()
        with open(os.path.join(folder, f"{kind}_{n}.pb"), "rb") as file:
            tensor.ParseFromString(file.read())
        found.append((value.name, numpy_helper.to_array(tensor)))
    return found


def real_inputs(model):
    """Inputs that a caller gives: before IR version 4 initializers stand among the inputs too."""
    kept = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in kept]


def loads(model):
    """Whether ONNX Runtime has every operator of the model."""
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - pybind raises what C++ threw
        return False
    return True


def slopes(model):
    """Gives PRelu's slopes, one a channel, the axes behind: the converter leaves them as operator set 6 had them."""
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.input}
    changed = ""
    for node in (node for node in model.graph.node if node.op_type == "PRelu"):
        for slope in (tensor for tensor in model.graph.initializer if tensor.name == node.input[1]):
            if slope.dims != [1]:
                slope.dims.extend([1] * (ranks[node.input[0]] - 1 - len(slope.dims)))
                changed = ", slopes by channel"
                for value in (value for value in model.graph.input if value.name == slope.name):
                    model.graph.input.remove(value)
    return changed


def prepared(model):
    """The model as a vendor has to hand it in, and what was changed for that; an empty word when nothing was."""
    speaks = [node for node in model.graph.node if node.op_type == "StringNormalizer"]
    if any(a.name in ("case_change_action", "stopwords") for node in speaks for a in node.attribute):
        # The default, en_US, is a file of the system; neither the runner nor every machine has one.
        for node in speaks:
            node.attribute.append(onnx.helper.make_attribute("locale", "C"))
        return model, "locale C"
    old = any(not opset.domain and opset.version < OLDEST for opset in model.opset_import)
    if old and not loads(model):
        model = version_converter.convert_version(model, OLDEST)
        return model, "operator set 7" + slopes(model)
    return model, ""


def case(out, family, name, source):
    model = onnx.load(os.path.join(source, "model.onnx"))
    sets = sorted(glob.glob(os.path.join(source, "test_data_set_*")))
    folder = os.path.join(out, f"{family}.{name}")
    os.makedirs(folder)
    # Names first: the converter may order the graph's values anew.
    named, results = real_inputs(model), list(model.graph.output)
    model, change = prepared(model)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    entry = {"family": family, "name": name, "folder": folder, "change": change, "sets": []}
    for n, data in enumerate(sets):
        given, wanted = tensors(data, "input", named), tensors(data, "output", results)
        inputs, tail = [], b""
        for tensor, array in given:
            word, binary = raw(array)
            size = {"binary_data_size": len(binary)}
            inputs.append({"name": tensor, "datatype": word, "shape": list(array.shape), "parameters": size})
            tail += binary
        head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        with open(os.path.join(folder, f"request.{n}"), "wb") as file:
            file.write(head + tail)
        outputs = []
        for at, (tensor, array) in enumerate(wanted):
            word, binary = raw(array)
            file = f"expected.{n}.{at}"
            with open(os.path.join(folder, file), "wb") as handle:
                handle.write(binary)
            outputs.append({"name": tensor, "datatype": word, "shape": list(array.shape), "file": file})
        entry["sets"].append({"request": f"request.{n}", "header_len": len(head), "outputs": outputs})
    return entry


def judge(entry, source):
    """What ONNX Runtime of this Python says of a case: `equal`, or why not."""
    try:
        path = os.path.join(entry["folder"], "model.onnx")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        model = onnx.load(os.path.join(source, "model.onnx"))
        for data in sorted(glob.glob(os.path.join(source, "test_data_set_*"))):
            given = dict(tensors(data, "input", real_inputs(model)))
            for (name, want), have in zip(tensors(data, "output", model.graph.output), session.run(None, given)):
                if want.dtype == object:
                    np.testing.assert_array_equal(np.array(have, dtype=object), want)
                else:
                    np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-7, err_msg=name)
                    assert have.shape == want.shape, (have.shape, want.shape)
    except Exception as error:  # noqa: BLE001 - the word is what is wanted
        return str(error).replace("\n", " ")[:300]
    return "equal"


def main(out, judged):
    onnxruntime.set_default_logger_severity(4)
    base = os.path.join(os.path.dirname(onnx.backend.test.__file__), "data")
    cases = []
    for family in FAMILIES:
        for name in sorted(os.listdir(os.path.join(base, family))):
            source = os.path.join(base, family, name)
            entry = case(out, family, name, source)
            if judged:
                entry["judged"] = judge(entry, source)
            cases.append(entry)
    with open(os.path.join(out, "cases.json"), "w") as file:
        json.dump({"onnx": onnx.__version__, "cases": cases}, file)
    changes = collections.Counter(entry["change"] or "as it is" for entry in cases)
    print(f"{len(cases)} directories of onnx {onnx.__version__}: {dict(changes)}")
    for entry in cases if judged else []:
        if entry["judged"] != "equal":
            print(entry["family"], entry["name"], entry["change"], entry["judged"])


if __name__ == "__main__":
    main(sys.argv[1], "--judge" in sys.argv[2:])
