#!/usr/bin/env python3
"""Reference decoder and encoder of sealed models: the eight steps of docs/sealed-model.md, sharing no code with the crate.

    unseal.py open  PACKAGE KEY_HEX_FILE VENDOR_PUB_FILE OUT_DIR
    unseal.py files VOLUME OUT_DIR
    unseal.py seal  PACKAGE KEY_HEX_FILE SEED_HEX MODEL_ID SEQUENCE PAD_TO USAGE_FILE GRAPH [NAME=ROLE=FILE | STATEMENT=FILE ...]

`open` writes each plaintext to OUT_DIR/NNNN, `files` each file of a volume to OUT_DIR/MODEL/NAME. It reads whole files into memory and wipes nothing: for tests only.
"""
import base64, hashlib, json, os, re, stat, struct, sys
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

CHUNK, HEADER, MIB = 1 << 20, 4096, 1 << 20
TYPE = "application/vnd.vouchsafe.%s.v1+json"
ROLES = {"graph", "external-data", "tokenizer", "labels", "preprocess", "digests"}
MANIFEST = {"version": int, "mode": str, "model_id": str, "model_uid": 32, "sequence": int, "model_commitment": 32,
            "usage_policy_digest": 32, "threshold": int, "provenance": list, "files": list}
STATEMENTS, STATEMENT = {"openssf-model-signing", "slsa-provenance", "dataset-statement"}, {"type": str, "sha256": 32}
FILE = {"index": int, "name": str, "role": str, "padded_len": int, "blob_len": int, "salt": 32, "sealed_len": 24, "list_digest": 32}

def need(truth, what):
    if not truth: raise ValueError(what)
def lp(b): return struct.pack(">I", len(b)) + b
def hkdf(n, salt, key, info): return HKDF(hashes.SHA512(), n, salt, info).derive(key)
def commitment(key, uid): return hkdf(32, uid, key, lp(b"vouchsafe/1 model-key"))
def header(i): return (b"vouchsafe/1 blob" + struct.pack(">III", 1, 1, i)).ljust(HEADER, b"\0")
def pae(kind, body): return b"DSSEv1 %d %s %d " % (len(kind), kind.encode(), len(body)) + body

def loads(data):
    def once(pairs):
        need(len(dict(pairs)) == len(pairs), "repeated field")
        return dict(pairs)
    return json.loads(data.decode(), object_pairs_hook=once)

def fields(value, schema):
    need(type(value) is dict and set(value) == set(schema), "fields")
    for name, kind in schema.items():
        if type(kind) is int: need(re.fullmatch("[0-9a-f]{%d}" % (2 * kind), value[name]), name)
        else: need(type(value[name]) is kind and (kind is not int or 0 <= value[name] < 1 << 64), name)

class File:
    """Key and nonces of one file."""
    def __init__(self, key, uid, sequence, index, padded, salt):
        info = lp(b"vouchsafe/1 file") + lp(uid) + struct.pack(">QIQI", sequence, index, padded, CHUNK)
        okm = hkdf(44, salt, key, info)
        self.aead, self.base = AESGCM(okm[:32]), int.from_bytes(okm[32:], "big")
    def nonce(self, i): return (self.base ^ i).to_bytes(12, "big")
    def seal(self, i, data): return self.aead.encrypt(self.nonce(i), data, None)
    def open(self, i, data): return self.aead.decrypt(self.nonce(i), data, None)

def read(package, name, cap=None):
    path = os.path.join(package, name)
    need(stat.S_ISREG(os.lstat(path).st_mode), "not a regular file")
    data = open(path, "rb").read()
    need(cap is None or len(data) <= cap, "too large")
    return data

def dsse_open(data, kind, keys, threshold):
    envelope = loads(data)
    need(json.dumps(envelope, separators=(",", ":")).encode() == data, "one payload has one envelope")
    fields(envelope, {"payload": str, "payloadType": str, "signatures": list})
    need(envelope["payloadType"] == TYPE % kind, "payload type")
    payload, good = base64.b64decode(envelope["payload"], validate=True), set()
    for signature in envelope["signatures"][:16]:
        fields(signature, {"keyid": str, "sig": str})
        for key in keys:
            if signature["keyid"] != hashlib.sha256(key).hexdigest()[:32]: continue
            try: Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(signature["sig"]), pae(TYPE % kind, payload))
            except InvalidSignature: continue
            good.add(key)
    need(len(good) >= max(1, threshold), "signatures")
    return payload, len(good)

