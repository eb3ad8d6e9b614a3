"""An object's header as the decoder needs it: parsed once, described per frame, rewritten for another syntax.

Owns: header bytes -> `PixelDescription`, and header bytes + `Changed` -> new header bytes. Runs in decoder processes
(pydicom on hostile bytes). Must never read pixel data. Limits: `limits.header_bytes`; nesting as deep as pydicom can.
"""

from __future__ import annotations

import warnings
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag

from radiolith.codecs import registry
from radiolith.codecs.description import Lut, Overlay, PixelDescription, Window, check
from radiolith.codecs.elements import finite, integer, items, lut, numbers, raw, swap_words, text
from radiolith.codecs.requests import Changed, Opened
from radiolith.codecs.sieve import sift
from radiolith.model import BadInput

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_TOP = (
    0x00080016, 0x00181063, 0x00180040, 0x00082144, 0x00181164, 0x00280002, 0x00280004, 0x00280006, 0x00280008,
    0x00280010, 0x00280011, 0x00280030, 0x00280034, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120,
    0x00280121, 0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056, 0x00281101, 0x00281102, 0x00281103,
    0x00281201, 0x00281202, 0x00281203, 0x00281221, 0x00281222, 0x00281223, 0x00282000, 0x00283000, 0x00283010,
    0x20500020, _SHARED, _PER_FRAME,
)  # fmt: skip
_OVERLAY = (0x0010, 0x0011, 0x0015, 0x0040, 0x0050, 0x0051, 0x0100, 0x0102, 0x3000)
_WANTED = [*_TOP, *(0x60000000 + (g << 16) + e for g in range(0, 0x20, 2) for e in _OVERLAY)]
_WANTED_SET = frozenset(_WANTED)
_WANTED_TAGS: list[BaseTag | int] = [Tag(t) for t in _WANTED]
MAX_OVERLAYS = 16
MAX_WINDOWS = 64


def parse(data: bytes, syntax: str, *, everything: bool) -> Dataset:
    """The dataset in `data`, elements left raw; only what display needs unless `everything`. Raises BadInput."""
    row = registry.syntax(syntax)
    tags = None
    if not everything:
        sifted = data if row.big_endian else sift(data, _WANTED_SET, implicit=row.implicit)
        tags = _WANTED_TAGS if sifted is data else None
        data = sifted
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_dataset(BytesIO(data), row.implicit, not row.big_endian, specific_tags=tags)
    except RecursionError:
        raise BadInput("sequences nested too deeply") from None
    except Exception as error:
        raise BadInput(f"the header cannot be read: {type(error).__name__}") from None


