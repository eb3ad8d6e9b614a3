"""A softcopy presentation state as plain values for one image frame (PS3.3 A.33, PS3.4 N.2).

Owns: presentation state dataset -> `Presentation`. Runs in decoder processes only. Must never draw (that is `paint`).
Limits: annotations per image and points per annotation; what is beyond is left out, since a picture is still of use.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from radiolith.codecs.description import Lut, Overlay, Window
from radiolith.codecs.elements import finite, integer, items, lut, numbers, text
from radiolith.codecs.header import modality_lut, overlays, parse, voi_luts, windows
from radiolith.model import BadInput

MAX_ANNOTATIONS = 500
MAX_POINTS = 10_000
MAX_TEXT = 500  # characters of one text object
Point = tuple[float, float]  # column, row


@dataclass(frozen=True, slots=True)
class Graphic:
    """One graphic object. `relative`: coordinates are fractions of the displayed area instead of image pixels."""

    kind: str  # POINT, POLYLINE, INTERPOLATED, CIRCLE, ELLIPSE
    points: tuple[Point, ...]
    filled: bool
    relative: bool


@dataclass(frozen=True, slots=True)
class Text:
    """One text object at a point; `relative` as in Graphic."""

    lines: tuple[str, ...]
    at: Point
    relative: bool


@dataclass(frozen=True, slots=True)
class Shutter:
    """Everything outside any of the shapes is hidden. Edges are 1-based pixel numbers as in the dataset."""

    rectangle: tuple[int, int, int, int] | None  # left, right, upper, lower
    circle: tuple[float, float, float] | None  # row, column, radius
    polygon: tuple[Point, ...]
    value: int  # 0 to 255


@dataclass(frozen=True, slots=True)
class Area:
    """Displayed area: 1-based corners (columns, rows), both inside."""

    top_left: tuple[int, int]
    bottom_right: tuple[int, int]
    aspect: tuple[float, float] | None
    magnification: float


@dataclass(frozen=True, slots=True)
class Presentation:
    """What a presentation state says about one frame of one image."""

    slope: float
    intercept: float
    modality: Lut | None
    window: Window | None
    voi: Lut | None
    presentation: Lut | None
    inverse: bool
    quarter_turns: int
    mirrored: bool
    area: Area | None
    shutter: Shutter | None
    graphics: tuple[Graphic, ...]
    texts: tuple[Text, ...]
    overlay_groups: frozenset[int]  # of the image's own overlays
    overlays: tuple[Overlay, ...]  # the state's own


def read(data: bytes, syntax: str, sop_instance: str, frame: int) -> Presentation:
    """The state in `data` (a whole dataset) for frame `frame`, from 0, of image `sop_instance`. Raises BadInput."""
    ds = parse(data, syntax, everything=True)
    softcopy = _chosen(ds, 0x00283110, sop_instance, frame)
    voi = voi_luts(softcopy) if softcopy is not None else ()
    found = windows(softcopy) if softcopy is not None else ()
    shapes = [t for item in items(ds, 0x20500010)[:1] if (t := lut(item, 0x00283002, 0x00283006)) is not None]
    graphics, texts = _annotations(ds, sop_instance, frame)
    own = overlays(ds)
    active = {g for g in range(0x6000, 0x6020, 2) if text(ds, g << 16 | 0x1001)}
    return Presentation(
        slope=finite(numbers(ds, 0x00281053), 0, 1.0) or 1.0,
        intercept=finite(numbers(ds, 0x00281052), 0, 0.0),
        modality=modality_lut(ds),
        window=found[0] if found else None,
        voi=voi[0] if voi and not found else None,
        presentation=shapes[0] if shapes else None,
        inverse=text(ds, 0x20500020).upper() == "INVERSE",
        quarter_turns=integer(ds, 0x00700042, 0) // 90 % 4,
        mirrored=text(ds, 0x00700041).upper() == "Y",
        area=_area(ds, sop_instance, frame),
        shutter=_shutter(ds),
        graphics=graphics,
        texts=texts,
        overlay_groups=frozenset(active - {o.group for o in own}),
        overlays=tuple(o for o in own if o.group in active),
    )


def _applies(item: Dataset, sop_instance: str, frame: int) -> bool:
    """Whether an item's list of referenced images, if it has one, names this frame."""
    references = items(item, 0x00081140)
    if not references or not sop_instance:
        return True
    for reference in references:
        if text(reference, 0x00081155) == sop_instance:
            listed = numbers(reference, 0x00081160)
            return not listed or frame + 1 in {int(n) for n in listed if n == n}
    return False


def _chosen(ds: Dataset, tag: int, sop_instance: str, frame: int) -> Dataset | None:
    return next((item for item in items(ds, tag) if _applies(item, sop_instance, frame)), None)


