"""A layout in few bytes: one is in every instance row and is read with every frame.

Owns: `pack_layout` and `unpack_layout`. Must never: lose a field. The transfer syntax is the row's own column.
One flag byte says how wide the offsets are (2, 4 or 8 bytes: whatever holds the largest), which pixel element there is, and
what is left out; then one struct, so that reading costs one call. A tiny object takes 14 bytes, a CT about 40.
"""

from __future__ import annotations

from struct import Struct

from radiolith.model import Layout, Pixels

_TAGS = (0, 0x7FE00010, 0x7FE00008, 0x7FE00009)
_WIDTH = "HIQ"
_PLAIN = tuple(Struct(f"<B4{width}") for width in _WIDTH)  # flags, start, end, original size, header end
# … then pixel start, length, frames, rows, columns, table offset, samples, bits, number of inline frames
_PIXELS = tuple(Struct(f"<B10{width}BBB") for width in _WIDTH)
_FRAME = tuple(Struct(f"<2{width}") for width in _WIDTH)
_MAX = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def pack_layout(layout: Layout) -> bytes:
    """Flag byte: bits 0-1 width, 2-3 kind of pixels, 4-5 pixel element, 6 whether anything about pixels follows."""
    edges = (layout.dataset_start, layout.dataset_end, layout.original_size, layout.header_end)
    inner = (layout.pixel_start, layout.pixel_length, layout.frames, layout.rows, layout.columns, layout.table_offset)
    small = (layout.samples & 0xFF, layout.bits_allocated & 0xFF, len(layout.frames_inline))
    numbers = edges + inner + tuple(number for frame in layout.frames_inline for number in frame)
    largest = max(numbers)
    width = 0 if largest <= _MAX[0] else 1 if largest <= _MAX[1] else 2
    has_pixels = any(inner) or any(small)
    flags = width | layout.pixels.value << 2 | _TAGS.index(layout.pixel_tag) << 4 | has_pixels << 6
    if not has_pixels:
        return _PLAIN[width].pack(flags, *edges)
    packed = _PIXELS[width].pack(flags, *edges, *inner, *small)
    return packed + b"".join(_FRAME[width].pack(*frame) for frame in layout.frames_inline)


def unpack_layout(packed: bytes, transfer_syntax: str) -> Layout:
    """The layout that was packed."""
    flags = packed[0]
    width = flags & 3
    pixels, tag = Pixels(flags >> 2 & 3), _TAGS[flags >> 4 & 3]
    if not flags & 0x40:
        _, start, end, size, header_end = _PLAIN[width].unpack(packed)
        return Layout(transfer_syntax, start, end, size, header_end, pixels, tag)
    head = _PIXELS[width]
    (_, start, end, size, header_end, at, length, frames, rows, columns, table, samples, bits, inline) = (
        head.unpack_from(packed)
    )
    step = _FRAME[width]
    extents = tuple(step.unpack_from(packed, head.size + n * step.size) for n in range(inline)) if inline else ()
    return Layout(
        transfer_syntax,
        start,
        end,
        size,
        header_end,
        pixels,
        tag,
        at,
        length,
        frames,
        rows,
        columns,
        samples,
        bits,
        extents,
        table,
    )
