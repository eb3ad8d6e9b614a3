"""Frame bytes to samples, one function per family of transfer syntaxes. Runs in decoder processes only.

Owns: `decode` and the table DECODERS the registry names functions of. Must never trust a codestream's size: it is read
first (`codestream`) and compared with the header in Python integers. Buffers handed to codecs are zeroed, so that a
truncated stream shows black and not memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from radiolith.codecs import codestream, registry
from radiolith.codecs.codestream import Codestream
from radiolith.codecs.description import FLOAT_PIXEL_DATA, PixelDescription
from radiolith.model import BadInput, Unsupported

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Samples of one frame: (rows, columns) or (rows, columns, samples); colour as `photometric` says."""

    pixels: Array
    photometric: str
    lossy: bool = False  # the codestream itself is known to be lossy, whatever the syntax allows


_LOSSLESS = 0xC3  # SOF marker of JPEG process 14


Decoder = Callable[[PixelDescription, memoryview], Decoded]


def decode(p: PixelDescription, data: memoryview, *, bit_offset: int = 0) -> Decoded:
    """One frame, `p` already checked. Raises BadInput (contradictory or cut short), Unsupported (no decoder)."""
    row = registry.decodable(p.syntax)
    if row.decode == "native":
        return native(p, data, bit_offset)
    if not len(data):
        raise BadInput("an empty frame")
    found = DECODERS[row.decode](p, data)
    shape = (p.rows, p.columns) if p.samples == 1 else (p.rows, p.columns, p.samples)
    if found.pixels.shape != shape:
        raise BadInput(f"the frame decodes to {found.pixels.shape}, the header says {shape}")
    return replace(found, pixels=_cells(p, found.pixels))


def cell_type(p: PixelDescription) -> np.dtype[Any]:
    """The numpy type of one decoded sample; 1-bit pixels take a byte."""
    if p.floating:
        return np.dtype("<f4" if p.pixel_tag == FLOAT_PIXEL_DATA else "<f8")
    return np.dtype(f"<{'i' if p.signed else 'u'}{max(1, p.bits_allocated // 8)}")


def _cells(p: PixelDescription, pixels: Array) -> Array:
    """Decoded samples in the cells and with the sign the header asks for (a codestream may know neither)."""
    wanted = cell_type(p)
    if pixels.dtype == wanted:
        return pixels
    if pixels.dtype.itemsize > wanted.itemsize:
        narrow = pixels.astype(wanted)
        if not np.array_equal(narrow, pixels):
            raise BadInput(f"samples of the frame do not fit {p.bits_allocated} bits")
        return narrow
    if pixels.dtype.kind == wanted.kind:
        return pixels.astype(wanted)
    if wanted.kind == "i":  # unsigned codestream of signed pixels: extend the sign from the highest stored bit
        return sign_extend(pixels.astype(wanted), p.bits_stored)
    return pixels.astype(wanted)


def values(p: PixelDescription, pixels: Array) -> Array:
    """Sample values proper: unused bits of the cells (which may hold overlays or rubbish) cleared or sign-extended."""
    if p.floating or p.bits_allocated == 1 or p.bits_stored == p.bits_allocated:
        return pixels
    above = pixels.dtype.itemsize * 8 - 1 - p.high_bit
    if above < 0:
        return pixels
    return (pixels << above) >> (pixels.dtype.itemsize * 8 - p.bits_stored)


def sign_extend(pixels: Array, bits: int) -> Array:
    """Two's complement of `bits` significant bits, in the array's own signed type."""
    shift = pixels.dtype.itemsize * 8 - bits
    return pixels if shift <= 0 else (pixels << shift) >> shift


def _agree(p: PixelDescription, stream: Codestream) -> None:
    """The header's size and the codestream's are the same, before any decoder allocates for either."""
    if (stream.rows, stream.columns, stream.samples) != (p.rows, p.columns, p.samples):
        raise BadInput(
            f"the codestream has {stream.rows} x {stream.columns} x {stream.samples} samples, "
            f"the header says {p.rows} x {p.columns} x {p.samples}"
        )
    if stream.precision > max(p.bits_allocated, 8):
        raise BadInput(f"the codestream has {stream.precision} bits, the header allocates {p.bits_allocated}")