def _area(ds: Dataset, sop_instance: str, frame: int) -> Area | None:
    item = _chosen(ds, 0x0070005A, sop_instance, frame)
    if item is None:
        return None
    first, last = numbers(item, 0x00700052), numbers(item, 0x00700053)
    if len(first) < 2 or len(last) < 2 or any(abs(v) > 1e6 or v != v for v in (*first[:2], *last[:2])):
        return None
    spacing = numbers(item, 0x00700101) or numbers(item, 0x00700102)
    aspect = (spacing[0], spacing[1]) if len(spacing) == 2 and all(0 < v < 1e9 for v in spacing) else None
    magnify = text(item, 0x00700100).upper() == "MAGNIFY"
    ratio = finite(numbers(item, 0x00700103), 0, 1.0) if magnify else 1.0
    corners = (int(first[0]), int(first[1])), (int(last[0]), int(last[1]))
    return Area(corners[0], corners[1], aspect, ratio if 0.01 < ratio < 100 else 1.0)


def _shutter(ds: Dataset) -> Shutter | None:
    vr_shapes = {s.strip().upper() for s in _strings(ds, 0x00181600)}
    if not vr_shapes & {"RECTANGULAR", "CIRCULAR", "POLYGONAL"}:
        return None
    rectangle = circle = None
    polygon: tuple[Point, ...] = ()
    if "RECTANGULAR" in vr_shapes:
        left, right, upper, lower = (integer(ds, tag, 0) for tag in (0x00181602, 0x00181604, 0x00181606, 0x00181608))
        rectangle = left, right, upper, lower
    if "CIRCULAR" in vr_shapes:
        center = numbers(ds, 0x00181610)
        circle = finite(center, 0, 0.0), finite(center, 1, 0.0), finite(numbers(ds, 0x00181612), 0, 0.0)
    if "POLYGONAL" in vr_shapes:
        flat = numbers(ds, 0x00181620)[: 2 * MAX_POINTS]
        polygon = tuple((c, r) for r, c in zip(flat[::2], flat[1::2], strict=False) if abs(r) < 1e6 and abs(c) < 1e6)
    value = integer(ds, 0x00181622, 0) >> 8
    return Shutter(rectangle, circle, polygon if len(polygon) > 2 else (), min(max(value, 0), 255))


def _strings(ds: Dataset, tag: int) -> list[str]:
    if tag not in ds:
        return []
    try:
        value = ds[tag].value
    except Exception:
        raise BadInput(f"element {tag:08X} cannot be read") from None
    if isinstance(value, (str, bytes, int, float)) or value is None:
        return [str(value)]
    return [str(v) for v in value]


def _annotations(ds: Dataset, sop_instance: str, frame: int) -> tuple[tuple[Graphic, ...], tuple[Text, ...]]:
    graphics: list[Graphic] = []
    texts: list[Text] = []
    for item in items(ds, 0x00700001):
        if not _applies(item, sop_instance, frame):
            continue
        graphics += [g for o in items(item, 0x00700009)[:MAX_ANNOTATIONS] if (g := _graphic(o)) is not None]
        texts += [t for o in items(item, 0x00700008)[:MAX_ANNOTATIONS] if (t := _text(o)) is not None]
    return tuple(graphics[:MAX_ANNOTATIONS]), tuple(texts[:MAX_ANNOTATIONS])


def _points(ds: Dataset, tag: int) -> tuple[Point, ...]:
    flat = numbers(ds, tag, default="f")[: 2 * MAX_POINTS]
    return tuple((x, y) for x, y in zip(flat[::2], flat[1::2], strict=False) if abs(x) < 1e6 and abs(y) < 1e6)


def _graphic(item: Dataset) -> Graphic | None:
    points = _points(item, 0x00700022)
    kind = text(item, 0x00700023).upper()
    needed = {"POINT": 1, "POLYLINE": 2, "INTERPOLATED": 2, "CIRCLE": 2, "ELLIPSE": 4}.get(kind, 0)
    if not needed or len(points) < needed:
        return None
    return Graphic(kind, points, text(item, 0x00700024).upper() == "Y", text(item, 0x00700005).upper() == "DISPLAY")


def _text(item: Dataset) -> Text | None:
    """Text stands at its anchor, or at the upper left corner of its box."""
    content = "\n".join(_strings(item, 0x00700006))[:MAX_TEXT]
    lines = tuple(line for line in content.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    for tag, units in ((0x00700010, 0x00700003), (0x00700014, 0x00700004)):
        points = _points(item, tag)
        if points and any(lines):
            if tag == 0x00700010:
                ends = points + _points(item, 0x00700011)
                points = ((min(p[0] for p in ends), min(p[1] for p in ends)),)
            return Text(lines, points[0], text(item, units).upper() == "DISPLAY")
    return None
