"""BentoML: a service of one process behind its own server, started as `bentoml serve` starts it."""

import os
import sys

import bentoml

import common

if __name__ == "__main__":
    port, threads, _ = common.arguments()
    here = os.path.dirname(os.path.abspath(__file__))
    os.environ.update(PEER_FOLDER=sys.argv[2], PEER_THREADS=str(threads), BENTOML_DO_NOT_TRACK="true")
    words = ["bentoml", "serve", "bentoml_peer:Onnx", "--host", "127.0.0.1", "--port", str(port), "--working-dir", here]
    os.execv(sys.executable, [sys.executable, "-m", *words])


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Onnx:
    def __init__(self):
        self.models = common.models(common.files(os.environ["PEER_FOLDER"]), int(os.environ["PEER_THREADS"]))

    @bentoml.api(route="/v2/models/minilm/infer")
    def minilm(self, inputs: list, id: str = "") -> dict:
        return self.models["minilm"].infer({"id": id, "inputs": inputs})

    @bentoml.api(route="/v2/models/tiny/infer")
    def tiny(self, inputs: list, id: str = "") -> dict:
        return self.models["tiny"].infer({"id": id, "inputs": inputs})
