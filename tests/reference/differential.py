"""Asks the real tritonserver of the PyPI package `nvidia-pytriton` and a `vouchsafe proxy` the same requests, and compares.

    python3 differential.py models OUT               writes the ONNX models that both serve
    python3 differential.py triton FOLDER OUT        runs tritonserver over them until standard input ends; prints its address
    python3 differential.py compare OURS THEIRS TABLE    asks both; prints one JSON object; ends with 1 on a difference that
                                                         TABLE does not list, or an entry of TABLE that nothing needs

FOLDER is where `pip install --no-deps --require-hashes --target FOLDER --requirement triton.txt` put the package. Its server has
a Python backend alone, so the models run there in onnxruntime, on one thread. The requests stand in differential_requests.py.
"""

import fnmatch
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time

KINDS = {
    "BOOL": "BOOL", "UINT8": "UINT8", "UINT16": "UINT16", "UINT32": "UINT32", "UINT64": "UINT64", "INT8": "INT8",
    "INT16": "INT16", "INT32": "INT32", "INT64": "INT64", "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE",
    "BYTES": "STRING",
}

BACKEND = '''
import json, sys
sys.path[:0] = PACKAGES
import numpy as np, onnxruntime as ort
import triton_python_backend_utils as pb_utils

def texts(array):
    plain = [t.decode("utf-8", "surrogateescape") for t in array.flatten()]
    return np.array(plain, dtype=object).reshape(array.shape)

def raw(array):
    if array.dtype != object:
        return array
    plain = [t.encode("utf-8", "surrogateescape") for t in array.flatten()]
    return np.array(plain, dtype=object).reshape(array.shape)

class TritonPythonModel:
    def initialize(self, args):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = json.loads(args["model_config"])["parameters"]["onnx"]["string_value"]
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.outputs = [o.name for o in self.session.get_outputs()]

    def execute(self, requests):
        answers = []
        for request in requests:
            given = {n: pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in self.inputs}
            given = {n: texts(v) if v.dtype == object else v for n, v in given.items()}
            wanted = [n for n in self.outputs if n in request.requested_output_names()]
            try:
                found = self.session.run(wanted, given)
            except Exception as error:
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
                continue
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor(n, raw(v)) for n, v in zip(wanted, found)]))
        return answers
'''


def models(out):
    """`kinds`: every datatype, each returned as it came. `sum`: two inputs, one output; rows are free."""
    import onnx
    from onnx import TensorProto, helper

    def save(name, nodes, inputs, outputs):
        graph = helper.make_graph(nodes, name, inputs, outputs)
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), os.path.join(out, f"{name}.onnx"))

    port = helper.make_tensor_value_info
    nodes, inputs, outputs = [], [], []
    for word, name in KINDS.items():
        kind = getattr(TensorProto, name)
        inputs.append(port(f"in_{word}", kind, ["n"]))
        outputs.append(port(f"out_{word}", kind, ["n"]))
        nodes.append(helper.make_node("Identity", [f"in_{word}"], [f"out_{word}"]))
    save("kinds", nodes, inputs, outputs)
    float_port = lambda name: port(name, TensorProto.FLOAT, ["n", 4])
    save("sum", [helper.make_node("Add", ["a", "b"], ["y"])], [float_port("a"), float_port("b")], [float_port("y")])


def config(name, path):
    """The model configuration that tritonserver wants for its Python backend."""
    import onnx

    graph = onnx.load(path).graph
    words = {getattr(onnx.TensorProto, value): key for key, value in KINDS.items()}

    def ports(values):
        for value in values:
            tensor = value.type.tensor_type
            word = words[tensor.elem_type].replace("BYTES", "STRING")
            dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
            yield f'{{ name: "{value.name}" data_type: TYPE_{word} dims: {dims} }}'

    return (
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\n'
        f"input [{', '.join(ports(graph.input))}]\noutput [{', '.join(ports(graph.output))}]\n"
        f'parameters {{ key: "onnx" value {{ string_value: "{path}" }} }}\n'
        "instance_group [{ kind: KIND_CPU count: 1 }]\n"
    )


