"""Trains the example model on scikit-learn's bundled Wisconsin breast-cancer data and exports it to ONNX.

Run in this directory; it writes model.onnx, heldout.json and labels.json, and prints the accuracies:

    pip install --target /tmp/train -r requirements.txt
    PYTHONPATH=/tmp/train python3 train.py

Seed and split are fixed, so the same versions of the packages make the same bytes again.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score, recall_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

SEED = 20260301
HIDDEN = 16
ROWS = 16  # of the held-out split, in heldout.json
HERE = pathlib.Path(__file__).resolve().parent


def train(features, labels):
    """A scaler and one hidden layer: enough for 30 numbers, small enough to read."""
    scaler = StandardScaler().fit(features)
    network = MLPClassifier(
        hidden_layer_sizes=(HIDDEN,),
        activation="relu",
        solver="lbfgs",
        alpha=1.0,
        max_iter=2000,
        random_state=SEED,
    ).fit(scaler.transform(features), labels)
    return scaler, network


def export(scaler, network):
    """features -> standardise -> Gemm, Relu, Gemm -> Softmax, ArgMax."""
    def tensor(name, array):
        return numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name)

    # One logistic output z is the softmax of (0, z).
    out_weight = np.hstack([np.zeros((HIDDEN, 1)), network.coefs_[1]])
    out_bias = np.concatenate([[0.0], network.intercepts_[1]])
    graph = helper.make_graph(
        nodes=[
            helper.make_node("Sub", ["features", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["standardised"]),
            helper.make_node("Gemm", ["standardised", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        ],
        name="breast-cancer",
        inputs=[helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 30])],
        outputs=[
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
        ],
        initializer=[
            tensor("mean", scaler.mean_),
            tensor("scale", scaler.scale_),
            tensor("w1", network.coefs_[0]),
            tensor("b1", network.intercepts_[0]),
            tensor("w2", out_weight),
            tensor("b2", out_bias),
        ],
    )
    model = helper.make_model(
        graph,
        producer_name="vouchsafe-example",
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 18)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def main():
    data = load_breast_cancer()
    x_train, x_test, y_train, y_test = train_test_split(
        data.data, data.target, test_size=0.25, random_state=SEED, stratify=data.target
    )
    scaler, network = train(x_train, y_train)
    model = export(scaler, network)

    # What is printed comes from ONNX Runtime on the exported bytes, not from scikit-learn.
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    held_out = x_test.astype(np.float32)
    label, probabilities = session.run(["label", "probabilities"], {"features": held_out})
    expected = network.predict_proba(scaler.transform(x_test))
    assert np.abs(probabilities - expected).max() < 1e-4, "the export computes something else"

    (HERE / "model.onnx").write_bytes(model)
    rows = held_out[:ROWS]
    request = {
        "inputs": [
            {
                "name": "features",
                "datatype": "FP32",
                "shape": list(rows.shape),
                # The shortest decimals that name these very float32 values.
                "data": [float(str(value)) for value in rows.ravel()],
            }
        ]
    }
    (HERE / "heldout.json").write_text(json.dumps(request) + "\n")
    labels = {
        "class_names": [str(name) for name in data.target_names],
        "labels": [int(value) for value in y_test[:ROWS]],
    }
    (HERE / "labels.json").write_text(json.dumps(labels) + "\n")

    print(f"model.onnx: {len(model)} bytes; {len(x_train)} rows trained on, {len(x_test)} held out")
    print(f"test-split accuracy: {accuracy_score(y_test, label):.4f}"
          f" ({int((label == y_test).sum())} of {len(y_test)})")
    print(f"test-split recall of malignant: {recall_score(y_test, label, pos_label=0):.4f}")
    print(f"train-split accuracy: {network.score(scaler.transform(x_train), y_train):.4f}")
    print(f"rows of heldout.json predicted right: {int((label[:ROWS] == y_test[:ROWS]).sum())} of {ROWS}")


if __name__ == "__main__":
    main()
