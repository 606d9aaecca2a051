"""Asks an enclave through `vouchsafe proxy` with one of two unmodified clients, and compares with ONNX Runtime in this process.

    python3 serve_clients.py triton|kserve ADDRESS MODEL.onnx ROWS.json

Served are `breast-cancer` (version 2), `text` (BYTES [-1], returned as it came) and `marked` (INT64 [-1], 1000 added). Each
thing that holds prints one line that begins with its name; anything else ends with a traceback.
"""

import asyncio
import importlib.machinery
import json
import sys
import types

import numpy as np
import onnxruntime

NAMES = ["label", "probabilities"]
WORDS = np.array(["", "plain", "gr\u00fcn \u6f22\u5b57", "a" * 1000], dtype=object)


def expected(model, rows):
    with open(rows) as file:
        request = json.load(file)["inputs"][0]
    x = np.array(request["data"], dtype=np.float32).reshape(request["shape"])
    return x, onnxruntime.InferenceSession(model).run(NAMES, {"features": x})


def equal(have, want):
    np.testing.assert_allclose(have, want, rtol=0, atol=1e-6)


def texts(array):
    return [t.decode() if isinstance(t, bytes) else t for t in array.flatten()]


def triton(address, model, rows):
    import tritonclient.http as http

    x, wanted = expected(model, rows)
    client = http.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("breast-cancer") and client.is_model_ready("breast-cancer", "2")
    assert not client.is_model_ready("nobody") and not client.is_model_ready("breast-cancer", "9")
    print("ready: server, models and versions")

    server = client.get_server_metadata()
    assert {"binary_tensor_data"} <= set(server["extensions"]), server
    metadata = client.get_model_metadata("breast-cancer")
    assert metadata["versions"] == ["2"], metadata
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 30]}], metadata
    assert [o["name"] for o in metadata["outputs"]] == NAMES, metadata
    print("metadata:", server["name"], server["extensions"])

    index = {(m["name"], m["version"], m["state"]) for m in client.get_model_repository_index()}
    assert index == {("breast-cancer", "2", "READY"), ("text", "1", "READY"), ("marked", "1", "READY")}, index
    print("index: three models")

    config = client.get_model_config("breast-cancer")
    assert config["name"] == "breast-cancer" and config["max_batch_size"] == 0, config
    assert config["input"][0]["data_type"] == "TYPE_FP32" and config["input"][0]["dims"] == [-1, 30], config
    assert client.get_model_config("text")["input"][0]["data_type"] == "TYPE_STRING"
    print("config: names, types and dimensions")

    def ask(binary_in, binary_out, **more):
        tensor = http.InferInput("features", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=binary_in)
        outputs = [http.InferRequestedOutput(n, binary_data=binary_out) for n in NAMES]
        answer = client.infer("breast-cancer", [tensor], outputs=outputs, request_id="r1", **more)
        assert answer.get_response()["id"] == "r1"
        for name, value in zip(NAMES, wanted):
            equal(answer.as_numpy(name), value)
        return answer

    def count():
        return client.get_inference_statistics("breast-cancer")["model_stats"][0]["inference_stats"]["success"]["count"]

    before = count()
    for binary_in in (True, False):
        for binary_out in (True, False):
            ask(binary_in, binary_out)
            print("infer: binary in", binary_in, "binary out", binary_out, "equal")
    assert count() == before + 4, (before, count())
    assert len(client.get_inference_statistics()["model_stats"]) == 3
    print("stats: four more requests")

    for encoding in ("gzip", "deflate"):
        for binary in (True, False):
            ask(binary, binary, request_compression_algorithm=encoding)
            ask(binary, binary, request_compression_algorithm=encoding, response_compression_algorithm=encoding)
            print("compressed:", encoding, "binary", binary, "equal")

    tensor = http.InferInput("features", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x)
    answer = client.infer("breast-cancer", [tensor])
    for name, value in zip(NAMES, wanted):
        equal(answer.as_numpy(name), value)
    answer = client.infer("breast-cancer", [tensor], model_version="2", outputs=[http.InferRequestedOutput("label")])
    assert answer.as_numpy("probabilities") is None
    equal(answer.as_numpy("label"), wanted[0])
    print("outputs: all by default, one by name")

    raw = client.async_infer("breast-cancer", [tensor])
    equal(raw.get_result().as_numpy("label"), wanted[0])
    print("asynchronous: equal")

    for binary_in in (True, False):
        for binary_out in (True, False):
            tensor = http.InferInput("text", [len(WORDS)], "BYTES")
            tensor.set_data_from_numpy(WORDS, binary_data=binary_in)
            answer = client.infer("text", [tensor], outputs=[http.InferRequestedOutput("same", binary_data=binary_out)])
            assert texts(answer.as_numpy("same")) == list(WORDS), answer.as_numpy("same")
            print("BYTES: binary in", binary_in, "binary out", binary_out, "equal")

    for what, call in {
        "MODEL_UNKNOWN": lambda: client.get_model_metadata("nobody"),
        "INPUT_DTYPE": lambda: client.infer("text", [http.InferInput("text", [1], "INT64").set_data_from_numpy(np.array([1]))]),
    }.items():
        try:
            call()
        except http.InferenceServerException as error:
            print("error:", what, error.status(), error.message())
        else:
            raise AssertionError(what)