class Header:
    """The header of one object."""

    def __init__(self, opened: Opened):
        self._opened = opened
        self._data = bytes(opened.header)
        self.dataset = parse(self._data, opened.syntax, everything=False)
        self._groups = items(self.dataset, _PER_FRAME)
        shared = items(self.dataset, _SHARED)
        self._shared = shared[0] if shared else Dataset()
        self._base: PixelDescription | None = None

    @property
    def per_frame(self) -> bool:
        """Frames may differ in more than their number."""
        return bool(self._groups)

    @property
    def syntax(self) -> str:
        return self._opened.syntax

    def describe(self, frame: int) -> PixelDescription:
        """Description of frame `frame`, counted from 0. Raises BadInput, Unsupported, LimitExceeded."""
        ds = self.dataset
        bits = integer(ds, 0x00280100, 16)
        floating = self._opened.pixel_tag != 0x7FE00010
        stored = bits if floating else integer(ds, 0x00280101, bits)
        signed = integer(ds, 0x00280103, 0) == 1
        photometric = text(ds, 0x00280004).upper()
        samples = integer(ds, 0x00280002, 1)
        if not photometric:
            photometric = "RGB" if samples == 3 else "MONOCHROME2"
        luts = self._grey_luts(frame)
        return PixelDescription(
            syntax=self._opened.syntax,
            rows=integer(ds, 0x00280010, 0),
            columns=integer(ds, 0x00280011, 0),
            samples=samples,
            bits_allocated=bits,
            bits_stored=stored,
            high_bit=stored - 1 if floating else integer(ds, 0x00280102, stored - 1),
            signed=signed,
            photometric=photometric,
            planar=integer(ds, 0x00280006, 0),
            frames=max(1, int(finite(numbers(ds, 0x00280008), 0, 1.0))),
            pixel_tag=self._opened.pixel_tag,
            pixel_vr=self._opened.pixel_vr,
            slope=luts[0],
            intercept=luts[1],
            modality_lut=luts[2],
            windows=self._windows(frame),
            voi_luts=voi_luts(ds),
            inverse=text(ds, 0x20500020).upper() == "INVERSE",
            padding=_padding(ds, signed),
            palette=palette(ds, signed) if photometric == "PALETTE COLOR" else None,
            overlays=overlays(ds),
            icc_profile=raw(ds, 0x00282000)[1],
            aspect=self._aspect(frame),
            frame_seconds=_frame_seconds(ds),
        )

    def _group(self, frame: int, tag: int) -> Dataset | None:
        """The functional group macro `tag` of a frame: its own before the shared one."""
        for source in (self._groups[frame : frame + 1], [self._shared]):
            found = items(source[0], tag) if source else []
            if found:
                return found[0]
        return None

    def _grey_luts(self, frame: int) -> tuple[float, float, Lut | None]:
        source = self._group(frame, 0x00289145) or self.dataset
        slope = finite(numbers(source, 0x00281053), 0, 1.0)
        intercept = finite(numbers(source, 0x00281052), 0, 0.0)
        return slope or 1.0, intercept, modality_lut(self.dataset)

    def _windows(self, frame: int) -> tuple[Window, ...]:
        return windows(self._group(frame, 0x00289132) or self.dataset)

    def _aspect(self, frame: int) -> tuple[float, float]:
        measures = self._group(frame, 0x00289110)
        for source, tag in ((measures, 0x00280030), (self.dataset, 0x00280034), (self.dataset, 0x00280030),
                            (self.dataset, 0x00181164)):  # fmt: skip
            pair = numbers(source, tag) if source is not None else ()
            if len(pair) == 2 and all(0 < v < 1e9 for v in pair):
                return pair[0], pair[1]
        return 1.0, 1.0

    def rewrite(self, changed: Changed) -> bytes:
        """The whole header (file meta excluded) in Explicit VR Little Endian, for frames that are as `changed` says."""
        ds = parse(self._data, self._opened.syntax, everything=True)
        if registry.syntax(self._opened.syntax).big_endian:
            ds.walk(lambda _ds, _element: None)  # raw values are in the old byte order: convert every one
        _patch(ds, changed)
        out = DicomBytesIO()
        out.is_little_endian, out.is_implicit_VR = True, False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_dataset(out, ds)
        return out.getvalue()


def _patch(ds: Dataset, changed: Changed) -> None:
    for tag in [t for t in tuple(ds.keys()) if t.group == 0x7FE0 or t.group < 8]:
        del ds[tag]  # pixel data follows anew; offset tables (7FE0,0001) to (7FE0,0003) described the old one
    ds.PhotometricInterpretation = changed.photometric
    ds.SamplesPerPixel = changed.samples
    if changed.samples > 1:
        ds.PlanarConfiguration = changed.planar
    elif "PlanarConfiguration" in ds:
        del ds.PlanarConfiguration
    ds.BitsAllocated = changed.bits_allocated
    if "BitsStored" in ds:
        ds.BitsStored, ds.HighBit = changed.bits_stored, changed.high_bit
        ds.PixelRepresentation = int(changed.signed)
    if changed.lossy:
        ds.LossyImageCompression = "01"
        for keyword, value in (
            ("LossyImageCompressionRatio", f"{changed.ratio:.4g}"),
            ("LossyImageCompressionMethod", changed.method),
        ):
            before = ds.get(keyword)
            old = [] if before in (None, "") else list(before) if not isinstance(before, (str, float)) else [before]
            setattr(ds, keyword, [*old, value])