def triton(folder, out, sequence):
    """Runs the server over every model of OUT until standard input ends."""
    work, region = tempfile.mkdtemp(prefix="vouchsafe-triton-"), f"vouchsafe-triton-{os.getpid()}-"
    try:
        source = os.path.join(folder, "pytriton/tritonserver")
        place = os.path.join(work, "tritonserver")
        shutil.copytree(source, place, ignore=shutil.ignore_patterns("python_backend_stubs"))
        minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
        stub = os.path.join(source, "python_backend_stubs", minor, "triton_python_backend_stub")
        shutil.copy(stub, os.path.join(place, "backends/python"))
        for name in (n[: -len(".onnx")] for n in sorted(os.listdir(out)) if n.endswith(".onnx")):
            version = os.path.join(work, "models", name, str(sequence))
            os.makedirs(version)
            with open(os.path.join(version, "model.py"), "w") as file:
                # The backend's own Python has another path than this one. FOLDER first: that server needs numpy 1.
                file.write(BACKEND.replace("PACKAGES", repr([os.path.abspath(folder), *(p for p in sys.path if p)])))
            with open(os.path.join(work, "models", name, "config.pbtxt"), "w") as file:
                file.write(config(name, os.path.abspath(os.path.join(out, f"{name}.onnx"))))
        for program in ("bin/tritonserver", "backends/python/triton_python_backend_stub"):
            os.chmod(os.path.join(place, program), 0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        libraries = [sysconfig.get_config_var("LIBDIR"), os.path.join(folder, "nvidia_pytriton.libs")]
        environment = dict(os.environ, LD_LIBRARY_PATH=":".join(libraries), PYTHONHOME=sys.base_prefix)
        log = open(os.path.join(work, "log"), "w")
        server = subprocess.Popen(
            [
                os.path.join(place, "bin/tritonserver"), f"--model-repository={work}/models",
                f"--backend-directory={place}/backends", "--http-address=127.0.0.1", f"--http-port={port}",
                "--allow-grpc=false", "--allow-metrics=false", "--disable-auto-complete-config",
                f"--backend-config=python,shm-region-prefix-name={region}",
            ],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
        try:
            until = time.monotonic() + 60
            while not ready(port):
                if server.poll() is not None or time.monotonic() > until:
                    log.flush()
                    print(open(os.path.join(work, "log")).read(), file=sys.stderr)
                    sys.exit("tritonserver does not come to serve")
                time.sleep(0.1)
            print(json.dumps({"event": "listening", "address": f"127.0.0.1:{port}"}), flush=True)
            sys.stdin.read()
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(work, ignore_errors=True)
        # The stubs' memory, which a server that is told to stop may leave behind.
        for left in glob.glob(f"/dev/shm/{region}*"):
            os.unlink(left)


def ready(port):
    try:
        return ask(f"127.0.0.1:{port}", b"GET /v2/health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")[0] == 200
    except OSError:
        return False


def ask(address, raw):
    """Sends bytes on a connection of their own: status, headers, body; status 0 when the peer closed without an answer."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        try:
            wire.sendall(raw.replace(b"Host: @", f"Host: {address}".encode(), 1))
        except OSError:
            pass
        data = b""
        while b"\r\n\r\n" not in data:
            part = receive(wire)
            if not part:
                return 0, {}, b""
            data += part
        head, body = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        if headers.get("transfer-encoding") == "chunked":
            body = chunks(wire, body)
        length = int(headers.get("content-length", len(body)))
        while len(body) < length:
            part = receive(wire)
            if not part:
                break
            body += part
        return int(lines[0].split(" ")[1]), headers, body


def receive(wire):
    try:
        return wire.recv(1 << 16)
    except OSError:
        return b""


def chunks(wire, data):
    body = b""
    while True:
        while b"\r\n" not in data:
            data += receive(wire)
        size, data = data.split(b"\r\n", 1)
        size = int(size, 16)
        while len(data) < size + 2:
            data += receive(wire)
        body, data = body + data[:size], data[size + 2 :]
        if size == 0:
            return body


def facts(status, headers, body):
    """An answer as flat facts that can be compared: status, every leaf of the JSON part, the bytes behind it."""
    found = {"status": status}
    length = headers.get("inference-header-content-length")
    split = int(length) if length else len(body)
    text, tail = body[:split], body[split:]
    try:
        value = json.loads(text) if text else None
    except ValueError:
        found["body"] = "not JSON"
        return found
    if status != 200:
        # Texts are each server's own; that there is one, and nothing beside it, is the protocol's.
        found["error"] = "text" if isinstance(value, dict) and isinstance(value.get("error"), str) else "none"
        return found
    if tail:
        found["binary"] = tail.hex()
    flatten("", value, found)
    return found


def flatten(at, value, found):
    if isinstance(value, dict):
        for key, inner in value.items():
            flatten(f"{at}/{key}", inner, found)
    elif isinstance(value, list):
        named = value and all(isinstance(v, dict) and "name" in v for v in value)
        if named:
            # The order of tensors means nothing where they have names.
            found[f"{at}#"] = len(value)
            for inner in value:
                flatten(f"{at}[{inner['name']}]", inner, found)
        else:
            found[at or "/"] = json.dumps(value)
    else:
        found[at or "/"] = value


def compare(ours, theirs, table):
    from differential_requests import requests

    with open(table) as file:
        table = json.load(file)["intended"]
    needed, listed, unlisted, counts = set(), [], [], {"requests": 0, "same": 0}
    for name, raw in requests():
        counts["requests"] += 1
        here, there = facts(*ask(ours, raw)), facts(*ask(theirs, raw))
        differing = [k for k in sorted(here.keys() | there.keys()) if here.get(k) != there.get(k)]
        # With another status nothing else can be the same.
        differing = ["status"] if "status" in differing else differing
        if not differing:
            counts["same"] += 1
        for field in differing:
            seen = {"request": name, "field": field, "ours": here.get(field), "theirs": there.get(field)}
            hit = [n for n, entry in enumerate(table) if allows(entry, seen)]
            needed.update(hit[:1])
            (listed if hit else unlisted).append(seen)
    idle = [entry for n, entry in enumerate(table) if n not in needed]
    print(json.dumps({**counts, "listed": listed, "unlisted": unlisted, "idle": idle}))
    return 1 if unlisted or idle else 0


def allows(entry, seen):
    named = any(fnmatch.fnmatchcase(seen["request"], pattern) for pattern in entry["requests"])
    field = fnmatch.fnmatchcase(seen["field"], entry["field"].replace("[", "[[]"))
    return named and field and all(side not in entry or entry[side] == seen[side] for side in ("ours", "theirs"))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "models":
        models(*rest)
    elif what == "triton":
        triton(rest[0], rest[1], int(rest[2]))
    else:
        sys.exit(compare(*rest))
