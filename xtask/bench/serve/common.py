"""Turns an ONNX file into a session, and an Open Inference Protocol request of JSON into its answer: what the peers share.

It does not check a request as a server for strangers would: that only makes the peers that use it faster.

Every peer is started as `python NAME.py PORT FOLDER THREADS`: it serves each ONNX file of the folder under its name, on loopback.
"""

import os
import sys

import numpy as np

DTYPES = {"FP32": np.float32, "INT64": np.int64}
NAMES = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}


def arguments():
    """Port, threads, and the files by their models' names."""
    port, folder, threads = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    return port, threads, files(folder)


def files(folder):
    return {name[:-5]: os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".onnx")}


def session(path, threads):
    """The options of the enclave's own sessions: as many threads, one operator at a time, nobody spins."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Model:
    """One session and the names of its ports."""

    def __init__(self, name, path, threads):
        self.name, self.session = name, session(path, threads)
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, feeds):
        return self.session.run(self.outputs, feeds)

    def infer(self, request):
        """A decoded request to an answer that is ready to be encoded."""
        feeds = {t["name"]: np.array(t["data"], DTYPES[t["datatype"]]).reshape(t["shape"]) for t in request["inputs"]}
        outputs = [
            {"name": name, "datatype": NAMES[value.dtype], "shape": list(value.shape), "data": value.ravel().tolist()}
            for name, value in zip(self.outputs, self.run(feeds))
        ]
        answer = {"model_name": self.name, "model_version": "1", "outputs": outputs}
        if "id" in request:
            answer["id"] = request["id"]
        return answer


def models(paths, threads):
    return {name: Model(name, path, threads) for name, path in paths.items()}