def windows(ds: Dataset) -> tuple[Window, ...]:
    """VOI windows of a dataset or macro item; a width that cannot be is left out."""
    centers, widths = numbers(ds, 0x00281050), numbers(ds, 0x00281051)
    function = text(ds, 0x00281056).upper() or "LINEAR"
    found = [
        Window(c, w, function)
        for c, w in zip(centers[:MAX_WINDOWS], widths, strict=False)
        if abs(c) < 1e38 and (w >= 1 if function == "LINEAR" else w > 0) and w < 1e38
    ]
    return tuple(found)


def modality_lut(ds: Dataset) -> Lut | None:
    """Modality LUT Sequence (PS3.3 C.11.1)."""
    signed = integer(ds, 0x00280103, 0) == 1
    for item in items(ds, 0x00283000)[:1]:
        return lut(item, 0x00283002, 0x00283006, signed=signed)
    return None


def voi_luts(ds: Dataset) -> tuple[Lut, ...]:
    """VOI LUT Sequence (PS3.3 C.11.2); the first mapped value is signed if pixels or rescale can be negative."""
    signed = integer(ds, 0x00280103, 0) == 1 or finite(numbers(ds, 0x00281052), 0, 0.0) < 0
    found = (lut(item, 0x00283002, 0x00283006, signed=signed) for item in items(ds, 0x00283010)[:MAX_WINDOWS])
    return tuple(table for table in found if table is not None)


def palette(ds: Dataset, signed: bool) -> tuple[Lut, Lut, Lut]:
    """Red, green and blue tables (PS3.3 C.7.6.3.1.5 and .6), segmented ones expanded. Raises BadInput if incomplete."""
    found = [lut(ds, 0x00281101 + i, 0x00281201 + i, segmented=0x00281221 + i, signed=signed) for i in range(3)]
    red, green, blue = found
    if red is None or green is None or blue is None:
        raise BadInput("palette colour without its colour tables")
    return red, green, blue


def overlays(ds: Dataset) -> tuple[Overlay, ...]:
    """Overlay planes (PS3.3 C.9.2)."""
    found: list[Overlay] = []
    groups = sorted({t.group << 16 for t in tuple(ds.keys()) if 0x6000 <= t.group < 0x6020 and not t.group & 1})
    for group in groups:
        rows, columns = integer(ds, group + 0x10, 0), integer(ds, group + 0x11, 0)
        if rows <= 0 or columns <= 0 or len(found) == MAX_OVERLAYS:
            continue
        origin = numbers(ds, group + 0x50, default="h")
        vr, data, little = raw(ds, group + 0x3000)
        if not little and vr == "OW":
            data = swap_words(data)
        found.append(
            Overlay(
                group=group >> 16,
                rows=rows,
                columns=columns,
                origin=(int(finite(origin, 0, 1)), int(finite(origin, 1, 1))),
                data=data,
                bit_position=integer(ds, group + 0x102, 0),
                frames=max(1, integer(ds, group + 0x15, 1)),
                first_frame=max(1, integer(ds, group + 0x51, 1)),
            )
        )
    return tuple(found)


def _padding(ds: Dataset, signed: bool) -> tuple[int, int] | None:
    code = "h" if signed else "H"
    value = numbers(ds, 0x00280120, default=code)
    if not value or value[0] != value[0]:
        return None
    limit = numbers(ds, 0x00280121, default=code)
    ends = [int(value[0]), int(limit[0]) if limit and limit[0] == limit[0] else int(value[0])]
    if signed:  # often written as US whatever the pixels are
        ends = [e - 0x10000 if 0x7FFF < e <= 0xFFFF else e for e in ends]
    return min(ends), max(ends)


def _frame_seconds(ds: Dataset) -> float:
    milliseconds = finite(numbers(ds, 0x00181063), 0, 0.0)
    rate = finite(numbers(ds, 0x00082144), 0, 0.0) or finite(numbers(ds, 0x00180040), 0, 0.0)
    seconds = milliseconds / 1000 if milliseconds > 0 else 1 / rate if rate > 0 else 0.1
    return min(max(seconds, 0.02), 10.0)


def describe_pixels(opened: Opened, frame: int, frame_bytes: int) -> PixelDescription:
    """One frame's description, checked against the cap `frame_bytes`: the whole of `Header` in one call."""
    described = Header(opened).describe(frame)
    check(described, frame_bytes)
    return described
