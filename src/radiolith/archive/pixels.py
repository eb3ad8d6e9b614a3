"""Frames and pictures in another form than they are kept in: the archive's side of the decoders.

Owns: what can become what, whole objects in another transfer syntax, rendered pictures and their cache. Must never:
decode in this process, or hold more than one frame of an object. Limits: those of codecs.limits; a picture is cached up
to storage.cache's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from radiolith import metrics
from radiolith.archive.decoding import Decoding
from radiolith.archive.headers import Headers, deflated, tag_of
from radiolith.archive.ports import Rendering, Stream
from radiolith.archive.reading import Reading, written_as
from radiolith.codecs.limits import MAX_CINE_FRAMES
from radiolith.codecs.registry import DEFLATED_LE, SYNTAXES, Syntax
from radiolith.codecs.sandbox import Changed, Frame, Opened, Session, Wanted
from radiolith.dicom.encoding import rewrite, rewritten
from radiolith.dicom.frames import frame_range
from radiolith.dicom.part10 import file_meta
from radiolith.dicom.reader import scan, text
from radiolith.dicom.window import Data, Window
from radiolith.model import Failure, Held, Layout, LimitExceeded, NotFound, Pixels, Unsupported
from radiolith.storage.cache import Cache

_CINE = ("image/gif",)
_UNDEFINED = b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class Recoding:
    """A planned change of transfer syntax. decode False: the pixel bytes stay, only the elements around them change."""

    syntax: str
    decode: bool


class Pixelwork:
    def __init__(self, reading: Reading, headers: Headers, decoding: Decoding, cache: Cache):
        self._reading, self._headers, self._decoding, self._cache = reading, headers, decoding, cache

    # ------------------------------------------------------------ planning

    async def plan(self, held: Held, target: str) -> Recoding:
        """Whether `held` can be given in `target`; Unsupported with the reason, without decoding anything."""
        wanted, stored = SYNTAXES.get(target), SYNTAXES.get(held.layout.transfer_syntax)
        if wanted is None or stored is None:
            unknown = target if wanted is None else held.layout.transfer_syntax
            raise Unsupported(f"the transfer syntax {unknown} is not known")
        if held.layout.pixels is Pixels.NONE:
            if wanted.encapsulated:
                raise Unsupported(f"an object without pixel data has no {wanted.name} form")
            return Recoding(target, False)
        if held.layout.pixels is Pixels.VIDEO:
            raise Unsupported("video is given as it is stored")
        if _native_little(stored) and _native_little(wanted):
            return Recoding(target, False)
        if not stored.decode:
            raise Unsupported(f"there is no decoder for {stored.name}")
        if not wanted.encode or wanted.big_endian:
            raise Unsupported(f"{wanted.name} is not offered as output")
        return Recoding(target, True)

    # ------------------------------------------------------------ frames

    async def _opened(self, held: Held, *, shown: bool = False) -> Opened:
        """For the decoder: as received, since no correction touches what pixels depend on; or as it is shown, where the
        header itself goes out."""
        opening = self._headers.opening_now if shown else self._reading.opening_now
        header, vr = await self._reading.run(opening, held)
        return Opened(header, held.layout.transfer_syntax, held.layout.pixel_tag, vr)

    def _frame_now(self, held: Held, number: int) -> Frame:
        """As the decoder wants it: numbered from 0, a one-bit frame with the bit it starts at."""
        layout = held.layout
        if layout.pixels is Pixels.NATIVE and layout.bits_allocated == 1:
            self._reading.check_number(held, number)
            offset, length, bit = frame_range(layout, number - 1)
            return Frame(number - 1, self._reading.value_now(held, offset, offset + length), bit)
        return Frame(number - 1, self._reading.frame_now(held, number))

    async def decoded(self, held: Held, number: int) -> tuple[object, ...]:
        """A frame's samples and their shape, for comparison."""
        opened = await self._opened(held)
        frame = await self._reading.run(self._frame_now, held, number)
        async with self._decoding.session(held, opened) as session:
            native = await session.decode(frame)
        return bytes(native.data), native.rows, native.columns, native.samples, native.dtype, native.photometric

    async def transcode_frame(self, held: Held, recoding: Recoding, number: int) -> bytes:
        if not recoding.decode:
            return await self._reading.run(self._reading.frame_now, held, number)
        key = ("frame", recoding.syntax, held.blob.object_id, number)
        found = self._cache.get(key)
        if found is None:
            opened = await self._opened(held)
            frame = await self._reading.run(self._frame_now, held, number)
            async with self._decoding.session(held, opened) as session:
                found = bytes((await session.transcode(frame, recoding.syntax)).data)
            self._cache.put(key, found)
        return found

    # ------------------------------------------------------------ whole objects

    async def recoded(self, held: Held, recoding: Recoding) -> Stream:
        """The whole object in another transfer syntax, made while it is sent."""
        target, layout = SYNTAXES[recoding.syntax], held.layout
        meta = file_meta(held.sop_class, held.identity.sop, target.uid)
        if not recoding.decode:
            body = self._rewritten(held, target)
        elif not layout.frames:
            raise Unsupported("the frames of this object cannot be told apart")
        else:
            body = self._transcoded(held, target)

        first = await anext(body)  # what cannot be made at all is a refusal, not an answer that breaks off

        async def opened(start: int, stop: int | None) -> AsyncIterator[bytes]:
            if start or stop is not None:
                raise Unsupported("a range of an object that is being transcoded")
            yield meta
            dataset = _after(first, body)
            async for piece in deflated(dataset) if target.uid == DEFLATED_LE else dataset:
                yield piece

        return Stream(None, target.uid, opened)

    async def _rewritten(self, held: Held, target: Syntax) -> AsyncIterator[bytes]:
        """Other element encoding, same pixel bytes."""
        layout = held.layout
        header, encoding, _ = await self._reading.run(self._headers.description_now, held)
        async for piece in self._elements(header, encoding, target):
            yield piece
        if layout.pixels is not Pixels.NATIVE:
            return
        yield _native_element(layout.pixel_tag, target, layout.pixel_length, layout.bits_allocated)
        start, end = layout.pixel_start, layout.pixel_start + layout.pixel_length
        async for piece in self._reading.value(held, start, end).chunks():
            yield piece
        if layout.pixel_length % 2:
            yield b"\0"
        async for piece in self._tail(held, target):
            yield piece

    async def _transcoded(self, held: Held, target: Syntax) -> AsyncIterator[bytes]:
        """Other pixel encoding: frame by frame through one decoder session."""
        layout = held.layout
        opened = await self._opened(held, shown=True)
        async with self._decoding.session(held, opened) as session:
            first, changed = await self._step(session, held, 1, target)
            bits = layout.rows * layout.columns * changed.samples if changed.bits_allocated == 1 else 0
            if bits % 8 and layout.frames > 1 and not target.encapsulated:
                raise Unsupported("one-bit frames that do not end on a byte are given as they are stored")
            explicit = bytes(await session.rewrite_header(changed))
            implicit = target.implicit
            yield await self._reading.run(rewrite, explicit, _EXPLICIT, target.uid) if implicit else explicit
            total = 0
            if target.encapsulated:
                yield _tag(layout.pixel_tag) + b"OB\0\0" + _UNDEFINED + _ITEM + bytes(4)
            else:
                total = len(first) * layout.frames
                if changed.bits_allocated == 1:
                    total = (layout.rows * layout.columns * changed.samples * layout.frames + 7) // 8
                yield _native_element(layout.pixel_tag, target, total, changed.bits_allocated)
            for number in range(1, layout.frames + 1):
                data = first if number == 1 else (await self._step(session, held, number, target))[0]
                if target.encapsulated:
                    data += b"\0" * (len(data) % 2)
                    yield _ITEM + len(data).to_bytes(4, "little") + data
                else:
                    yield data
            if target.encapsulated:
                yield b"\xfe\xff\xdd\xe0" + bytes(4)
            elif total % 2:
                yield b"\0"
        async for piece in self._tail(held, target):
            yield piece

    async def _step(self, session: Session, held: Held, number: int, target: Syntax) -> tuple[bytes, Changed]:
        frame = await self._reading.run(self._frame_now, held, number)
        made = await session.transcode(frame, target.uid)
        return bytes(made.data), made.changed

    async def _tail(self, held: Held, target: Syntax) -> AsyncIterator[bytes]:
        """What follows the pixel data (signatures, padding), re-encoded like the header."""
        _, encoding, tail = await self._reading.run(self._reading.description_now, held)
        if tail:
            async for piece in self._elements(tail, encoding, target):
                yield piece

    async def _elements(self, data: Data, encoding: str, target: Syntax) -> AsyncIterator[bytes]:
        """Elements in another encoding; many of them, or long ones, piece by piece."""
        written = _EXPLICIT if target.uid == DEFLATED_LE else target.uid  # what is deflated on its way (PS3.5 A.5)
        if not isinstance(data, Window):
            yield await self._reading.run(rewrite, data, encoding, written)
            return
        pieces = rewritten(data, encoding, written)
        while (piece := await self._reading.run(next, pieces, None)) is not None:
            yield piece

    # ------------------------------------------------------------ pictures

    async def rendered(self, held: Held, number: int, want: Rendering) -> tuple[str, bytes]:
        """One frame (from 1), or with number 0 what stands for the object: all frames where the format moves, else one."""
        layout = held.layout
        if layout.pixels is Pixels.NONE:
            raise Unsupported("this object has no pixel data to render")
        if layout.pixels is Pixels.VIDEO:
            raise Unsupported("video is not rendered; retrieve it as video")
        stored = SYNTAXES.get(layout.transfer_syntax)
        if stored is None or not stored.decode:
            raise Unsupported(f"there is no decoder for {stored.name if stored else layout.transfer_syntax}")
        if not layout.frames:
            raise Unsupported("the frames of this object cannot be told apart")
        if number > layout.frames:
            raise NotFound(f"frame {number} of {layout.frames}")
        state = tag_of(want.presentation) if want.presentation else b""
        key = ("rendered", tag_of(held), number, want.media_type, want.quality, want.viewport, want.window,
               tuple(sorted(want.annotation)), want.icc, want.thumbnail, state)  # fmt: skip
        kind, picture = self._cache.get((*key, "type")), self._cache.get(key)
        if kind is None or picture is None:
            media_type, made = await self._render(held, number, want)
            kind, picture = media_type.encode(), bytes(made)
            self._cache.put((*key, "type"), kind)
            self._cache.put(key, picture)
        return kind.decode(), picture

    async def _render(self, held: Held, number: int, want: Rendering) -> tuple[str, bytearray]:
        opened = await self._opened(held, shown=True)
        numbers = self._numbers(held.layout, number, want)
        frames = [await self._reading.run(self._frame_now, held, one) for one in numbers]
        state, state_syntax = await self._presentation(want)
        wanted = Wanted(
            media_type=want.media_type,
            quality=want.quality,
            viewport=_viewport(want),
            window=want.window,
            annotation=self._lines(bytes(opened.header), held, want),
            icc=want.icc,
            thumbnail=want.thumbnail,
            presentation=state,
            presentation_syntax=state_syntax,
            sop_instance=held.identity.sop,
        )
        try:
            async with self._decoding.session(held, opened) as session:
                made = await session.render(frames, wanted)
        except Unsupported:
            metrics.decodes.add("unsupported")
            raise
        except Failure:
            metrics.decodes.add("failed")
            raise
        metrics.decodes.add("done")
        return made

    @staticmethod
    def _numbers(layout: Layout, number: int, want: Rendering) -> list[int]:
        if number:
            return [number]
        if want.media_type in _CINE and not want.thumbnail:
            if layout.frames > MAX_CINE_FRAMES:
                raise LimitExceeded(f"an animation may have {MAX_CINE_FRAMES} frames, this object has {layout.frames}")
            return list(range(1, layout.frames + 1))
        return [(layout.frames + 1) // 2] if want.thumbnail else [1]

    async def _presentation(self, want: Rendering) -> tuple[bytes, str]:
        """Dataset of the presentation state to apply, and its syntax."""
        if want.presentation is None:
            return b"", ""
        state = want.presentation
        return await self._reading.run(self._headers.header_now, state), state.layout.transfer_syntax

    def _lines(self, header: bytes, held: Held, want: Rendering) -> tuple[str, ...]:
        """What `annotation` burns in (PS3.18 8.3.5.1.1): who it is, and how it was made."""
        if not want.annotation:
            return ()
        found = scan(header, transfer_syntax=written_as(header, held.layout.transfer_syntax))
        wanted: list[int] = []
        if "patient" in want.annotation:
            wanted += [0x00100010, 0x00100020, 0x00100030, 0x00100040]
        if "technique" in want.annotation:
            wanted += [0x00080060, 0x00080020, 0x00081030, 0x0008103E, 0x00200013]
        lines = [text(found, tag).replace("^", " ").replace("\\", ", ").strip() for tag in wanted]
        return tuple(line for line in lines if line)


async def _after(first: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in body:
        yield piece


_EXPLICIT = "1.2.840.10008.1.2.1"
_ITEM = b"\xfe\xff\x00\xe0"


def _native_little(syntax: Syntax) -> bool:
    return not syntax.encapsulated and not syntax.big_endian


def _tag(tag: int) -> bytes:
    return (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")


def _native_element(tag: int, target: Syntax, length: int, bits: int) -> bytes:
    """Tag, VR and length of native pixel data; the value's length is made even by the caller."""
    size = (length + length % 2).to_bytes(4, "little")
    if target.implicit:
        return _tag(tag) + size
    vr = {0x7FE00008: b"OF", 0x7FE00009: b"OD"}.get(tag, b"OB" if bits <= 8 else b"OW")
    return _tag(tag) + vr + b"\0\0" + size


def _viewport(want: Rendering) -> tuple[float, float, float | None, float | None, float | None, float | None] | None:
    """All six numbers; an edge leaves those out that nobody gave."""
    given = want.viewport
    if given is None or given[0] is None or given[1] is None:
        return None
    left, top, width, height = (*given[2:], None, None, None, None)[:4]
    return given[0], given[1], left, top, width, height