def _blank(p: PixelDescription, stream: Codestream) -> Array:
    """A zeroed buffer as the codec wants it."""
    size = 1 if stream.precision <= 8 else 2 if stream.precision <= 16 else 4
    shape = (p.rows, p.columns) if p.samples == 1 else (p.rows, p.columns, p.samples)
    return np.zeros(shape, f"{'i' if stream.signed else 'u'}{size}")


# ---------------------------------------------------------------- uncompressed


def native(p: PixelDescription, data: memoryview, bit_offset: int = 0) -> Decoded:
    """Uncompressed pixels of any byte order, planar configuration and chrominance subsampling."""
    if p.bits_allocated == 1:
        return Decoded(_bits(p, data, bit_offset), p.photometric)
    needed = p.native_bits // 8
    if len(data) < needed:
        raise BadInput(f"a frame of {len(data)} bytes, {needed} are needed")
    big = registry.syntax(p.syntax).big_endian or p.syntax == registry.GE_PRIVATE
    order = ">" if big else "<"
    cells = cell_type(p)
    if big and cells.itemsize == 1 and p.pixel_vr == "OW":  # the padding byte of an odd frame is part of its last word
        padded = bytes(data[: needed + needed % 2]).ljust(needed + needed % 2, b"\0")
        flat = np.frombuffer(padded, "u2").byteswap().view(cells)[:needed]
    else:
        flat = np.frombuffer(data, cells.newbyteorder(order), needed // cells.itemsize)
    if big:
        flat = flat.astype(cells)
    if p.samples == 1:
        return Decoded(flat.reshape(p.rows, p.columns), p.photometric)
    if p.native_bits != p.pixels * p.samples * p.bits_allocated:
        return Decoded(_upsample(flat, p), "YBR_FULL" if p.photometric == "YBR_FULL_422" else "YBR_PARTIAL")
    if p.planar == 1:
        planes = flat.reshape(p.samples, p.rows, p.columns)
        return Decoded(np.ascontiguousarray(planes.transpose(1, 2, 0)), p.photometric)
    return Decoded(flat.reshape(p.rows, p.columns, p.samples), p.photometric)


def _bits(p: PixelDescription, data: memoryview, bit_offset: int) -> Array:
    count = p.pixels * p.samples
    if len(data) * 8 < count + bit_offset:
        raise BadInput(f"a frame of {len(data)} bytes, {count} bits are needed")
    packed = np.frombuffer(data, np.uint8, (count + bit_offset + 7) // 8)
    bits = np.unpackbits(packed, bitorder="little", count=count + bit_offset)[bit_offset:]
    shape = (p.rows, p.columns) if p.samples == 1 else (p.rows, p.columns, p.samples)
    return bits.reshape(shape)


def _upsample(flat: Array, p: PixelDescription) -> Array:
    """YBR_FULL_422: Y1 Y2 Cb Cr for each pair of pixels (PS3.3 C.7.6.3.1.2)."""
    if p.columns % 2:
        raise BadInput("subsampled chrominance with an odd number of columns")
    quads = flat.reshape(p.rows, p.columns // 2, 4)
    out = np.empty((p.rows, p.columns // 2, 2, 3), flat.dtype)
    out[..., 0] = quads[..., :2]
    out[..., 1] = quads[..., 2:3]
    out[..., 2] = quads[..., 3:4]
    return out.reshape(p.rows, p.columns, 3)


def deflated(p: PixelDescription, data: memoryview) -> Decoded:
    """Deflated Image Frame Compression: a raw deflate stream of the native frame; inflates to that and no further."""
    needed = (p.native_bits + 7) // 8
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, needed + 1)
    except zlib.error as error:
        raise BadInput(f"the deflated frame is damaged: {error}") from None
    return native(p, memoryview(inflated))


# ---------------------------------------------------------------- compressed


def rle(p: PixelDescription, data: memoryview) -> Decoded:
    """RLE Lossless (PS3.5 annex G): byte planes, most significant first, sample by sample."""
    if p.bits_allocated == 1:
        return _rle_bits(p, data)
    size = max(1, p.bits_allocated // 8)
    planes = int.from_bytes(data[:4], "little")
    if len(data) < 64 or planes != p.samples * size:
        raise BadInput(f"an RLE frame of {planes} segments, {p.samples * size} are needed")
    out = np.zeros((p.samples, p.rows, p.columns), cell_type(p).newbyteorder("<"))
    flat = out.reshape(-1).view(np.uint8)
    imagecodecs.dicomrle_decode(bytes(data), dtype=np.dtype(f"<u{size}"), out=flat.data)
    if p.samples == 1:
        return Decoded(out[0], p.photometric)
    return Decoded(np.ascontiguousarray(out.transpose(1, 2, 0)), p.photometric)


def _rle_bits(p: PixelDescription, data: memoryview) -> Decoded:
    """One-bit pixels: a single segment of the packed frame."""
    packed = np.zeros((p.pixels + 7) // 8, np.uint8)
    imagecodecs.dicomrle_decode(bytes(data), dtype=np.dtype("u1"), out=packed.data)
    return Decoded(_bits(p, packed.data, 0), p.photometric)


def jpeg(p: PixelDescription, data: memoryview) -> Decoded:
    """JPEG of every process libjpeg-turbo knows: baseline to progressive, 8 and 12 bits, lossless 2 to 16 bits."""
    stream = codestream.jpeg(data)
    _agree(p, stream)
    if stream.process == _LOSSLESS:
        return Decoded(_jpeg_lossless(p, data, stream), p.photometric)
    if p.samples == 1:
        return Decoded(imagecodecs.jpeg8_decode(bytes(data), out=_blank(p, stream)), p.photometric, lossy=True)
    ycc = stream.ycc if stream.ycc is not None else p.photometric.startswith("YBR")
    space = ("ycbcr" if ycc else "rgb") if p.samples == 3 else "unknown"  # the same in and out: no conversion
    pixels = imagecodecs.jpeg8_decode(bytes(data), colorspace=space, outcolorspace=space, out=_blank(p, stream))
    photometric = p.photometric if p.samples != 3 else "YBR_FULL" if ycc else "RGB"
    return Decoded(pixels, photometric, lossy=True)


def _jpeg_lossless(p: PixelDescription, data: memoryview, stream: Codestream) -> Array:
    """Lossless JPEG; colour is what the header says, there is no transform to undo.

    libjpeg-turbo 3.1 decodes some colour frames with two Huffman tables to other values without an error, so colour
    goes to the other decoder; grey goes to the faster one, and to the other what that one refuses.
    """
    if p.samples == 1:
        try:
            return imagecodecs.jpeg8_decode(bytes(data), out=_blank(p, stream))
        except Exception:
            return imagecodecs.jpegsof3_decode(bytes(data), out=_blank(p, stream))
    return np.ascontiguousarray(imagecodecs.jpegsof3_decode(bytes(data)))


def jpegls(p: PixelDescription, data: memoryview) -> Decoded:
    """JPEG-LS, lossless and near-lossless; codestreams are unsigned.

    CharLS 2.4.3 never returns from a stream cut short; with an end-of-image marker behind whatever there is, it says so.
    """
    stream = codestream.jpeg(data)
    _agree(p, stream)
    return Decoded(_interleaved(p, imagecodecs.jpegls_decode(bytes(data) + b"\xff\xd9")), p.photometric)


def jpeg2k(p: PixelDescription, data: memoryview) -> Decoded:
    """JPEG 2000, part 1 and what OpenJPEG knows of part 2."""
    stream = codestream.jpeg2000(data)
    _agree(p, stream)
    pixels = imagecodecs.jpeg2k_decode(bytes(data), numthreads=1)
    return Decoded(_interleaved(p, pixels), _after_transform(p, stream))


def htj2k(p: PixelDescription, data: memoryview) -> Decoded:
    """High-throughput JPEG 2000.

    imagecodecs' OpenJPH wrapper does not clip: a lossy overshoot beyond white comes out black. OpenJPEG, six times
    slower, clips; it gets the irreversible codestreams, in which overshoots are the rule.
    """
    stream = codestream.jpeg2000(data)
    _agree(p, stream)
    if stream.reversible:
        pixels = imagecodecs.htj2k_decode(bytes(data))
    else:
        pixels = imagecodecs.jpeg2k_decode(bytes(data), numthreads=1)
    return Decoded(_interleaved(p, pixels), _after_transform(p, stream), lossy=not stream.reversible)


def _after_transform(p: PixelDescription, stream: Codestream) -> str:
    if p.samples == 3 and (stream.transform or p.photometric in ("YBR_RCT", "YBR_ICT")):
        return "RGB"
    return p.photometric


def _interleaved(p: PixelDescription, pixels: Array) -> Array:
    """Samples last, whatever plane order the codestream had."""
    if p.samples > 1 and pixels.shape == (p.samples, p.rows, p.columns):
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return pixels


def jpegxl(p: PixelDescription, data: memoryview) -> Decoded:
    """JPEG XL; the codec converts to RGB itself."""
    size = codestream.jpegxl_size(data)
    if size != (p.rows, p.columns):
        raise BadInput(f"the codestream has {size[0]} x {size[1]} pixels, the header says {p.rows} x {p.columns}")
    pixels = imagecodecs.jpegxl_decode(bytes(data), numthreads=1)
    if pixels.dtype.kind == "f":
        raise Unsupported("JPEG XL with floating point samples")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return Decoded(pixels, "RGB" if p.samples == 3 else p.photometric)


def reduced(p: PixelDescription, data: memoryview, levels: int) -> Array | None:
    """The frame at 1 / 2**levels of its size where the codestream offers that cheaply (HTJ2K); else None.

    Low resolutions of a wavelet overshoot, and the codec does not clip. With a spare bit in the cells the overshoot can
    be told from a value and is clipped here; without (8 or 16 bits of precision) there is no reduced decoding.
    """
    if registry.syntax(p.syntax).decode != "htj2k" or levels < 1:
        return None
    stream = codestream.jpeg2000(data)
    _agree(p, stream)
    if stream.precision in (8, 16) or stream.precision > 16 or p.samples != 1 or not stream.reversible:
        return None
    pixels = imagecodecs.htj2k_decode(bytes(data), skipres=levels)
    if abs(pixels.shape[0] - (p.rows >> levels)) > 1 or abs(pixels.shape[1] - (p.columns >> levels)) > 1:
        return None
    low = -(1 << (stream.precision - 1)) if stream.signed else 0
    clipped = np.clip(pixels.view(f"i{pixels.dtype.itemsize}"), low, low + (1 << stream.precision) - 1)
    return _cells(p, clipped.astype(pixels.dtype))


def seen(p: PixelDescription, pixels: Array) -> PixelDescription:
    """The description, with Bits Stored widened if a codestream holds larger values than the header promises."""
    if registry.syntax(p.syntax).decode in ("native", "rle", "deflated") or p.bits_stored >= p.bits_allocated:
        return p
    if p.signed or not len(pixels) or int(pixels.max()) < 1 << p.bits_stored:
        return p
    return replace(p, bits_stored=p.bits_allocated, high_bit=p.bits_allocated - 1)


DECODERS: dict[str, Decoder] = {
    "native": native,
    "deflated": deflated,
    "rle": rle,
    "jpeg": jpeg,
    "jpegls": jpegls,
    "jpeg2k": jpeg2k,
    "htj2k": htj2k,
    "jpegxl": jpegxl,
}
