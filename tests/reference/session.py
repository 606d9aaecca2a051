"""The hashes of docs/protocol.md, computed a second time. Prints tests/vectors/session/example.json.

Run: python3 tests/reference/session.py > tests/vectors/session/example.json
"""
import hashlib
import json


def lp(data):
    return len(data).to_bytes(4, "big") + data


def sha512(data):
    return hashlib.sha512(data).digest()


def session_digest(mode, tee, nonce, ekm, spki, claims):
    fields = [b"vouchsafe/1 session", mode, tee, b"server", b"tls-exporter", nonce, ekm, spki]
    return sha512(b"".join(map(lp, fields)) + lp(hashlib.sha256(claims).digest()))


def leaf(digest):
    return sha512(b"\x00" + digest)


def root(leaves):
    """RFC 9162 section 2.1.1: split at the largest power of two below the size."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha512(b"\x01" + root(leaves[:k]) + root(leaves[k:]))


def path(index, leaves):
    """RFC 9162 section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < k:
        return path(index, leaves[:k]) + [root(leaves[k:])]
    return path(index - k, leaves[k:]) + [root(leaves[:k])]


def report_data(mode, tee, top, size):
    fields = [b"vouchsafe/1 report-data", mode, tee, top]
    return sha512(b"".join(map(lp, fields)) + size.to_bytes(8, "big"))


def main():
    mode, tee = b"simulation", b"sev-snp"
    claims = b'{"example":"claims are hashed as exact bytes"}'
    sessions = []
    for i in range(5):
        nonce, ekm, spki = (hashlib.sha256(b"%s %d" % (word, i)).digest() for word in (b"nonce", b"ekm", b"spki"))
        digest = session_digest(mode, tee, nonce, ekm, spki, claims)
        sessions.append({"nonce": nonce, "ekm": ekm, "spki_sha256": spki, "session_digest": digest, "leaf": leaf(digest)})
    leaves = [s["leaf"] for s in sessions]
    top = root(leaves)
    for i, session in enumerate(sessions):
        session["path"] = path(i, leaves)
    example = {
        "mode": mode.decode(), "tee": tee.decode(), "claims": claims.decode(), "sessions": sessions, "root": top,
        "report_data": report_data(mode, tee, top, len(leaves)),
        "receipt": {
            "salt": bytes(32), "body": b"body".hex(), "header_len": 2,
            "request_digest": hashlib.sha256(lp(b"vouchsafe/1 request") + lp(bytes(32)) + lp(b"body") + (2).to_bytes(8, "big")).digest(),
            "response_digest": hashlib.sha256(lp(b"vouchsafe/1 response") + lp(bytes(32)) + lp(b"body") + (2).to_bytes(8, "big")).digest(),
        },
    }
    print(json.dumps(example, indent=1, default=bytes.hex))


main()
