"""Members of a ZIP file while it arrives: no directory, no seeking, no file on disk.

Owns: reading local headers and inflating (PKWARE APPNOTE 4.3.7 to 4.3.9). Must never: use a member's name but to
pass over what is no image (T52), trust a size it has not counted, or inflate ahead of what is taken.

Limits: MEMBERS_MAX members; one over FREE_BYTES may be RATIO_MAX times as large as its packed form, and all of them
together RATIO_MAX times what was sent plus TOTAL_FREE_BYTES: black images pack well, but not without end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator

from isal.isal_zlib import crc32

from radiolith.model import BadInput, LimitExceeded

MEMBERS_MAX = 100_000
RATIO_MAX = 200
FREE_BYTES = 64 << 20
TOTAL_FREE_BYTES = 1 << 30
PIECE = 1 << 20
NAME_BYTES_MAX = 4096

_LOCAL = struct.Struct("<4s5H3I2H")
_NEXT = (b"PK\3\4", b"PK\1\2", b"PK\6\6", b"PK\5\6")
_PASSED_OVER = ("dicomdir", "thumbs.db", ".ds_store", "desktop.ini", "autorun.inf")


class _Source:
    """The body as a buffer that can wait for more."""

    def __init__(self, body: AsyncIterator[bytes]):
        self._body = body
        self.buffer = b""
        self.received = 0

    async def more(self) -> bool:
        piece = await anext(self._body, b"")
        self.received += len(piece)
        self.buffer = self.buffer + piece if self.buffer else piece
        return bool(piece)

    async def need(self, size: int) -> None:
        while len(self.buffer) < size:
            if not await self.more():
                raise BadInput("the ZIP file ends early")

    async def take(self, size: int) -> bytes:
        await self.need(size)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data


class _Account:
    """Counts what comes out of one archive."""

    def __init__(self, source: _Source):
        self._source = source
        self._total = self._member = self._begun = 0

    def begin(self) -> None:
        self._member, self._begun = 0, self._source.received

    def add(self, size: int, packed: int) -> None:
        self._member += size
        self._total += size
        if self._member > FREE_BYTES and self._member > RATIO_MAX * max(packed, 1):
            raise LimitExceeded(f"a member is more than {RATIO_MAX} times as large as its packed form")
        if self._total > TOTAL_FREE_BYTES + RATIO_MAX * self._source.received:
            raise LimitExceeded(f"the ZIP file inflates to more than {RATIO_MAX} times its size")


async def members(body: AsyncIterator[bytes]) -> AsyncIterator[bytes | None]:
    """The bytes of each member in pieces, None behind each. Raises BadInput, LimitExceeded."""
    source = _Source(body)
    account = _Account(source)
    count = 0
    while True:
        await source.need(4)
        if source.buffer[:4] in _NEXT[1:]:
            break
        count += 1
        if count > MEMBERS_MAX:
            raise LimitExceeded(f"a ZIP file may have {MEMBERS_MAX} members")
        wanted, pieces = await _member(source, account)
        got = False
        async for piece in pieces:
            if wanted and piece:
                got = True
                yield piece
        if got:
            yield None
    source.buffer = b""
    while await source.more():  # the directory says nothing that is not known
        source.buffer = b""


async def _member(source: _Source, account: _Account) -> tuple[bool, AsyncIterator[bytes]]:
    """Whether the next member is wanted, and its bytes, which are to be read either way."""
    fields = _LOCAL.unpack(await source.take(_LOCAL.size))
    magic, flags, method, packed, size, name_size, extra_size = fields[0], fields[2], fields[3], *fields[7:11]
    if magic != _NEXT[0]:
        raise BadInput("this is no ZIP file, or it is damaged")
    if flags & 0x2041:
        raise BadInput("encrypted members cannot be read")
    if name_size > NAME_BYTES_MAX:
        raise LimitExceeded(f"the name of a member has at most {NAME_BYTES_MAX} bytes")
    name = (await source.take(name_size)).decode("utf-8", "replace").replace("\\", "/").lower()
    packed = _zip64(await source.take(extra_size), packed, size)
    account.begin()
    wanted = not (name.endswith(_PASSED_OVER) or name.startswith("__macosx/") or name.endswith("/"))
    if method == 8:
        return wanted, _inflated(source, account, fields[6], streamed=bool(flags & 8))
    if method == 0 and not flags & 8:
        return wanted, _stored(source, account, packed)
    if method == 0:
        raise BadInput("a stored member without a size cannot be read while it arrives")
    raise BadInput("a member is packed by another method than deflate")


def _zip64(extra: bytes, packed: int, size: int) -> int:
    """The packed size, from the Zip64 field where the header has no room for it."""
    if packed != 0xFFFFFFFF:
        return packed
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        place = at + 4 + (8 if size == 0xFFFFFFFF else 0)
        if kind == 1 and place + 8 <= min(at + 4 + length, len(extra)):
            return int(struct.unpack_from("<Q", extra, place)[0])
        at += 4 + length
    raise BadInput("a member's Zip64 field is missing")


async def _stored(source: _Source, account: _Account, left: int) -> AsyncIterator[bytes]:
    while left:
        if not source.buffer and not await source.more():
            raise BadInput("the ZIP file ends early")
        piece, source.buffer = source.buffer[:left], source.buffer[left:]
        left -= len(piece)
        account.add(len(piece), len(piece))
        yield piece


async def _inflated(source: _Source, account: _Account, crc: int, *, streamed: bool) -> AsyncIterator[bytes]:
    machine = zlib.decompressobj(-15)
    seen = packed = 0
    while not machine.eof:
        data = machine.unconsumed_tail
        if not data:
            if not source.buffer and not await source.more():
                raise BadInput("the ZIP file ends early")
            data, source.buffer = source.buffer, b""
            packed += len(data)
        try:
            piece = machine.decompress(data, PIECE)
        except zlib.error:
            raise BadInput("a member of the ZIP file is damaged") from None
        seen = crc32(piece, seen)
        account.add(len(piece), packed)
        yield piece
    source.buffer = machine.unused_data
    if streamed:
        crc = await _descriptor(source)
    if seen != crc:
        raise BadInput("the checksum of a member is wrong")


async def _descriptor(source: _Source) -> int:
    """The checksum in the descriptor behind a member, which comes in four forms: told apart by what must follow."""
    await source.need(16)
    marked = source.buffer[:4] == b"PK\7\x08"
    for size in (16, 24) if marked else (12, 20):
        await source.need(size + 4)
        if source.buffer[size : size + 4] in _NEXT:
            data = await source.take(size)
            return int(struct.unpack_from("<I", data, 4 if marked else 0)[0])
    raise BadInput("a member of the ZIP file has no descriptor")