def open_package(package, key, keys):
    payload, signed = dsse_open(read(package, "manifest.dsse.json", MIB), "manifest", keys, 1)
    m = loads(payload)
    fields(m, MANIFEST)
    need(m["version"] == 1 and m["mode"] in ("hardware", "simulation") and 1 <= m["threshold"] <= signed, "version, mode, threshold")
    need(re.fullmatch(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,63}", m["model_id"]) and 1 <= len(m["files"]) <= 4096, "model id, files")
    for p in m["provenance"]:
        fields(p, STATEMENT)
        need(p["type"] in STATEMENTS, "statement")
    need(len({(p["type"], p["sha256"]) for p in m["provenance"]}) == len(m["provenance"]) <= 16, "statements")
    for i, f in enumerate(m["files"]):
        fields(f, FILE)
        need(f["index"] == i and f["role"] in ROLES and re.fullmatch(r"(?!\.|.*\.\.)[A-Za-z0-9._+=@-]{1,128}", f["name"]), "file")
        need(f["padded_len"] <= 1 << 40 and f["blob_len"] == HEADER + f["padded_len"], "lengths")
    roles = [f["role"] for f in m["files"]]
    need(len({f["name"].lower() for f in m["files"]}) == len(roles), "names clash")
    need(roles.count("graph") == roles.count("digests") == 1 and roles[-1] == "digests", "roles")
    usage, _ = dsse_open(read(package, "usage-policy.dsse.json", MIB // 2), "usage-policy", keys, m["threshold"])
    need(len(usage) <= MIB // 4 and hashlib.sha256(usage).hexdigest() == m["usage_policy_digest"], "usage policy")
    names = {"%04d.%s" % (i, kind) for i in range(len(roles)) for kind in ("blob", "list")}
    need(set(os.listdir(package)) == names | {"manifest.dsse.json", "usage-policy.dsse.json"}, "entries")
    uid = bytes.fromhex(m["model_uid"])
    need(commitment(key, uid).hex() == m["model_commitment"], "key commitment")
    out = []
    for i, f in enumerate(m["files"]):
        blob, digests = read(package, "%04d.blob" % i), read(package, "%04d.list" % i)
        chunks = f["padded_len"] // CHUNK + 1
        need(len(blob) == f["blob_len"] and blob[:HEADER] == header(i), "blob")
        need(len(digests) == 48 * chunks and blake3(digests).hexdigest() == f["list_digest"], "list")
        file, plain = File(key, uid, m["sequence"], i, f["padded_len"], bytes.fromhex(f["salt"])), b""
        true_len = int.from_bytes(file.open((1 << 64) - 1, bytes.fromhex(f["sealed_len"])), "big")
        for c in range(chunks):
            data = blob[HEADER + c * CHUNK : HEADER + (c + 1) * CHUNK] + digests[48 * c : 48 * c + 16]
            need(blake3(data).digest() == digests[48 * c + 16 : 48 * c + 48], "chunk")
            plain += file.open(c, data)
        need(true_len <= len(plain) and not any(plain[true_len:]), "true length, padding")
        out.append(plain[:true_len])
    listed = [{"index": f["index"], "name": f["name"], "sha256": hashlib.sha256(p).hexdigest()} for f, p in zip(m["files"], out[:-1])]
    need(loads(out[-1]) == {"version": 1, "files": listed}, "digests")
    return out[:-1]

def open_volume(path):
    volume = open(path, "rb").read()
    need(volume[:32] == b"vouchsafe/1 volume".ljust(32, b"\0") and len(volume) >= 40, "magic")
    length = int.from_bytes(volume[32:40], "big")
    begin = -(-(40 + length) // 4096) * 4096
    need(length <= MIB and begin <= len(volume), "length of the index")
    text = volume[40 : 40 + length]
    need(not any(volume[40 + length : begin]), "padding of the index")
    index = loads(text)
    fields(index, {"files": list})
    need(len(index["files"]) <= 4096, "number of files")
    for f in index["files"]: fields(f, {"path": str, "offset": int, "length": int})
    one = {"files": [{"path": f["path"], "offset": f["offset"], "length": f["length"]} for f in index["files"]]}
    need(json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode() == text, "one index has one text")
    out, end = {}, 0
    for f in index["files"]:
        need(re.fullmatch(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,63}/(?!\.)[A-Za-z0-9._+=@-]{1,128}", f["path"]), "path")
        need(f["path"] not in out, "path twice")
        need(f["offset"] % 4096 == 0 and begin <= f["offset"] <= f["offset"] + f["length"] <= len(volume), "range")
        out[f["path"]] = volume[f["offset"] : f["offset"] + f["length"]]
    for first, last in sorted((f["offset"], f["offset"] + f["length"]) for f in index["files"]):
        need(end <= first, "overlap")
        end = last
    return out

def seal_package(package, key, seed, model_id, sequence, pad_to, usage, inputs, statements):
    signer, uid, files, listed = Ed25519PrivateKey.from_private_bytes(seed), os.urandom(32), [], []
    dump = lambda value: json.dumps(value, separators=(",", ":")).encode()
    public = signer.public_key().public_bytes_raw()
    def write(name, data): open(os.path.join(package, name), "xb").write(data)
    def sign(name, kind, payload):
        envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": TYPE % kind,
                    "signatures": [{"keyid": hashlib.sha256(public).hexdigest()[:32], "sig": base64.b64encode(signer.sign(pae(TYPE % kind, payload))).decode()}]}
        write(name, dump(envelope))
    def add(name, role, plain, pad_to):
        i, salt, padded = len(files), os.urandom(32), -(-len(plain) // pad_to) * pad_to
        file, stream, blob, digests = File(key, uid, sequence, i, padded, salt), plain.ljust(padded, b"\0"), header(i), b""
        for c in range(padded // CHUNK + 1):
            sealed = file.seal(c, stream[c * CHUNK : (c + 1) * CHUNK])
            blob, digests = blob + sealed[:-16], digests + sealed[-16:] + blake3(sealed).digest()
        write("%04d.blob" % i, blob), write("%04d.list" % i, digests)
        files.append({"index": i, "name": name, "role": role, "padded_len": padded, "blob_len": len(blob), "salt": salt.hex(),
                      "sealed_len": file.seal((1 << 64) - 1, struct.pack(">Q", len(plain))).hex(), "list_digest": blake3(digests).hexdigest()})
        listed.append({"index": i, "name": name, "sha256": hashlib.sha256(plain).hexdigest()})
    os.mkdir(package)
    for name, role, plain in inputs: add(name, role, plain, pad_to)
    add("digests.json", "digests", dump({"version": 1, "files": listed}), 1)
    manifest = {"version": 1, "mode": "simulation", "model_id": model_id, "model_uid": uid.hex(), "sequence": sequence,
                "model_commitment": commitment(key, uid).hex(), "usage_policy_digest": hashlib.sha256(usage).hexdigest(), "threshold": 1,
                "provenance": [{"type": kind, "sha256": hashlib.sha256(data).hexdigest()} for kind, data in statements], "files": files}
    sign("manifest.dsse.json", "manifest", dump(manifest)), sign("usage-policy.dsse.json", "usage-policy", usage)

def main(verb, package, *rest):
    if verb == "files":
        for path, data in open_volume(package).items():
            os.makedirs(os.path.join(rest[0], os.path.dirname(path)), exist_ok=True)
            open(os.path.join(rest[0], path), "xb").write(data)
        return
    key_file, *rest = rest
    key, slurp = bytes.fromhex(open(key_file).read().strip()), lambda path: open(path, "rb").read()
    if verb == "open":
        keys = [bytes.fromhex(line.strip().removeprefix("ed25519:")) for line in open(rest[0])]
        for i, plain in enumerate(open_package(package, key, keys)):
            os.makedirs(rest[1], exist_ok=True)
            open(os.path.join(rest[1], "%04d" % i), "wb").write(plain)
    else:
        seed, model_id, sequence, pad_to, usage, graph, *more = rest
        more = [x.split("=") for x in more]
        inputs = [("model.onnx", "graph", slurp(graph))] + [(x[0], x[1], slurp(x[2])) for x in more if len(x) == 3]
        statements = [(x[0], slurp(x[1])) for x in more if len(x) == 2]
        seal_package(package, key, bytes.fromhex(seed), model_id, int(sequence), int(pad_to), slurp(usage), inputs, statements)

if __name__ == "__main__":
    try: main(*sys.argv[1:])
    except (ValueError, KeyError, OSError, TypeError, InvalidTag) as error:
        sys.exit("refused: %s: %s" % (type(error).__name__, error))
