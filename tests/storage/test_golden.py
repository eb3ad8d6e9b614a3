"""The formats, byte by byte, and the stand-alone reader.

`golden/` holds one tiny segment and one keyring, annotated, made with fixed randomness. A difference is a change of the
format: a new format number, or a mistake. `RADIOLITH_REWRITE_GOLDEN=1` writes them anew, for the diff to be read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from radiolith.model import Kind, Scope
from radiolith.storage.backends.files import FileBackend, segment_path
from radiolith.storage.blobs import Log
from radiolith.storage.drafts import Draft
from radiolith.storage.format import (
    BATCH_HEADER,
    BLOCK,
    END,
    FOOTER_ENTRY,
    FOOTER_HEADER,
    RECORD_HEADER,
    SEGMENT_HEADER,
    TAIL,
    TRAILER,
)
from radiolith.storage.keyring import Keyring
from radiolith.storage.keyring_places import KeyringFile
from tests.storage.simulated_disk import SimulatedDisk

GOLDEN = Path(__file__).parent / "golden"
ROOT, TENANT_KEY, SCOPE_KEY = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
TENANT, SCOPE_ID = b"T" * 16, b"S" * 16
AT = 1_700_000_000_000_000


class Sequence:
    """Randomness that repeats itself: block n is n, n, n …"""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, length: int) -> bytes:
        self.drawn += 1
        return bytes([self.drawn]) * length


def entries() -> list[bytes]:
    body = [
        {"t": "root", "check": "00" * 16},
        {"t": "tenant", "id": TENANT.hex(), "k": aes_key_wrap(ROOT, TENANT_KEY).hex()},
        {
            "t": "scope",
            "id": SCOPE_ID.hex(),
            "tenant": TENANT.hex(),
            "kind": "study",
            "k": aes_key_wrap(TENANT_KEY, SCOPE_KEY).hex(),
            "label": "00",
        },
    ]
    return [json.dumps(each, separators=(",", ":")).encode("ascii") for each in body]


def make(disk: SimulatedDisk, **more: int) -> tuple[Log, Keyring]:
    random = Sequence()
    backend = FileBackend(disk, clock=lambda: AT, random=random, reserve_bytes=0, segment_bytes=65536)
    keyring = Keyring([KeyringFile(disk, "a"), KeyringFile(disk, "b")], clock=lambda: AT, random=random)
    return Log(backend, clock=lambda: AT, random=random, **more), keyring


def sealed(log: Log, payload: bytes, name: str, original: int | None = None, kind: Kind = Kind.OBJECT) -> Draft:
    draft = log.begin(TENANT, kind)
    draft.write(payload)
    size = len(payload) if original is None else original
    meta = {"kind": kind.name.lower(), "original_size": size, "name": name}
    draft.seal(Scope(SCOPE_ID, 2), aes_key_wrap(SCOPE_KEY, draft.key), json.dumps(meta).encode())
    return draft


# ---------------------------------------------------------------- annotated bytes


def _line(at: int, data: bytes, name: str) -> Iterator[str]:
    for start in range(0, max(1, len(data)), 16):
        yield f"{at + start:06x}  {data[start : start + 16].hex(' '):47}  {name if start == 0 else ''}".rstrip()


def annotate(data: bytes, parts: list[tuple[str, int]]) -> str:
    """Hex with a name for each part; what is zero to the end of a part is said in words."""
    lines: list[str] = []
    at = 0
    for name, length in parts:
        piece = data[at : at + length]
        if length > 16 and not any(piece):
            lines.append(f"{at:06x}  {length} zeros: {name}")
        else:
            lines += _line(at, piece, name)
        at += length
    assert at == len(data), "the parts are not the whole"
    return "\n".join(lines) + "\n"


def segment_parts(size: int, records: list[tuple[int, int]], data_end: int) -> list[tuple[str, int]]:
    parts = [("segment header", SEGMENT_HEADER.size), ("crc", 4), ("padding", BLOCK - 64)]
    parts += [("batch header", BATCH_HEADER.size), ("crc", 4)]
    for payload, meta in records:
        parts += [("record header", RECORD_HEADER.size), ("crc", 4)]
        parts += [("chunk 0", payload), ("tag", 16), ("trailer", TRAILER.size), ("sealed metadata", meta), ("tag", 16)]
        parts += [("end: length, metadata size, crc, magic", END.size)]
    parts += [("padding", -data_end % BLOCK), ("footer header", FOOTER_HEADER.size), ("crc", 4)]
    parts += [("footer entry", FOOTER_ENTRY.size)] * len(records) + [("tail", TAIL.size), ("crc", 4)]
    assert sum(length for _, length in parts) == size
    return parts


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("RADIOLITH_REWRITE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text


def test_segment() -> None:
    disk = SimulatedDisk()
    log, _ = make(disk)
    drafts = [sealed(log, b"DICM, as received", "1.2.3.dcm"), sealed(log, b"", "empty.dcm")]
    places = log.commit(drafts)
    log.seal()
    assert places[0] is not None and places[1] is not None
    data = bytes(disk.content(segment_path(places[0].segment)))
    metas = [log.record(place).sealed_meta for place in places if place]
    records = [(draft.size, len(meta) - 16) for draft, meta in zip(drafts, metas, strict=True)]
    end = places[1].offset + places[1].length
    compare("segment.txt", annotate(data, segment_parts(len(data), records, end)))


def test_keyring() -> None:
    disk = SimulatedDisk()
    _, keyring = make(disk)
    keyring.append(lambda seen: entries()[:1])
    keyring.append(lambda seen: entries()[1:])
    data = bytes(disk.content("a"))
    assert data == bytes(disk.content("b"))
    parts = [("header: magic, format, slot size, 0, keyring id, created", 40), ("padding", 468), ("crc", 4)]
    for payload in entries():
        parts += [("magic, format, payload size", 8), ("position", 8), ("durable", 8), ("append", 8)]
        parts += [("payload", len(payload)), ("padding", 476 - len(payload)), ("crc", 4)]
    compare("keyring.txt", annotate(data, parts))


# ---------------------------------------------------------------- the stand-alone reader


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Segments of every kind, one place of the keyring and a recovery file: what is left when all else is lost."""
    disk = SimulatedDisk()
    log, keyring = make(disk, small=100_000)
    keyring.append(lambda seen: entries())
    payloads = {"small.dcm": b"x" * 500, "chunks.dcm": bytes(range(256)) * 900, "none.dcm": b""}
    drafts = [sealed(log, payload + b"frame table", name, len(payload)) for name, payload in payloads.items()]
    drafts.append(sealed(log, b"../../outside", "../../etc/passwd", kind=Kind.QUARANTINE))
    drafts.append(sealed(log, b"{}", "", kind=Kind.FACT))
    drafts.append(sealed(log, b"another version", "small.dcm"))
    assert None not in log.commit(drafts[:3]) + log.commit(drafts[3:])
    for path in disk.files():  # one segment is left unsealed, with the zeros of its preallocation
        target = tmp_path / "home" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(disk.content(path))
    words = base64.b32encode(ROOT).decode().rstrip("=")
    groups = " ".join(words[at : at + 4] for at in range(0, len(words), 4))
    text = f"Radiolith recovery file\n\nroot-key: {groups}\nchecksum: {hashlib.sha256(ROOT).hexdigest()[:8]}\n"
    (tmp_path / "recovery.txt").write_text(text)
    return tmp_path


