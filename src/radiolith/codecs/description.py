"""What it takes to turn an object's pixel bytes into an image: the attributes, checked, as plain values.

Owns: `PixelDescription` and the arithmetic about sizes (in Python integers, never in a codec's). Must never parse a
header (that is `header`, in the decoder process) nor import numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.codecs.limits import MAX_SIDE
from radiolith.model import BadInput, LimitExceeded, Unsupported

PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA = 0x7FE00008
DOUBLE_PIXEL_DATA = 0x7FE00009


@dataclass(frozen=True, slots=True)
class Lut:
    """A look-up table (PS3.3 C.7.6.3.1.5, C.11.1, C.11.2): `data` is one u16 little endian per entry."""

    first: int  # stored value mapped to the first entry
    bits: int  # significant bits of an entry
    data: bytes

    @property
    def entries(self) -> int:
        return len(self.data) // 2


@dataclass(frozen=True, slots=True)
class Window:
    """One VOI window (PS3.3 C.11.2.1.2); function is LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay plane (PS3.3 C.9.2). `data` is packed bits, or b'' when the bits lie in the pixel cells."""

    group: int
    rows: int
    columns: int
    origin: tuple[int, int]  # row, column of the upper left pixel, 1-based
    data: bytes
    bit_position: int = 0
    frames: int = 1
    first_frame: int = 1  # image frame that the first overlay frame belongs to


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """The Image Pixel module and what governs display, for one frame (functional groups applied)."""

    syntax: str
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: int = 0
    frames: int = 1
    pixel_tag: int = PIXEL_DATA
    pixel_vr: str = ""  # only matters in big endian, where 8-bit OW is swapped in pairs
    slope: float = 1.0
    intercept: float = 0.0
    modality_lut: Lut | None = None
    windows: tuple[Window, ...] = ()
    voi_luts: tuple[Lut, ...] = ()
    inverse: bool = False  # Presentation LUT Shape INVERSE
    padding: tuple[int, int] | None = None  # lowest and highest stored value that means "no pixel here"
    palette: tuple[Lut, Lut, Lut] | None = None
    overlays: tuple[Overlay, ...] = ()
    icc_profile: bytes = b""
    aspect: tuple[float, float] = (1.0, 1.0)  # height and width of a pixel, in any unit
    frame_seconds: float = 0.1  # time from one frame to the next

    @property
    def floating(self) -> bool:
        return self.pixel_tag in (FLOAT_PIXEL_DATA, DOUBLE_PIXEL_DATA)

    @property
    def pixels(self) -> int:
        return self.rows * self.columns

    @property
    def monochrome(self) -> bool:
        return self.photometric in ("MONOCHROME1", "MONOCHROME2")

    @property
    def native_bits(self) -> int:
        """Bits of one native frame as stored; bits, because 1-bit frames need not end on a byte."""
        if self.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422") and self.samples == 3:
            return self.pixels * 2 * self.bits_allocated
        return self.pixels * self.samples * self.bits_allocated

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the decoded frame, one full cell per sample."""
        return self.pixels * self.samples * max(1, self.bits_allocated // 8)


def check(p: PixelDescription, frame_bytes: int) -> None:
    """Refuse what no decoder should ever see. `frame_bytes` caps the decoded frame.

    Raises BadInput for contradictions, Unsupported for the exotic, LimitExceeded past the cap.
    """
    if not (0 < p.rows <= MAX_SIDE and 0 < p.columns <= MAX_SIDE):
        raise BadInput(f"an image of {p.rows} rows and {p.columns} columns")
    if p.samples not in (1, 3, 4):
        raise Unsupported(f"{p.samples} samples per pixel")
    if p.bits_allocated not in (1, 8, 16, 32, 64):
        raise Unsupported(f"{p.bits_allocated} bits allocated per sample")
    if p.floating:
        if p.bits_allocated not in (32, 64) or p.samples != 1:
            raise BadInput(f"floating point pixels of {p.bits_allocated} bits and {p.samples} samples")
    elif not (0 < p.bits_stored <= p.bits_allocated and p.bits_stored - 1 <= p.high_bit < p.bits_allocated):
        raise BadInput(f"bits allocated {p.bits_allocated}, stored {p.bits_stored}, high bit {p.high_bit}")
    if p.monochrome and p.samples != 1:
        raise BadInput(f"{p.photometric} with {p.samples} samples per pixel")
    if p.photometric.startswith(("RGB", "YBR", "XYB")) and p.samples != 3:
        raise BadInput(f"{p.photometric} with {p.samples} samples per pixel")
    if p.decoded_bytes > frame_bytes:
        raise LimitExceeded(f"a decoded frame may have {frame_bytes} bytes, this one would have {p.decoded_bytes}")