def without_its_server(name):
    """The package as installed, without running its __init__, which imports kserve's server and all that this needs."""
    package = types.ModuleType(name)
    package.__path__ = list(importlib.machinery.PathFinder.find_spec(name).submodule_search_locations)
    sys.modules[name] = package


async def kserve(address, model, rows):
    without_its_server("kserve")
    import httpx
    from kserve.inference_client import InferenceRESTClient, RESTConfig
    from kserve.protocol.infer_type import InferInput, InferRequest, RequestedOutput

    x, wanted = expected(model, rows)
    base = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        assert await client.is_server_live(base) is True
        assert await client.is_server_ready(base) is True
        assert await client.is_model_ready(base, "breast-cancer") is True
        assert await client.is_model_ready(base, "nobody") is False
        print("ready: server and models")

        async def ask(name, port, kind, value, binary_in, outputs):
            tensor = InferInput(port, list(value.shape), kind)
            tensor.set_data_from_numpy(value, binary_data=binary_in)
            request = InferRequest(name, [tensor], request_id="r1", request_outputs=outputs)
            answer = await client.infer(base, request, model_name=name)
            assert answer.id == "r1" and answer.model_name == name, answer
            return {output.name: output.as_numpy() for output in answer.outputs}

        for binary_in in (True, False):
            for binary_out in (True, False):
                outputs = [RequestedOutput(n, {"binary_data": binary_out}) for n in NAMES]
                found = await ask("breast-cancer", "features", "FP32", x, binary_in, outputs)
                for name, value in zip(NAMES, wanted):
                    equal(found[name], value)
                print("infer: binary in", binary_in, "binary out", binary_out, "equal")
        found = await ask("breast-cancer", "features", "FP32", x, False, None)
        equal(found["label"], wanted[0])
        print("outputs: all by default")
        for binary in (True, False):
            outputs = [RequestedOutput("same", {"binary_data": binary})]
            found = await ask("text", "text", "BYTES", WORDS, binary, outputs)
            assert texts(found["same"]) == list(WORDS), found
            print("BYTES: binary", binary, "equal")
        plain = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [2], "data": [1, 2]}]}
        answer = await client.infer(base, plain, model_name="marked")
        assert answer.outputs[0].as_numpy().tolist() == [1001, 1002]
        print("plain dictionary: equal")
        try:
            await client.infer(base, plain, model_name="nobody")
        except httpx.HTTPStatusError as error:
            print("error: MODEL_UNKNOWN", error.response.status_code, str(error)[:200])
        else:
            raise AssertionError("nobody answered")


if __name__ == "__main__":
    which, *rest = sys.argv[1:]
    if which == "triton":
        triton(*rest)
    else:
        asyncio.run(kserve(*rest))