def read_with_tool(home: Path, project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(project / "tools" / "read_segment.py"), "--keyring", str(home / "home" / "b")]
    command += ["--recovery", str(home / "recovery.txt"), "--out", str(home / "out"), str(home / "home")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_reader_gives_back_the_exact_files(home: Path, project: Path) -> None:
    done = read_with_tool(home, project)
    assert done.returncode == 0, done.stderr
    files = {str(path.relative_to(home / "out")): path.read_bytes() for path in (home / "out").rglob("*.*")}
    versions = [files.pop(name) for name in sorted(files) if name.endswith("small.dcm")]
    assert sorted(versions) == [b"another version", b"x" * 500]
    assert files.pop("objects/chunks.dcm") == bytes(range(256)) * 900
    assert files.pop("objects/none.dcm") == b""
    assert files == {"quarantine/_.._etc_passwd": b"../../outside"}
    assert [path.read_bytes() for path in (home / "out" / "facts").iterdir()] == [b"{}"]
    assert not (home / "etc").exists()


def test_the_reader_names_what_does_not_authenticate(home: Path, project: Path) -> None:
    large = max((home / "home" / "segments").rglob("*.seg"), key=lambda path: path.stat().st_size)
    data = bytearray(large.read_bytes())
    data[100_000] ^= 1
    large.write_bytes(data)
    done = read_with_tool(home, project)
    assert done.returncode == 1 and "InvalidTag" in done.stderr and "1 records could not be read" in done.stdout
    assert not list((home / "out").rglob("chunks.dcm*"))


def test_the_reader_imports_nothing_of_ours(project: Path) -> None:
    text = (project / "tools" / "read_segment.py").read_text()
    assert "radiolith." not in text and "import radiolith" not in text
    assert len(text.splitlines()) < 200
