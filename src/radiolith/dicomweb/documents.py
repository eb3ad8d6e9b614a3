"""Documents a person can read: structured reports as a page or text, encapsulated documents as what they are.

Owns: the translation of a report's content tree (PS3.3 C.17.3). Must never: let a value be anything but text (every one
is escaped, T47), load or link to something outside, or change what an encapsulated document says.

Limits: ITEMS_MAX content items, DEPTH_MAX levels, DOCUMENT_BYTES_MAX of an encapsulated document sent as a rendering
(its bulk data have no such limit).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

import orjson

from radiolith.model import Held, LimitExceeded, NotFound, Unsupported

if TYPE_CHECKING:
    from radiolith.archive.retrieve import Retrieve

ITEMS_MAX = 20_000
DEPTH_MAX = 64
DOCUMENT_BYTES_MAX = 64 << 20
MEDIA = frozenset({"text/html", "text/plain", "application/pdf", "text/xml", "text/rtf"})

_REPORT = "1.2.840.10008.5.1.4.1.1.88."
_ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."
Dataset = dict[str, object]


async def rendered(retrieve: Retrieve, held: Held, media: str) -> tuple[str, bytes]:
    """The document in this media type; Unsupported when it is none or another kind of one."""
    if held.sop_class.startswith(_ENCAPSULATED):
        return await _encapsulated(retrieve, held, media)
    if held.sop_class.startswith(_REPORT) and media in ("text/html", "text/plain"):
        metadata = await retrieve.metadata(held, "")
        return f"{media}; charset=utf-8", await asyncio.to_thread(_written, metadata, media)  # up to 16 MiB of JSON
    raise Unsupported(f"this object is no document that can be given as {media}")


def _written(metadata: bytes, media: str) -> bytes:
    dataset: Dataset = orjson.loads(metadata)
    lines = list(report(dataset))
    return (page(lines) if media == "text/html" else text(lines)).encode("utf-8", "replace")


async def _encapsulated(retrieve: Retrieve, held: Held, media: str) -> tuple[str, bytes]:
    try:
        stream = await retrieve.bulkdata(held, "00420011")
    except NotFound:
        raise Unsupported("this object holds no document") from None
    own = stream.document_type.partition(";")[0].strip().lower()
    if own != media:
        raise Unsupported(f"the encapsulated document is {own or 'of no stated type'}, not {media}")
    if stream.size is not None and stream.size > DOCUMENT_BYTES_MAX:
        raise LimitExceeded(f"a rendered document has at most {DOCUMENT_BYTES_MAX} bytes; retrieve it as bulk data")
    return media, b"".join([piece async for piece in stream.chunks()])


# ---------------------------------------------------------------- structured reports


def report(dataset: Dataset) -> Iterator[tuple[int, str, str]]:
    """(level, name, value) of every content item, in reading order."""
    yield 0, "", _title(dataset)
    for tag, name in (("00100010", "Patient"), ("00100020", "Patient ID"), ("00080020", "Date"),
                      ("0040A491", "Completion"), ("0040A493", "Verification")):  # fmt: skip
        if value := _text(dataset, tag):
            yield 1, name, value
    count = 0
    waiting: list[tuple[int, Dataset]] = [(1, item) for item in reversed(_items(dataset, "0040A730"))]
    while waiting:
        level, item = waiting.pop()
        count += 1
        if count > ITEMS_MAX or level > DEPTH_MAX:
            raise LimitExceeded(f"a rendered report has at most {ITEMS_MAX} items on {DEPTH_MAX} levels")
        yield level, _meaning(item, "0040A043"), _content(item)
        waiting += [(level + 1, child) for child in reversed(_items(item, "0040A730"))]


def _title(dataset: Dataset) -> str:
    return _meaning(dataset, "0040A043") or _text(dataset, "0008103E") or "Structured report"


def _content(item: Dataset) -> str:
    """The value of a content item, by its Value Type (0040,A040)."""
    kind = _text(item, "0040A040")
    if kind == "NUM":
        for measured in _items(item, "0040A300"):
            return f"{_text(measured, '0040A30A')} {_meaning(measured, '004008EA')}".strip()
        return ""
    if kind == "CODE":
        return _meaning(item, "0040A168")
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        return ", ".join(_text(reference, "00081155") for reference in _items(item, "00081199"))
    return _text(item, _VALUE_TAG.get(kind, "0040A160"))


_VALUE_TAG = {
    "TEXT": "0040A160", "DATE": "0040A121", "TIME": "0040A122", "DATETIME": "0040A120", "PNAME": "0040A123",
    "UIDREF": "0040A124",
}  # fmt: skip


def _meaning(dataset: Dataset, tag: str) -> str:
    for code in _items(dataset, tag):
        return _text(code, "00080104") or _text(code, "00080100")
    return ""


def _text(dataset: Dataset, tag: str) -> str:
    element = dataset.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return ", ".join(_word(value) for value in values if value is not None) if isinstance(values, list) else ""


def _word(value: object) -> str:
    if isinstance(value, dict):
        names = (str(value[form]) for form in ("Alphabetic", "Ideographic", "Phonetic") if value.get(form))
        return " / ".join(name.replace("^", " ").strip() for name in names)
    return str(value)


def _items(dataset: Dataset, tag: str) -> list[Dataset]:
    element = dataset.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []


def page(lines: list[tuple[int, str, str]]) -> str:
    """A page without script, style sheet, link or picture. Depth is shown by nested lists."""
    title = escape(lines[0][2])
    out = [f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>']
    out.append(f"<body><h1>{title}</h1>")
    depth = 0
    for level, name, value in lines[1:]:
        out.append("<ul>" * (level - depth) if level > depth else "</ul>" * (depth - level))
        depth = level
        label = f"<b>{escape(name)}</b>" if name else ""
        shown = escape(value).replace("\r\n", "<br>").replace("\n", "<br>")
        out.append(f"<li>{label}{': ' if label and shown else ''}{shown}</li>")
    out.append("</ul>" * depth + "</body></html>")
    return "\n".join(line for line in out if line)


def text(lines: list[tuple[int, str, str]]) -> str:
    out = [lines[0][2], ""]
    for level, name, value in lines[1:]:
        out.append("  " * (level - 1) + (f"{name}: {value}" if name and value else name or value))
    return "\n".join(out) + "\n"
