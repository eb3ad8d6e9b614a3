"""Structure-aware damage to DICOM bytes: what a hostile or broken sender could send.

`mutate` knows where element headers are and breaks exactly those: lengths, VRs, tags, order, nesting, delimiters,
deflate. Also used by the campaigns over HTTP. Everything is drawn from the given `random.Random`, so a failure is
repeated by its seed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from random import Random
from struct import pack, pack_into, unpack_from

from radiolith.dicom.element import LONG_FORM, SHORT_FORM

HOSTILE_LENGTHS = (
    *(0, 1, 2, 3, 7, 8, 9, 11, 12, 13, 63, 64, 65, 127, 128, 255, 256, 257, 1023, 4095, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF),
    *(
        0x10000,
        0x10001,
        0xFFFFF,
        0x100000,
        0xFFFFFF,
        0x1000000,
        0x1000001,
        0x7FFFFFFE,
        0x7FFFFFFF,
        0x80000000,
        0x80000001,
    ),
    *(0xFFFF0000, 0xFFFFFFF7, 0xFFFFFFF8, 0xFFFFFFFE, 0xFFFFFFFF),
)
"""40 lengths around every power, sign and sentinel."""

VRS = [*SHORT_FORM, *LONG_FORM, b"\0\0", b"??", b"ZZ", b"  ", b"\xff\xff", b"sq"]

META_EXPLICIT = pack("<HH2sH20s", 2, 0x10, b"UI", 20, b"1.2.840.10008.1.2.1\0")
META_DEFLATED = pack("<HH2sH22s", 2, 0x10, b"UI", 22, b"1.2.840.10008.1.2.1.99")


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """One explicit little endian element; `length` may lie."""
    size = len(value) if length is None else length
    if vr.encode() in LONG_FORM:
        return pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, size) + value
    return pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), size & 0xFFFF) + value


def part10(dataset: bytes, meta: bytes = META_EXPLICIT) -> bytes:
    """A file around a dataset."""
    return bytes(128) + b"DICM" + element(0x00020000, "UL", pack("<I", len(meta))) + meta + dataset


def nested(depth: int, *, defined: bool = False) -> bytes:
    """A dataset of so many sequences inside each other, well-formed, of defined or undefined length."""
    if not defined:
        opening = pack("<HH2sHIHHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
        closing = pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        return opening * depth + closing * depth
    pieces: list[bytes] = []
    for level in range(depth):
        inside = (depth - level - 1) * 20
        pieces.append(pack("<HH2sHIHHI", 0x0008, 0x1140, b"SQ", 0, inside + 8, 0xFFFE, 0xE000, inside))
    return b"".join(pieces)


def headers(data: bytes) -> list[int]:
    """Offsets of what looks like the header of an explicit element or of an item, at most 5,000."""
    found: list[int] = []
    at, end = 0, min(len(data), 400_000) - 8
    while at < end and len(found) < 5000:
        group, number, vr, length = unpack_from("<HH2sH", data, at)
        if group == 0xFFFE:
            found.append(at)
            at += 8
        elif vr in SHORT_FORM and at + 8 + length <= len(data):
            found.append(at)
            at += 8 + length
        elif vr in LONG_FORM and at + 12 <= len(data):
            found.append(at)
            size = unpack_from("<I", data, at + 8)[0]
            at += 12 if vr == b"SQ" or size > len(data) - at else 12 + size
        else:
            at += 2 if number or group else 1
    return found


# ---------------------------------------------------------------- single mutations: bytes, header offsets, chance ->
# bytes


def _length(data: bytes, at: list[int], rng: Random) -> bytes:
    out, offset = bytearray(data), rng.choice(at)
    vr = data[offset + 4 : offset + 6]
    if vr in SHORT_FORM:
        pack_into("<H", out, offset + 6, rng.choice(HOSTILE_LENGTHS) & 0xFFFF)
    else:
        place = offset + 8 if vr in LONG_FORM else offset + 4
        if place + 4 <= len(out):
            pack_into("<I", out, place, rng.choice(HOSTILE_LENGTHS))
    return bytes(out)


def _truncate(data: bytes, at: list[int], rng: Random) -> bytes:
    return data[: rng.choice([rng.randrange(len(data) + 1), rng.choice(at) + rng.randrange(13)])]


def _vr(data: bytes, at: list[int], rng: Random) -> bytes:
    offset = rng.choice(at)
    return data[: offset + 4] + rng.choice(VRS) + data[offset + 6 :]


def _tag(data: bytes, at: list[int], rng: Random) -> bytes:
    offset = rng.choice(at)
    tags = [0, 0xFFFFFFFF, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x7FE00010, 0x00080005, 0x00280008, rng.getrandbits(32)]
    tag = rng.choice(tags)
    return data[:offset] + pack("<HH", tag >> 16, tag & 0xFFFF) + data[offset + 4 :]


def _repeat(data: bytes, at: list[int], rng: Random) -> bytes:
    start = rng.randrange(len(at))
    stop = min(len(at) - 1, start + rng.randrange(1, 20))
    piece = data[at[start] : at[stop]]
    if not piece or len(piece) > 100_000:
        return data
    return data[: at[stop]] + piece * rng.randrange(1, 50) + data[at[stop] :]


def _swap(data: bytes, at: list[int], rng: Random) -> bytes:
    if len(at) < 4:
        return data
    a, b, c = sorted(rng.sample(at, 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _delimiters(data: bytes, at: list[int], rng: Random) -> bytes:
    soup = b"".join(
        pack("<HHI", 0xFFFE, rng.choice((0xE000, 0xE00D, 0xE0DD)), rng.choice((0, 0, 8, 0xFFFFFFFF)))
        for _ in range(rng.randrange(1, 200))
    )
    offset = rng.choice(at)
    return data[:offset] + soup + data[offset:]


def _nest(data: bytes, at: list[int], rng: Random) -> bytes:
    offset = rng.choice(at)
    return data[:offset] + nested(rng.choice((1, 63, 64, 65, 500, 5000)), defined=rng.random() < 0.5) + data[offset:]


def _undefined(data: bytes, at: list[int], rng: Random) -> bytes:
    offset, vr = rng.choice(at), rng.choice((b"SQ", b"UN", b"OB", b"OW", b"UT"))
    return data[: offset + 4] + vr + b"\0\0\xff\xff\xff\xff" + data[offset + 12 :]


def _bytes(data: bytes, _at: list[int], rng: Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 30)):
        out[rng.randrange(len(out))] = rng.getrandbits(8)
    return bytes(out)


def _deflate(data: bytes, _at: list[int], rng: Random) -> bytes:
    dataset = rng.choice((data[132:], bytes(rng.choice((10_000, 3_000_000))), nested(5000)))
    stream = zlib.compressobj(9, zlib.DEFLATED, rng.choice((-15, 15)))
    packed = bytearray(stream.compress(dataset) + stream.flush())
    if rng.random() < 0.5 and packed:
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
    return part10(bytes(packed), META_DEFLATED)


def _insert(data: bytes, at: list[int], rng: Random) -> bytes:
    offset = rng.choice(at)
    return data[:offset] + rng.randbytes(rng.randrange(1, 64)) + data[offset:]


def _numbers(data: bytes, _at: list[int], rng: Random) -> bytes:
    """Frames, rows and columns that multiply to more than any machine has."""
    out = data
    for vr, name in ((b"IS", b"\x28\0\x08\0IS"), (b"US", b"\x28\0\x10\0US"), (b"US", b"\x28\0\x11\0US")):
        offset = out.find(name)
        if offset >= 0 and rng.random() < 0.7:
            value = (
                rng.choice((b"2147483647", b"-1", b"0", b"99999999999999", b"1e9", b"")) if vr == b"IS" else b"\xff\xff"
            )
            size = unpack_from("<H", out, offset + 6)[0]
            out = out[: offset + 6] + pack("<H", len(value)) + value + out[offset + 8 + size :]
    return out


Mutation = Callable[[bytes, list[int], Random], bytes]

MUTATIONS: tuple[Mutation, ...] = (
    *(_length, _length, _length, _truncate, _vr, _tag, _repeat, _swap, _delimiters, _nest, _undefined, _bytes),
    *(_deflate, _insert, _numbers),
)


def mutate(data: bytes, rng: Random) -> bytes:
    """`data` with one to three mutations."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not data:
            return data
        at = [offset for offset in headers(data) if offset < len(data)] or [0]
        data = rng.choice(MUTATIONS)(data, at, rng)
    return data
