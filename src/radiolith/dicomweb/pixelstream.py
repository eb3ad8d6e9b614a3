"""Pixel data on their way into an object: native as one value, compressed as one fragment a frame.

Owns: the pixel data element around what a client sends (PS3.5 A.4). Must never: look at an image further than at the
frame header that tells one JPEG process from another, or let what is wrong with one object fail the request around it.

Limits: FRAGMENT_BYTES_MAX of a frame are held, because a fragment is preceded by its length; longer frames become
several fragments (for RLE that is not allowed, PS3.5 G.2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from struct import pack

from radiolith.dicom import compose
from radiolith.dicom.compose import Attributes, Bulk
from radiolith.dicom.encoding import SEQUENCE_DELIMITER, element_header
from radiolith.dicom.limits import UNDEFINED
from radiolith.dicomweb.accept import EXPLICIT_LE, NATIVE
from radiolith.dicomweb.receipts import Named
from radiolith.dicomweb.reception import Reception
from radiolith.model import BadInput, Failure, LimitExceeded, NotAllowed, Unsupported

FRAGMENT_BYTES_MAX = 32 << 20
RLE = "1.2.840.10008.1.2.5"
_EMPTY_OFFSET_TABLE = pack("<HHI", 0xFFFE, 0xE000, 0)

# The JPEG frame header's marker tells the process; PS3.5 A.4.1.
_JPEG_PROCESS = {0xC0: "1.2.840.10008.1.2.4.50", 0xC1: "1.2.840.10008.1.2.4.51", 0xC3: "1.2.840.10008.1.2.4.70"}


class PixelStream:
    """One object whose pixel data arrive: `open`, then for each part begin_part, write…, end_part, at last `finish`.

    A failure ends the object, not the request: it is noted under the object's name, and its bytes are passed over.
    """

    def __init__(self, reception: Reception, attributes: Attributes, tag: int, bulk: Callable[[str], Bulk]):
        self._reception, self._attributes, self._tag, self._bulk = reception, attributes, tag, bulk
        self._named = named(attributes)
        self._syntax = ""
        self._length: int | None = None  # native: bytes that must come; None: compressed
        self._seen = 0
        self._frame = bytearray()
        self._opened = False
        self._refused = False

    async def open(self, syntax: str) -> None:
        """Start the object. Without a syntax (image/jpeg) the first bytes of the first frame decide."""
        self._syntax = syntax
        if syntax:
            await self._guarded(self._head())

    async def _guarded(self, step: Awaitable[None]) -> None:
        try:
            await step
        except NotAllowed:
            raise
        except Failure as failure:
            await self._refuse(failure)

    async def _head(self) -> None:
        native = self._syntax in NATIVE
        self._length = native_length(self._attributes) if native else None
        self._opened = True
        self._reception.begin(EXPLICIT_LE if native else self._syntax, self._named)
        before = {tag: value for tag, value in self._attributes.items() if tag < self._tag}
        for piece in compose.encode(before, self._bulk):
            await self._reception.write(piece)
        vr = self._attributes[self._tag][0]
        if self._length is None:
            await self._reception.write(element_header(self._tag, "OB", UNDEFINED) + _EMPTY_OFFSET_TABLE)
        else:
            await self._reception.write(element_header(self._tag, vr, self._length + self._length % 2))

    async def begin_part(self) -> None:
        self._frame.clear()

    async def write(self, data: memoryview | bytes) -> None:
        if not self._refused:
            await self._guarded(self._write(data))

    async def _write(self, data: memoryview | bytes) -> None:
        if self._opened and self._length is not None:
            self._seen += len(data)
            if self._seen > self._length + self._length % 2:
                raise BadInput(f"more pixel data came than the {self._length} bytes the metadata announce")
            return await self._reception.write(data)
        if len(self._frame) + len(data) > FRAGMENT_BYTES_MAX:
            if self._syntax == RLE:
                raise LimitExceeded(f"an RLE frame has at most {FRAGMENT_BYTES_MAX} bytes")
            await self._fragment(last=False)
        self._frame += data
        return None

    async def end_part(self) -> None:
        if not self._refused and (self._length is None or not self._opened) and self._frame:
            await self._guarded(self._fragment(last=True))

    async def _fragment(self, *, last: bool) -> None:
        """A fragment has an even length; only the frame's last one may be padded, or the image would change."""
        if not self._opened:
            self._syntax = sniffed(bytes(self._frame[:65536]))
            await self._head()
        frame, self._frame = self._frame, bytearray()
        if len(frame) % 2:
            if last:
                frame.append(0)
            else:
                self._frame.append(frame.pop())
        await self._reception.write(pack("<HHI", 0xFFFE, 0xE000, len(frame)))
        await self._reception.write(bytes(frame))

    async def finish(self) -> None:
        """All parts are there: close the element, write what stands behind it."""
        if not self._refused:
            await self._guarded(self._finish())

    async def _finish(self) -> None:
        if not self._opened:
            raise BadInput("the pixel data are empty")
        if self._length is None:
            await self._reception.write(SEQUENCE_DELIMITER)
        elif self._seen < self._length:
            raise BadInput(f"{self._seen} bytes of pixel data came, {self._length} were announced")
        elif self._seen % 2:
            await self._reception.write(b"\0")
        behind = {tag: value for tag, value in self._attributes.items() if tag > self._tag}
        if behind:
            # `encode` says first which character set it writes; that stands at the head of the object already.
            charset = b"".join(compose.encode({}, self._bulk))
            await self._reception.write(b"".join(compose.encode(behind, self._bulk)).removeprefix(charset))
        await self._reception.finish()

    async def _refuse(self, failure: Failure) -> None:
        self._refused = True
        self._frame.clear()
        await self._reception.refuse(failure, self._named)


def named(attributes: Attributes) -> Named | None:
    """Who the metadata say the object is; None where they name no SOP class or no SOP instance."""

    def uid(tag: int) -> str:
        value = attributes.get(tag, ("", b""))[1]
        return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else ""

    found = Named(uid(0x0020000D), uid(0x00080016), uid(0x00080018))
    return found if found.sop_class and found.sop else None


def native_length(attributes: Attributes) -> int:
    """Bytes of native pixel data by the image pixel attributes. Raises BadInput where they do not say."""

    def number(tag: int, default: int | None = None) -> int:
        value = attributes.get(tag, ("", b""))[1]
        if not isinstance(value, bytes) or not value:
            if default is None:
                raise BadInput("the metadata do not say how large the pixel data are")
            return default
        if attributes[tag][0] == "IS":
            text = value.decode("ascii", "replace").strip("\0 ")
            if not text.isascii() or not text.isdigit():
                raise BadInput("the number of frames is no number")
            return int(text)
        return int.from_bytes(value[:2], "little")

    frames, samples = number(0x00280008, 1), number(0x00280002, 1)
    bits = number(0x00280010) * number(0x00280011) * samples * number(0x00280100) * frames
    length = (bits + 7) // 8
    if length > 0xFFFFFFFD:
        raise Unsupported("native pixel data of 4 GiB and more have no length in DICOM; send them compressed")
    return length


def sniffed(head: bytes) -> str:
    """Transfer syntax of a JPEG stream, by its frame header. Raises Unsupported for another process."""
    at = 2
    while head[:2] == b"\xff\xd8" and at + 4 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker in _JPEG_PROCESS:
            return _JPEG_PROCESS[marker]
        if marker in (0xC9, 0xCA, 0xCB, 0xC2, 0xC5, 0xC6, 0xC7, 0xDA):
            break
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    raise Unsupported("the JPEG process cannot be told; give the transfer-syntax of the part")
