#!/usr/bin/env python3
"""Turn Radiolith segments back into the files that were stored, with no server, no database and no Radiolith.

    python read_segment.py --keyring KEYRING --recovery RECOVERY.txt --out DIRECTORY SEGMENT_OR_DIRECTORY...

Needs Python 3.9 and the package `cryptography`. KEYRING is one place of the keyring: its file, or a directory with
the objects of an object store. Everything is checked before it is believed, and every file that does not
authenticate is left out and named. The formats: docs/format/segment.md and docs/format/keyring.md.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import struct
import sys
import zlib
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

CHUNK, TAG, BLOCK, SLOT = 65536, 16, 4096, 512
RECORD, TRAILER, END = struct.Struct("<4sHBBQ16s16sI"), struct.Struct("<4sHBB16s16s16sQ40sQI"), struct.Struct("<QII4s")
KINDS = {1: "objects", 2: "quarantine", 3: "facts"}


def root_key(path: str) -> bytes:
    with open(path, encoding="utf-8") as file:
        lines = dict(line.split(":", 1) for line in file if line.count(":") == 1)
    letters = re.sub(r"[^A-Z2-7]", "", lines["root-key"].upper())
    key = base64.b32decode(letters + "=" * (-len(letters) % 8))
    if hashlib.sha256(key).hexdigest()[:8] != lines["checksum"].strip():
        sys.exit(f"{path}: the checksum does not fit the key; look for a mistyped letter")
    return key


def keyring_slots(path: str) -> "list[bytes]":
    """The header, then the entries, whatever kind of place it is."""
    paths = [path]
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if re.fullmatch("[0-9a-f]{16}", name))
        paths = [os.path.join(path, name) for name in ["header", *names]]
    data = b""
    for part in paths:
        with open(part, "rb") as file:
            data += file.read()
    return [data[at : at + SLOT] for at in range(0, len(data) - SLOT + 1, SLOT)]


def scope_keys(path: str, root: bytes) -> "dict[bytes, bytes]":
    """Scope id -> key, through the tenants' keys."""
    slots = keyring_slots(path)
    if slots[0][:8] != b"RLKEYRNG" or zlib.crc32(slots[0][:508]) != int.from_bytes(slots[0][508:], "little"):
        print(f"{path}: damaged header; using the keyring id as it stands", file=sys.stderr)
    keyring = slots[0][16:32]
    tenants: dict[str, bytes] = {}
    scopes: dict[bytes, bytes] = {}
    for position, slot in enumerate(slots[1:]):
        if zlib.crc32(slot[:508], zlib.crc32(keyring)) != int.from_bytes(slot[508:], "little"):
            print(f"{path}: entry {position} is damaged; take another place of the keyring", file=sys.stderr)
            continue
        entry = json.loads(slot[32 : 32 + int.from_bytes(slot[6:8], "little")])
        try:
            if entry["t"] == "tenant":
                tenants[entry["id"]] = aes_key_unwrap(root, bytes.fromhex(entry["k"]))
            elif entry["t"] == "scope":
                scopes[bytes.fromhex(entry["id"])] = aes_key_unwrap(tenants[entry["tenant"]], bytes.fromhex(entry["k"]))
        except (InvalidUnwrap, KeyError):
            print(f"{path}: entry {position} does not open: wrong root key?", file=sys.stderr)
    return scopes


