"""Samples to frame bytes, one function per family of transfer syntaxes. Runs in decoder processes only.

Owns: the table ENCODERS the registry names functions of. Samples come as (rows, columns[, samples]) in the cells and
with the sign of the description. Must never decide whether an encoding is
right for an image (that is `transcode`), nor be trusted to be lossless (transcode decodes again and compares).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from rle.utils import encode_pixel_data

from radiolith.codecs.decode import Array
from radiolith.model import Unsupported


@dataclass(frozen=True, slots=True)
class Encoding:
    """How samples shall be encoded."""

    bits: int  # precision the codestream shall have: Bits Stored
    photometric: str  # of the samples as given
    quality: int | None = None  # 1 to 100, lossy codecs only
    byte_cells: bool = True  # False: one-bit samples are stored eight to a byte (Bits Allocated 1)

    @property
    def rgb(self) -> bool:
        return self.photometric == "RGB"


Encoder = Callable[[Array, Encoding], bytes]
DEFAULT_JPEG_QUALITY = 90  # of 100: what viewers take for visually lossless at 8 bits
DEFAULT_J2K_DB = 55  # peak signal to noise ratio in dB of lossy JPEG 2000
HTJ2K_BASE = 64  # pixels: DICOM's RPCL options want a lowest resolution of at most this size
JPEGXL_EFFORT = 3  # best ratio per second on CT and MR


def _unsigned(pixels: Array, bits: int) -> Array:
    """Two's complement of `bits` bits as unsigned samples: how JPEG and JPEG-LS carry signed pixels."""
    cells = pixels.view(f"u{pixels.dtype.itemsize}")
    return np.ascontiguousarray(cells & cells.dtype.type((1 << bits) - 1))


def _narrow(pixels: Array, bits: int) -> Array:
    """In bytes where a byte is enough: codecs take the precision from the array's type."""
    size = 1 if bits <= 8 else 2
    return pixels if pixels.dtype.itemsize <= size else pixels.astype(f"{pixels.dtype.kind}{size}")


def _up_to_16(bits: int, name: str) -> None:
    if bits > 16:
        raise Unsupported(f"{name} takes at most 16 bits a sample, the image has {bits}")


def native(pixels: Array, how: Encoding) -> bytes:
    """Little endian cells, samples interleaved; 1-bit images packed, first pixel in the lowest bit."""
    if how.bits == 1 and pixels.dtype.itemsize == 1 and not how.byte_cells:
        return np.packbits(pixels, bitorder="little").tobytes()
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)).tobytes()


def deflated(pixels: Array, how: Encoding) -> bytes:
    """A raw deflate stream of the native frame, padded to an even length."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = packer.compress(native(pixels, how)) + packer.flush()
    return data + b"\0" * (len(data) % 2)


def rle(pixels: Array, how: Encoding) -> bytes:
    """RLE Lossless (PS3.5 annex G)."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    size = pixels.dtype.itemsize
    if samples * size > 15:
        raise Unsupported("RLE takes at most 15 bytes a pixel")
    # The package wants planes, sample after sample, in little endian.
    planes = pixels.transpose(2, 0, 1) if samples > 1 else pixels
    raw = np.ascontiguousarray(planes).tobytes()
    out = bytearray()
    segments: list[bytes] = []
    plane = pixels.shape[0] * pixels.shape[1] * size
    for sample in range(samples):
        segments += _rle_sample(raw[sample * plane : (sample + 1) * plane], pixels, size)
    out += len(segments).to_bytes(4, "little")
    offset = 64
    for segment in segments:
        out += offset.to_bytes(4, "little")
        offset += len(segment)
    return bytes(out).ljust(64, b"\0") + b"".join(segments)


def _rle_sample(raw: bytes, pixels: Array, size: int) -> list[bytes]:
    """The byte planes of one sample, cut out of a frame of its own."""
    frame = encode_pixel_data(
        raw,
        byteorder="<",
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=1,
        bits_allocated=8 * size,
        number_of_frames=1,
    )
    ends = [int.from_bytes(frame[4 * i : 4 * i + 4], "little") for i in range(1, size + 1)] + [len(frame)]
    return [frame[ends[i] : ends[i + 1]] for i in range(size)]


def jpeg(pixels: Array, how: Encoding) -> bytes:
    """JPEG baseline, lossy, 8 bits; colour (given as RGB) goes in as YCbCr 4:2:2."""
    if how.bits > 8:
        raise Unsupported(f"JPEG baseline takes 8 bits a sample, the image has {how.bits}")
    options: dict[str, Any] = {"colorspace": "rgb", "outcolorspace": "ycbcr", "subsampling": "422"}
    return bytes(
        imagecodecs.jpeg8_encode(
            _unsigned(pixels, how.bits), level=how.quality or DEFAULT_JPEG_QUALITY, **(options if how.rgb else {})
        )
    )


