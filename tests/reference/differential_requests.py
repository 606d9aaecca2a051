"""Turns names into the requests of the differential run: every one is the bytes of one HTTP/1.1 request, `@` for the host.

The models are `sum` (a, b: FP32 [-1,4] -> y), `kinds` (in_X: X [-1] -> out_X, for every datatype but BF16) and `breast-cancer`
(features: FP32 [-1,30] -> label, probabilities), all in version 2.
"""

import gzip
import json
import struct
import zlib

LENGTH = "Inference-Header-Content-Length"

# Two elements of each datatype: as JSON has them, and as the binary extension does.
VALUES = {
    "BOOL": ([True, False], b"\x01\x00"),
    "UINT8": ([0, 255], struct.pack("<2B", 0, 255)),
    "UINT16": ([0, 65535], struct.pack("<2H", 0, 65535)),
    "UINT32": ([0, 4294967295], struct.pack("<2I", 0, 4294967295)),
    "UINT64": ([0, 18446744073709551615], struct.pack("<2Q", 0, 18446744073709551615)),
    "INT8": ([-128, 127], struct.pack("<2b", -128, 127)),
    "INT16": ([-32768, 32767], struct.pack("<2h", -32768, 32767)),
    "INT32": ([-2147483648, 2147483647], struct.pack("<2i", -2147483648, 2147483647)),
    "INT64": ([-9223372036854775808, 9223372036854775807], struct.pack("<2q", -(1 << 63), (1 << 63) - 1)),
    "FP16": ([0.5, -2.0], struct.pack("<2e", 0.5, -2.0)),
    "FP32": ([0.5, -2.25], struct.pack("<2f", 0.5, -2.25)),
    "FP64": ([0.1, -1e300], struct.pack("<2d", 0.1, -1e300)),
    "BYTES": (["", "gr\u00fcn"], struct.pack("<I", 0) + struct.pack("<I", 5) + "gr\u00fcn".encode()),
}


def http(method, path, body=b"", headers=()):
    lines = [f"{method} {path} HTTP/1.1", "Host: @"]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
        if not any(name.lower() == "content-type" for name, _ in headers):
            lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def infer(model, request, tail=b"", headers=(), length=None):
    text = request if isinstance(request, bytes) else json.dumps(request).encode()
    if tail or length is not None:
        headers = (*headers, (LENGTH, len(text) if length is None else length))
    return http("POST", f"/v2/models/{model}/infer", text + tail, headers)


def row(name, data=(1.5, 2, 3, 4), shape=(1, 4), **more):
    return {"name": name, "shape": list(shape), "datatype": "FP32", "data": list(data), **more}


def packed(name, count=4, shape=(1, 4), **more):
    size = {"binary_data_size": 4 * count}
    return {"name": name, "shape": list(shape), "datatype": "FP32", "parameters": size, **more}


def add(*, a=None, b=None, **more):
    return {"inputs": [row("a") if a is None else a, row("b") if b is None else b], **more}


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


FOUR = floats(0.25, -1, 1e-3, 1e6)


