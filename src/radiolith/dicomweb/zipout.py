"""A ZIP file on its way out: members one after the other, nothing held, no size known beforehand.

Owns: the format (PKWARE APPNOTE: local header, data, data descriptor, central directory; Zip64 throughout, so that no
size is a special case). Must never: compress for real; pixel data do not shrink enough to pay for the time, so members
are deflate streams of stored blocks, which every reader understands even while it streams.

Limits: a name and 60 bytes are kept a member for the central directory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator

from isal.isal_zlib import crc32

from radiolith.archive.ports import Stream

_LOCAL = struct.Struct("<4s5H3I2H")
_DESCRIPTOR = struct.Struct("<4sIQQ")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
_STREAMED_UTF8 = 0x0808  # sizes follow the data; names are UTF-8
_DEFLATE = 8
_VERSION = 45
_EPOCH = 0x0021  # 1980-01-01: an archive of what is held has no time of its own
_BIG = 0xFFFFFFFF


async def zipped(files: AsyncIterator[tuple[str, Stream]]) -> AsyncIterator[bytes]:
    """The bytes of a ZIP file with these members. Names are made of UIDs by the caller, never of what a client sent."""
    directory: list[bytes] = []
    offset = 0
    async for name, stream in files:
        raw = name.encode("utf-8")
        extra = struct.pack("<2H2Q", 1, 16, 0, 0)
        local = _LOCAL.pack(b"PK\3\4", _VERSION, _STREAMED_UTF8, _DEFLATE, 0, _EPOCH, 0, _BIG, _BIG, len(raw), 20)
        yield local + raw + extra
        packer = zlib.compressobj(0, zlib.DEFLATED, -15)
        crc = size = packed = 0
        async for piece in stream.chunks():
            crc, size = crc32(piece, crc), size + len(piece)
            block = packer.compress(piece)
            packed += len(block)
            yield block
        block = packer.flush()
        packed += len(block)
        yield block + _DESCRIPTOR.pack(b"PK\7\x08", crc, packed, size)
        directory.append(_entry(raw, crc, packed, size, offset))
        offset += _LOCAL.size + len(raw) + len(extra) + packed + _DESCRIPTOR.size
    yield b"".join(directory) + _end(len(directory), sum(map(len, directory)), offset)


def _entry(name: bytes, crc: int, packed: int, size: int, offset: int) -> bytes:
    extra = struct.pack("<2H3Q", 1, 24, size, packed, offset)
    head = _CENTRAL.pack(
        b"PK\1\2", _VERSION, _VERSION, _STREAMED_UTF8, _DEFLATE, 0, _EPOCH, crc, _BIG, _BIG,
        len(name), len(extra), 0, 0, 0, 0, _BIG,
    )  # fmt: skip
    return head + name + extra


def _end(count: int, size: int, offset: int) -> bytes:
    return (
        _END64.pack(b"PK\6\6", _END64.size - 12, _VERSION, _VERSION, 0, 0, count, count, size, offset)
        + _LOCATOR.pack(b"PK\6\7", 0, offset + size, 1)
        + _END.pack(b"PK\5\6", 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), min(size, _BIG), _BIG, 0)
    )