def jpeg_lossless(pixels: Array, how: Encoding) -> bytes:
    """JPEG lossless, process 14, first-order prediction; valid for .57 and .70 alike."""
    _up_to_16(how.bits, "JPEG lossless")
    # Components as they are, whatever they mean: the header's Photometric Interpretation says.
    options: dict[str, Any] = {"colorspace": "rgb", "outcolorspace": "rgb"} if pixels.ndim == 3 else {}
    return bytes(
        imagecodecs.jpeg8_encode(
            _narrow(_unsigned(pixels, how.bits), how.bits),
            lossless=True,
            predictor=1,
            bitspersample=max(how.bits, 2),
            **options,
        )
    )


def jpegls(pixels: Array, how: Encoding) -> bytes:
    """JPEG-LS lossless. The codec writes 8 or 16 bits of precision, not `bits`: a decoder gets the same samples."""
    _up_to_16(how.bits, "JPEG-LS")
    return bytes(imagecodecs.jpegls_encode(_narrow(_unsigned(pixels, how.bits), how.bits)))


def jpeg2k_lossless(pixels: Array, how: Encoding) -> bytes:
    """JPEG 2000, reversible; RGB through the reversible component transform."""
    _up_to_16(how.bits, "JPEG 2000")
    return bytes(
        imagecodecs.jpeg2k_encode(
            _narrow(np.ascontiguousarray(pixels), how.bits),
            level=0,
            codecformat="j2k",
            bitspersample=how.bits,
            reversible=True,
            mct=how.rgb,
            numthreads=1,
        )
    )


def j2k_decibel(quality: int) -> int:
    """Peak signal to noise ratio for a quality of 1 to 100: 15 to 60 dB."""
    return 15 + round(0.45 * quality)


def jpeg2k(pixels: Array, how: Encoding) -> bytes:
    """JPEG 2000, irreversible; quality 100 asks for 60 dB, 1 for about 15 dB."""
    _up_to_16(how.bits, "JPEG 2000")
    decibel = DEFAULT_J2K_DB if how.quality is None else j2k_decibel(how.quality)
    return bytes(
        imagecodecs.jpeg2k_encode(
            _narrow(np.ascontiguousarray(pixels), how.bits),
            level=decibel,
            codecformat="j2k",
            bitspersample=how.bits,
            reversible=False,
            mct=how.rgb,
            numthreads=1,
        )
    )


def htj2k(pixels: Array, how: Encoding) -> bytes:
    """HTJ2K, reversible, progression RPCL with tile-part lengths: valid for .201 and .202.

    The encoder knows only 8 and 16 bits of precision. Unsigned samples are therefore shifted here by half the range, as
    the standard's DC level shift of a `bits`-bit codestream would do, and go in as signed; then the size marker is made
    to say what the samples are. A decoder's shift back is the one for `bits`.
    """
    _up_to_16(how.bits, "HTJ2K")
    signed = pixels.dtype.kind == "i"
    cells = "i1" if how.bits <= 8 else "i2"
    if signed:
        shifted = pixels.astype(cells)
    else:
        shifted = (pixels.astype(np.int32) - (1 << (how.bits - 1))).astype(cells)
    side = max(pixels.shape[:2])
    levels = 5
    while side >> levels > HTJ2K_BASE and levels < 10:
        levels += 1
    data = bytearray(
        imagecodecs.htj2k_encode(
            np.ascontiguousarray(shifted),
            reversible=True,
            rgb=how.rgb,
            tlm=True,
            resolutions=levels,
        )
    )
    at = data.find(b"\xff\x51")
    for component in range(int.from_bytes(data[at + 38 : at + 40], "big")):
        data[at + 40 + 3 * component] = (how.bits - 1) | (0x80 if signed else 0)
    return bytes(data)


def jpegxl(pixels: Array, how: Encoding) -> bytes:
    """JPEG XL lossless, unsigned samples only."""
    _up_to_16(how.bits, "JPEG XL")
    if pixels.dtype.kind == "i":
        raise Unsupported("JPEG XL has no signed samples")
    return bytes(
        imagecodecs.jpegxl_encode(
            _narrow(np.ascontiguousarray(pixels), how.bits),
            lossless=True,
            effort=JPEGXL_EFFORT,
            bitspersample=how.bits,
            usecontainer=False,
            numthreads=1,
        )
    )


ENCODERS: dict[str, Encoder] = {
    "native": native,
    "deflated": deflated,
    "rle": rle,
    "jpeg": jpeg,
    "jpeg_lossless": jpeg_lossless,
    "jpegls": jpegls,
    "jpeg2k_lossless": jpeg2k_lossless,
    "jpeg2k": jpeg2k,
    "htj2k": htj2k,
    "jpegxl": jpegxl,
}