def described():
    yield from {
        "server live": http("GET", "/v2/health/live"),
        "server ready": http("GET", "/v2/health/ready"),
        "server metadata": http("GET", "/v2"),
        "model metadata": http("GET", "/v2/models/sum"),
        "model metadata of a version": http("GET", "/v2/models/sum/versions/2"),
        "model metadata of every datatype": http("GET", "/v2/models/kinds"),
        "model ready": http("GET", "/v2/models/sum/ready"),
        "model ready of a version": http("GET", "/v2/models/sum/versions/2/ready"),
        "model config": http("GET", "/v2/models/sum/config"),
        "model config of a version": http("GET", "/v2/models/sum/versions/2/config"),
        "model config of every datatype": http("GET", "/v2/models/kinds/config"),
        "model stats": http("GET", "/v2/models/sum/stats"),
        "model stats of a version": http("GET", "/v2/models/sum/versions/2/stats"),
        "all stats": http("GET", "/v2/models/stats"),
        "repository index": http("POST", "/v2/repository/index", b"{}"),
        "repository index without a body": http("POST", "/v2/repository/index"),
        "repository index of the ready": http("POST", "/v2/repository/index", b'{"ready":true}'),
        "list of models": http("GET", "/v2/models"),
        "unknown: model metadata": http("GET", "/v2/models/nobody"),
        "unknown: version metadata": http("GET", "/v2/models/sum/versions/9"),
        "unknown: version that is no number": http("GET", "/v2/models/sum/versions/x"),
        "unknown: version with a zero before it": http("GET", "/v2/models/sum/versions/02"),
        "unknown: model ready": http("GET", "/v2/models/nobody/ready"),
        "unknown: version ready": http("GET", "/v2/models/sum/versions/9/ready"),
        "unknown: model config": http("GET", "/v2/models/nobody/config"),
        "unknown: model stats": http("GET", "/v2/models/nobody/stats"),
        "unknown: model infer": infer("nobody", add()),
        "unknown: version infer": http("POST", "/v2/models/sum/versions/9/infer", json.dumps(add()).encode()),
        "unknown: route": http("GET", "/v2/nowhere"),
        "unknown: version of the protocol": http("GET", "/v3"),
        "unknown: root": http("GET", "/"),
        "method: GET infer": http("GET", "/v2/models/sum/infer"),
        "method: POST metadata": http("POST", "/v2/models/sum", b"{}"),
        "method: DELETE model": http("DELETE", "/v2/models/sum"),
        "method: GET repository index": http("GET", "/v2/repository/index"),
        "method: PUT live": http("PUT", "/v2/health/live"),
        "control: load a model": http("POST", "/v2/repository/models/sum/load", b"{}"),
        "control: unload a model": http("POST", "/v2/repository/models/nobody/unload", b"{}"),
        "control: trace settings": http("GET", "/v2/trace/setting"),
        "control: log settings": http("GET", "/v2/logging"),
        "control: shared memory": http("GET", "/v2/systemsharedmemory/status"),
    }.items()


