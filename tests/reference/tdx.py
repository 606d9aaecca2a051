"""MRTD, RTMR1 and RTMR2 of docs/measurement.md, computed a second time, from the documents and not from the Rust code.

Run: python3 tests/reference/tdx.py FIRMWARE KERNEL INITRD COMMAND_LINE
Prints one JSON object. `signed` says whether the kernel's own Authenticode signature holds the SHA-256 digest that the same
procedure gives: the one outside witness of it, where the kernel is signed; null where it is not.
"""
import hashlib
import json
import struct
import sys
import uuid


def guid(text):
    return uuid.UUID(text).bytes_le


def tdx_sections(image):
    """OVMF's table of GUIDs, read backwards from 32 bytes before the end; then the TDVF descriptor that it points to."""
    end = len(image) - 32
    assert image[end - 16:end] == guid("96b582de-1fb2-45f7-baea-a366c55a082d")
    start = end - struct.unpack("<H", image[end - 18:end - 16])[0]
    end -= 18
    offset = None
    while end > start:
        length, name = struct.unpack("<H16s", image[end - 18:end])
        if name == guid("e47a6535-984a-4798-865e-4685a7bf8ec2"):
            offset = len(image) - struct.unpack("<I", image[end - length:end - 18])[0]
        end -= length
    assert image[offset - 16:offset] == guid("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae")
    signature, _, version, count = struct.unpack("<4sIII", image[offset:offset + 16])
    assert (signature, version) == (b"TDVF", 1)
    return [struct.unpack_from("<IIQQII", image, offset + 16 + 32 * n) for n in range(count)]


def mrtd(image):
    digest = hashlib.sha384()
    for offset, length, address, size, _, attributes in tdx_sections(image):
        memory = image[offset:offset + length] + bytes(size - length)
        for page in range(0, size, 4096):
            digest.update(struct.pack("<16sQ104x", b"MEM.PAGE.ADD", address + page))
            if attributes & 1:
                for chunk in range(page, page + 4096, 256):
                    digest.update(struct.pack("<16sQ104x", b"MR.EXTEND", address + chunk))
                    digest.update(memory[chunk:chunk + 256])
    return digest.digest()


def hashed_parts(image):
    """What Authenticode hashes of a PE32+ image, and its certificates."""
    pe = struct.unpack_from("<I", image, 0x3C)[0]
    sections, optional_size = struct.unpack_from("<H12xH", image, pe + 6)
    optional = pe + 24
    assert image[pe:pe + 4] == b"PE\0\0" and image[optional:optional + 2] == b"\x0b\x02"
    headers = struct.unpack_from("<I", image, optional + 60)[0]
    certificates, certificates_size = struct.unpack_from("<II", image, optional + 144)
    parts = [image[:optional + 64], image[optional + 68:optional + 144], image[optional + 152:headers]]
    table = [struct.unpack_from("<II", image, optional + optional_size + 40 * n + 16) for n in range(sections)]
    hashed = headers
    for size, start in sorted((entry for entry in table if entry[0]), key=lambda entry: entry[1]):
        parts.append(image[start:start + size])
        hashed += size
    if len(image) > hashed:
        parts.append(image[hashed:len(image) - certificates_size])
    return b"".join(parts), image[certificates:certificates + certificates_size]


def extend(register, digest):
    return hashlib.sha384(register + digest).digest()


def rtmr1(kernel):
    register = extend(bytes(48), hashlib.sha384(hashed_parts(kernel)[0]).digest())
    for event in [
        b"Calling EFI Application from Boot Option",
        bytes(4),
        b"Exit Boot Services Invocation",
        b"Exit Boot Services Returned with Success",
    ]:
        register = extend(register, hashlib.sha384(event).digest())
    return register


def rtmr2(initrd, command_line):
    options = ("initrd=initrd " + command_line + "\0").encode("utf-16-le")
    return extend(extend(bytes(48), hashlib.sha384(options).digest()), hashlib.sha384(initrd).digest())


def main():
    firmware, kernel, initrd = (open(path, "rb").read() for path in sys.argv[1:4])
    parts, certificates = hashed_parts(kernel)
    signed = hashlib.sha256(parts).digest() in certificates if certificates else None
    print(json.dumps({
        "mr_td": mrtd(firmware).hex(),
        "rtmr1": rtmr1(kernel).hex(),
        "rtmr2": rtmr2(initrd, sys.argv[4]).hex(),
        "signed": signed,
    }))


if __name__ == "__main__":
    main()
