"""Content codings of documents (RFC 9110 8.4): which one a client gets, and how a stream is packed.

Owns: the choice by Accept-Encoding and the settings of each coding. Must never: pack what is compressed already (pictures,
pixel data, objects): only JSON, XML and the like come here.

Speed goes before size: a document is made for every request anew, so packing may not cost more than making it. The level
of each coding is the one where more effort buys little (decision 055). Limits: windows of ZSTD_WINDOW and
BROTLI_WINDOW bytes, which are what a slow client keeps busy.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODING_BYTES_MIN = 1400  # below one packet compression saves nothing
GZIP_LEVEL = 1  # twice the speed of the default
BROTLI_QUALITY = 1  # faster than gzip and smaller; from 5 on it is slower than making the document
ZSTD_LEVEL = 1
BROTLI_WINDOW = 18  # as a power of two
ZSTD_WINDOW = 19  # the same; a browser takes up to 23 (RFC 9659)
HEADER_BYTES_MAX = 1024
PREFERENCE = ("zstd", "br", "gzip")
"""Where the client has no preference: the fastest that packs best."""


class Packer(Protocol):
    def feed(self, data: bytes, /) -> bytes: ...

    def end(self) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        made = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
        self.feed, self.end = made.compress, made.flush


class _Brotli:
    def __init__(self) -> None:
        made = brotli.Compressor(quality=BROTLI_QUALITY, lgwin=BROTLI_WINDOW)
        self.feed, self.end = made.process, made.finish


class _Zstd:
    def __init__(self) -> None:
        parameter = zstd.CompressionParameter
        made = zstd.ZstdCompressor(options={parameter.compression_level: ZSTD_LEVEL, parameter.window_log: ZSTD_WINDOW})
        self.feed, self.end = made.compress, made.flush


PACKERS: dict[str, Callable[[], Packer]] = {"zstd": _Zstd, "br": _Brotli, "gzip": _Gzip}


@lru_cache(maxsize=256)
def chosen(accept_encoding: bytes) -> str:
    """The coding for a value of Accept-Encoding; '' for none (RFC 9110 12.5.3).

    Remembered: a viewer sends the same header with every request. What is no q-value counts as 0, and a header that is
    longer than any client's as no wish: then the document goes as it is, which everybody can read.
    """
    weights: dict[str, float] = {}
    if len(accept_encoding) > HEADER_BYTES_MAX:
        return ""
    for element in accept_encoding.decode("latin-1").lower().split(","):
        name, _, parameter = element.partition(";")
        if name.strip():
            weights[name.strip().removeprefix("x-")] = _weight(parameter)
    others = weights.get("*", 0.0)
    best = max(PREFERENCE, key=lambda name: weights.get(name, others))
    weight = weights.get(best, others)
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else ""


def _weight(parameter: str) -> float:
    name, _, value = parameter.replace(" ", "").partition("=")
    if not name:
        return 1.0
    try:
        return float(value) if name == "q" and 0 <= float(value) <= 1 else 0.0
    except ValueError:
        return 0.0


def packed_whole(coding: str, body: bytes) -> bytes:
    packer = PACKERS[coding]()
    return packer.feed(body) + packer.end()


async def packed(coding: str, first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A stream in a coding, a piece at a time: `first`, then `pieces`, which whoever made them closes."""
    packer = PACKERS[coding]()
    if block := packer.feed(first):
        yield block
    async for piece in pieces:
        if block := packer.feed(piece):
            yield block
    yield packer.end()