def answered():
    flat = json.dumps(add()).encode()
    nested = add(a=row("a", [[1, 2, 3, 4], [5, 6, 7, 8]], (2, 4)), b=row("b", [[0.5] * 4] * 2, (2, 4)))
    deflated = zlib.compress(flat)
    yield from {
        "infer: flat": infer("sum", add()),
        "infer: nested": infer("sum", nested),
        "infer: nested in one of two": infer("sum", add(a=row("a", [[1, 2, 3, 4]]))),
        "infer: of a version": http("POST", "/v2/models/sum/versions/2/infer", flat),
        "infer: id": infer("sum", add(id="r-1")),
        "infer: id of other letters": infer("sum", add(id="\u6f22 \u00e9")),
        "infer: empty id": infer("sum", add(id="")),
        "infer: output by name": infer("sum", add(outputs=[{"name": "y"}])),
        "infer: no outputs named": infer("sum", add(outputs=[])),
        "infer: output as binary": infer("sum", add(outputs=[{"name": "y", "parameters": {"binary_data": True}}])),
        "infer: output not as binary": infer("sum", add(outputs=[{"name": "y", "parameters": {"binary_data": False}}])),
        "infer: all outputs as binary": infer("sum", add(parameters={"binary_data_output": True})),
        "infer: all as binary but one": infer(
            "breast-cancer",
            {
                "inputs": [row("features", [0.5] * 60, (2, 30))],
                "outputs": [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probabilities"}],
                "parameters": {"binary_data_output": True},
            },
        ),
        "infer: binary": infer("sum", add(a=packed("a"), b=packed("b")), FOUR + FOUR),
        "infer: binary and JSON": infer("sum", add(a=packed("a")), FOUR),
        "infer: JSON and binary": infer("sum", add(b=packed("b")), FOUR),
        "infer: binary, without a content type": infer(
            "sum", add(a=packed("a")), FOUR, (("Content-Type", "application/octet-stream"),)
        ),
        "infer: header length of all": infer("sum", add(), length=len(flat)),
        "infer: NaN as binary": infer(
            "sum", add(a=packed("a"), parameters={"binary_data_output": True}), floats(float("nan"), 1, 2, 3)
        ),
        "infer: no rows": infer("sum", add(a=row("a", [], (0, 4)), b=row("b", [], (0, 4)))),
        "infer: many rows": infer("sum", add(a=row("a", range(400), (100, 4)), b=row("b", [0] * 400, (100, 4)))),
        "infer: odd numbers": infer("sum", add(a=row("a", [-0.0, 1e-40, 3.4028234e38, 0.1]))),
        "infer: more digits than a float has": infer("sum", flat.replace(b"1.5", b"1.50000001490116119384765625")),
        "infer: white space": infer("sum", json.dumps(add(), indent=2).encode()),
        "infer: keys in another order": infer("sum", json.dumps(add(id="1"), sort_keys=True).encode()),
        "infer: escapes in names": infer("sum", flat.replace(b'"a"', b'"\\u0061"', 1)),
        "infer: inputs in another order": infer("sum", {"inputs": [row("b"), row("a", [0] * 4)]}),
        "infer: gzip": infer("sum", gzip.compress(flat), headers=(("Content-Encoding", "gzip"),)),
        "infer: deflate": infer("sum", deflated, headers=(("Content-Encoding", "deflate"),)),
        "infer: raw": infer("breast-cancer", b"", floats(*[0.5] * 30)),
        "infer: raw, two rows": infer("breast-cancer", b"", floats(*[0.5] * 60)),
        "infer: two outputs": infer("breast-cancer", {"inputs": [row("features", [0.5] * 30, (1, 30))]}),
        "infer: second of two outputs": infer(
            "breast-cancer",
            {"inputs": [row("features", [0.5] * 30, (1, 30))], "outputs": [{"name": "probabilities"}]},
        ),
        "infer: every datatype": infer("kinds", *kinds()),
        "infer: every datatype as binary": infer(
            "kinds", *kinds(binary=VALUES.keys(), parameters={"binary_data_output": True})
        ),
        "infer: no elements": infer("kinds", *kinds(count=0)),
        "infer: 1 and 0 for BOOL": infer("kinds", *kinds(BOOL=[1, 0])),
        "infer: floats for INT32": infer("kinds", *kinds(INT32=[1.0, 2.5])),
        "infer: true for INT64": infer("kinds", *kinds(INT64=[True, False])),
        "infer: 256 for UINT8": infer("kinds", *kinds(UINT8=[0, 256])),
        "infer: -1 for UINT8": infer("kinds", *kinds(UINT8=[0, -1])),
        "infer: 128 for INT8": infer("kinds", *kinds(INT8=[0, 128])),
        "infer: 2^64 for UINT64": infer("kinds", *kinds(UINT64=[0, 1 << 64])),
        "infer: 2^63 for INT64": infer("kinds", *kinds(INT64=[0, 1 << 63])),
        "infer: 1e39 for FP32": infer("kinds", *kinds(FP32=[0, 1e39])),
        "infer: numbers for BYTES": infer("kinds", *kinds(BYTES=[1, 2])),
        "infer: FP16 as JSON": infer("kinds", *kinds(FP16=[0.5, 1])),
        "infer: FP16 wanted as JSON": infer("kinds", {"inputs": kinds()[0]["inputs"]}, kinds()[1]),
        "infer: 2 in a binary BOOL": infer("kinds", *kinds(binary=["FP16", "BOOL"], BOOL=b"\x01\x02")),
        "infer: BYTES that are no UTF-8": infer("kinds", *kinds(binary=["FP16", "BYTES"], BYTES=b"\x01\0\0\0\xff\0\0\0\0")),
    }.items()


def kinds(binary=("FP16",), count=2, parameters=None, **replaced):
    """A request of every datatype, and its binary part; `replaced` are elements, or bytes for those in `binary`."""
    inputs, tail = [], b""
    for kind, (data, raw) in VALUES.items():
        entry = {"name": f"in_{kind}", "shape": [count], "datatype": kind}
        given = replaced.get(kind, data if kind not in binary or kind in replaced else raw)
        if count == 0:
            given = b"" if kind in binary else []
        if isinstance(given, bytes):
            entry["parameters"] = {"binary_data_size": len(given)}
            tail += given
        else:
            entry["data"] = given
        inputs.append(entry)
    # FP16 has no JSON form.
    outputs = [{"name": f"out_{kind}", "parameters": {"binary_data": kind == "FP16"}} for kind in VALUES]
    request = {"inputs": inputs, "parameters": parameters} if parameters else {"inputs": inputs, "outputs": outputs}
    return (request, tail) if tail or count == 0 else (request,)


def refused():
    flat = json.dumps(add()).encode()
    without = lambda key: add(a={k: v for k, v in row("a").items() if k != key})
    both = add(a=row("a", parameters={"binary_data_size": 16}))
    deep = lambda levels: flat.replace(b"[1.5, 2, 3, 4]", b"[" * levels + b"1,2,3,4" + b"]" * levels, 1)
    yield from {
        "refuse: no body": infer("sum", b""),
        "refuse: null": infer("sum", b"null"),
        "refuse: a list": infer("sum", b"[]"),
        "refuse: an empty object": infer("sum", b"{}"),
        "refuse: words": infer("sum", b"inputs"),
        "refuse: half a body": infer("sum", flat[: len(flat) // 2]),
        "refuse: words behind the JSON": infer("sum", flat + b"{}"),
        "refuse: not UTF-8": infer("sum", add(id="x")).replace(b'"x"', b'"\xff"'),
        "refuse: a comment": infer("sum", flat + b"/* */"),
        "refuse: NaN": infer("sum", flat.replace(b"1.5", b"NaN", 1)),
        "refuse: Infinity": infer("sum", flat.replace(b"1.5", b"Infinity", 1)),
        "refuse: a number with a zero before it": infer("sum", flat.replace(b"1.5", b"01.5", 1)),
        "refuse: a number without a digit": infer("sum", flat.replace(b"1.5", b"1.", 1)),
        "refuse: inputs twice": infer("sum", flat.replace(b'{"inputs"', b'{"inputs": [], "inputs"')),
        "refuse: name twice": infer("sum", flat.replace(b'"name"', b'"name": "b", "name"', 1)),
        "refuse: 101 levels": infer("sum", deep(101)),
        "refuse: three levels of two": infer("sum", deep(3)),
        "refuse: unknown field": infer("sum", add(note=1)),
        "refuse: unknown field of a tensor": infer("sum", add(a=row("a", note=1))),
        "refuse: id that is a number": infer("sum", add(id=7)),
        "refuse: inputs that are an object": infer("sum", {"inputs": {}}),
        "refuse: no inputs": infer("sum", {"inputs": []}),
        "refuse: one input missing": infer("sum", {"inputs": [row("a")]}),
        "refuse: an input too many": infer("sum", {"inputs": [row("a"), row("b"), row("c")]}),
        "refuse: an input twice": infer("sum", {"inputs": [row("a"), row("a"), row("b")]}),
        "refuse: another name": infer("sum", add(a=row("A"))),
        "refuse: no name": infer("sum", without("name")),
        "refuse: no datatype": infer("sum", without("datatype")),
        "refuse: no shape": infer("sum", without("shape")),
        "refuse: no data": infer("sum", without("data")),
        "refuse: data and a binary size": infer("sum", both, FOUR),
        "refuse: datatype of another": infer("sum", add(a=row("a", datatype="FP64"))),
        "refuse: unknown datatype": infer("sum", add(a=row("a", datatype="FLOAT"))),
        "refuse: datatype in small letters": infer("sum", add(a=row("a", datatype="fp32"))),
        "refuse: a column less": infer("sum", add(a=row("a", [1, 2, 3], (1, 3)))),
        "refuse: a dimension less": infer("sum", add(a=row("a", shape=(4,)))),
        "refuse: a dimension more": infer("sum", add(a=row("a", shape=(1, 1, 4)))),
        "refuse: negative dimension": infer("sum", add(a=row("a", shape=(-1, 4)))),
        "refuse: dimension that is a float": infer("sum", add(a=row("a", shape=(1.0, 4)))),
        "refuse: an element less": infer("sum", add(a=row("a", [1, 2, 3]))),
        "refuse: an element more": infer("sum", add(a=row("a", [1, 2, 3, 4, 5]))),
        "refuse: null among the elements": infer("sum", add(a=row("a", [1, None, 3, 4]))),
        "refuse: text among the elements": infer("sum", add(a=row("a", [1, "2", 3, 4]))),
        "refuse: data that is a number": infer("sum", flat.replace(b"[1.5, 2, 3, 4]", b"1.5", 1)),
        "refuse: rows of two lengths": infer("sum", add(a=row("a", [[1, 2, 3], [4]]))),
        "refuse: rows that do not go together": infer("sum", add(a=row("a", range(8), (2, 4)), b=row("b", range(12), (3, 4)))),
        "refuse: unknown output": infer("sum", add(outputs=[{"name": "z"}])),
        "refuse: output twice": infer("sum", add(outputs=[{"name": "y"}, {"name": "y"}])),
        "refuse: output without a name": infer("sum", add(outputs=[{}])),
        "refuse: binary, a byte less": infer("sum", add(a=packed("a")), FOUR[:-1]),
        "refuse: binary, a byte more": infer("sum", add(a=packed("a")), FOUR + b"x"),
        "refuse: binary size of another": infer("sum", add(a=packed("a", 3)), FOUR[:12]),
        "refuse: binary size that is negative": infer("sum", add(a=packed("a", -4)), FOUR),
        "refuse: binary size that is text": infer("sum", add(a=packed("a", parameters={"binary_data_size": "16"})), FOUR),
        "refuse: binary size of 2^63": infer("sum", add(a=packed("a", 1 << 61)), FOUR),
        "refuse: header length beyond the body": infer("sum", flat, length=len(flat) + 1),
        "refuse: header length that is negative": infer("sum", flat, length=-1),
        "refuse: header length that is no number": infer("sum", flat, length="x"),
        "refuse: header length beyond any number": infer("sum", flat, length="9" * 30),
        "refuse: header length in the middle": infer("sum", flat, length=len(flat) // 2),
        "refuse: raw for two inputs": infer("sum", b"", FOUR),
        "refuse: raw of half a row": infer("breast-cancer", b"", floats(*[0.5] * 15)),
        "refuse: raw of half a number": infer("breast-cancer", b"", floats(*[0.5] * 30)[:-2]),
        "refuse: gzip that is none": infer("sum", flat, headers=(("Content-Encoding", "gzip"),)),
        "refuse: gzip cut short": infer("sum", gzip.compress(flat)[:-9], headers=(("Content-Encoding", "gzip"),)),
        "refuse: unknown encoding": infer("sum", flat, headers=(("Content-Encoding", "br"),)),
        "refuse: two encodings": infer("sum", flat, headers=(("Content-Encoding", "gzip, gzip"),)),
        "refuse: BYTES cut short": infer("kinds", *kinds(binary=["FP16", "BYTES"], BYTES=b"\x05\0\0\0abc")),
        "refuse: BYTES, an element less": infer("kinds", *kinds(binary=["FP16", "BYTES"], BYTES=b"\x01\0\0\0a")),
        "extension: classification": infer("sum", add(outputs=[{"name": "y", "parameters": {"classification": 2}}])),
        "extension: sequence": infer("sum", add(parameters={"sequence_id": 7, "sequence_start": True})),
        "extension: priority": infer("sum", add(parameters={"priority": 1})),
        "extension: timeout": infer("sum", add(parameters={"timeout": 1000000})),
        "extension: a parameter of one's own": infer("sum", add(parameters={"colour": "green"})),
        "extension: shared memory": infer(
            "sum", add(a={"name": "a", "shape": [1, 4], "datatype": "FP32",
                          "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}})
        ),
    }.items()


def absurd():
    """Last, since tritonserver's Python backend does not come back from them."""
    yield from {
        "absurd: dimension of 2^63": infer("sum", add(a=row("a", shape=(1 << 63, 4)))),
        "absurd: dimensions whose product overflows": infer("sum", add(a=row("a", shape=(1 << 62, 4)))),
    }.items()


def requests():
    """Every request: its name and its bytes."""
    for part in (described(), answered(), refused(), absurd()):
        yield from part