def places(file: BinaryIO, size: int) -> "list[tuple[int, int]]":
    """(offset, length) of every record: by the footer, or batch by batch where there is none."""
    file.seek(max(0, size - 64))
    tail = file.read(64)
    if tail[:8] == b"RLSEALED" and zlib.crc32(tail[:60]) == int.from_bytes(tail[60:], "little"):
        offset, length = struct.unpack_from("<QQ", tail, 32)
        file.seek(offset)
        footer = file.read(length)
        if zlib.crc32(footer) == int.from_bytes(tail[12:16], "little"):
            return [struct.unpack_from("<QQ", footer, at) for at in range(64, length, 40)]
    found: list[tuple[int, int]] = []
    for batch in range(BLOCK, size, BLOCK):  # a header that is damaged costs its batch, no more
        file.seek(batch)
        head = file.read(64)
        if head[:8] != b"RLBATCH1" or zlib.crc32(head[:60]) != int.from_bytes(head[60:], "little"):
            continue
        at, stop = batch + 64, batch + 64 + struct.unpack_from("<Q", head, 48)[0]
        if stop == at:  # streamed: one record, ending with the last end marker in the file
            file.seek(max(0, size - 2 * 1024 * 1024))
            rear = file.read()
            found.append((at, size - len(rear) + rear.rfind(b"RLEN") + 4 - at))
        while at < stop:
            file.seek(at)
            header = file.read(RECORD.size)
            length = (RECORD.unpack(header)[4] or stop - at) if header[:4] == b"RLRC" else 0
            if length < RECORD.size or at + length > stop:
                break
            found.append((at, length))
            at += length
    return found


def read_record(file: BinaryIO, offset: int, length: int, scopes: "dict[bytes, bytes]", out: str) -> str:
    """Write the original of one record; returns its file's path. Raises ValueError, KeyError or a cryptographic
    error."""
    file.seek(offset + length - END.size)
    whole, meta_size, _, magic = END.unpack(file.read(END.size))
    if magic != b"RLEN" or whole != length:
        raise ValueError("no valid end")
    file.seek(offset + length - END.size - meta_size - TAG - TRAILER.size)
    clear, sealed = file.read(TRAILER.size), file.read(meta_size + TAG)
    _, number, kind, _, object_id, tenant, scope, _, wrapped, size, _ = TRAILER.unpack(clear)
    if number != 1:
        raise ValueError(f"format {number}; this reader knows 1")
    cipher = AESGCM(aes_key_unwrap(scopes[scope], wrapped))
    meta = json.loads(cipher.decrypt(struct.pack("<B3xQ", 2, 0), sealed, clear))
    name = re.sub(r"[^A-Za-z0-9._-]", "_", meta.get("name", "")).lstrip(".") or object_id.hex()
    path = os.path.join(out, KINDS[kind], name)
    if os.path.exists(path):  # another version, or a copy of the same record
        path = os.path.join(out, KINDS[kind], object_id.hex() + "-" + name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    last, left = max(1, -(-size // CHUNK)) - 1, meta.get("original_size", size)
    file.seek(offset + RECORD.size)
    try:
        with open(path + ".part", "wb") as target:
            for index in range(last + 1):
                length = CHUNK if index < last else size - last * CHUNK
                nonce = struct.pack("<B3xQ", index == last, index)
                associated = struct.pack("<H16s16sQB", number, tenant, object_id, index, index == last)
                plain = cipher.decrypt(nonce, file.read(length + TAG), associated)
                target.write(plain[: max(0, left)])
                left -= len(plain)
        os.replace(path + ".part", path)
    finally:
        if os.path.exists(path + ".part"):
            os.remove(path + ".part")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keyring", required=True)
    parser.add_argument("--recovery", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("segments", nargs="+")
    given = parser.parse_args()
    scopes = scope_keys(given.keyring, root_key(given.recovery))
    files = [path for path in given.segments if os.path.isfile(path)]
    for folder in (path for path in given.segments if os.path.isdir(path)):
        files += [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(".seg")]
    written = failed = 0
    for path in sorted(files):
        with open(path, "rb") as file:
            for offset, length in places(file, os.path.getsize(path)):
                try:
                    read_record(file, offset, length, scopes, given.out)
                    written += 1
                except (ValueError, KeyError, struct.error, InvalidTag, InvalidUnwrap) as error:
                    failed += 1
                    print(f"{path} at byte {offset}: {type(error).__name__} {error}", file=sys.stderr)
    print(f"{written} files written to {given.out}, {failed} records could not be read")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
