"""References to other objects by study and series, rewritten to where these are shown now.

Owns: the sequences that name a study, a series and instances below it (PS3.3 C.12.2 Common Instance Reference, C.17.2 and
table C.17-3 Hierarchical SOP Instance Reference, C.11.11 Presentation State Relationship, C.8.8.5 RT Referenced Study), and
those that name a study alone (Referenced Study, Referenced Request, Request Attributes). Must never: touch a SOP Instance
UID (they never change), or a reference by SOP Instance UID alone. Sequences in which nothing moved stay verbatim.
Limits: sequences longer than REFERENCES_BYTES stay as they are: names of before still resolve on every interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from radiolith.dicom.encoding import BIG, LITTLE, element_header, padded
from radiolith.dicom.limits import LIMITS, UNDEFINED, Limits
from radiolith.dicom.syntax import Encoding
from radiolith.dicom.tokens import ELEMENT, FRAGMENTS, ITEM_START, ITEM_STOP, SEQUENCE, SEQUENCE_STOP, Tokens
from radiolith.dicom.values import little_endian
from radiolith.model import UidMap

REFERENCES_BYTES = 4 * 1024 * 1024
"""Of one sequence: about 30,000 references; taken apart they need 20 times the memory."""

REFERENCED_SERIES = 0x00081115
OTHER_STUDIES = 0x00081200
_STUDY_UID, _SERIES_UID, _SOP_UID = 0x0020000D, 0x0020000E, 0x00081155
_IMAGES = 0x00081140
_LISTS = frozenset({0x00081199, 0x0008114A, _IMAGES, 0x30060016})
_EVIDENCE = (0x0040A375, 0x0040A385, 0x0040A525)
_FRAMES_OF_REFERENCE, _RT_STUDIES, _RT_SERIES = 0x30060010, 0x30060012, 0x30060014
_STUDIES_ALONE = {0x00081110: _SOP_UID, 0x0040A370: _STUDY_UID, 0x00400275: _STUDY_UID}

TAGS = frozenset({REFERENCED_SERIES, OTHER_STUDIES, *_EVIDENCE, _FRAMES_OF_REFERENCE, *_STUDIES_ALONE})
"""The top-level sequences that are looked at."""

TOGETHER = frozenset({REFERENCED_SERIES, OTHER_STUDIES})
"""What leaves one of them goes to the other, so neither is rewritten without the other."""


@dataclass(slots=True)
class Node:
    """An element of an item. `value` is in the byte order of the dataset; `fragments` is one in fragments."""

    tag: int
    vr: str
    value: bytes | list[Item] = b""
    fragments: bool = False


@dataclass(slots=True)
class Item:
    """One item of a sequence."""

    nodes: list[Node] = field(default_factory=list[Node])

    def node(self, tag: int) -> Node | None:
        return next((node for node in self.nodes if node.tag == tag), None)

    def items(self, tag: int) -> list[Item]:
        node = self.node(tag)
        return node.value if node is not None and isinstance(node.value, list) else []

    def uid(self, tag: int) -> str:
        node = self.node(tag)
        raw = node.value if node is not None and isinstance(node.value, bytes) else b""
        return raw.decode("ascii", "replace").strip("\0 \t\r\n")

    def but(self, changed: Mapping[int, str | list[Item]]) -> Item:
        """A copy with other values; an attribute that is not there is added."""
        nodes = [node for node in self.nodes if node.tag not in changed]
        for tag, value in changed.items():
            if isinstance(value, str):
                nodes.append(Node(tag, "UI", padded(value.encode("ascii", "replace"), "UI")))
            else:
                nodes.append(Node(tag, "SQ", value))
        return Item(sorted(nodes, key=lambda node: node.tag))


class Places:
    """Where studies, series and instances are shown now. Made once an overlay."""

    def __init__(self, uids: UidMap) -> None:
        self._studies = dict(uids.studies)
        self._series = dict(uids.series)
        self._instances = dict(uids.instances)
        self.any = bool(self._studies or self._series or self._instances)
        self.by_instance = bool(self._instances)

    def study(self, study: str) -> str:
        return self._studies.get(study, study)

    def of(self, study: str, series: str, sop: str) -> tuple[str, str]:
        """(study, series) under which an instance is shown."""
        found = self._instances.get((study, series, sop)) or self._series.get((study, series))
        return found or (self._studies.get(study, study), series)


@dataclass(frozen=True, slots=True)
class Own:
    """The study that the header itself was received in, and the one it is shown in."""

    received: str
    shown: str


def regrouped(found: Mapping[int, list[Item]], places: Places, own: Own) -> dict[int, list[Item]]:
    """Of the top-level sequences TAGS those that change, with their new items; [] where none is left."""
    changed: dict[int, list[Item]] = {}
    for tag in found.keys() & set(_EVIDENCE):
        changed[tag] = _merged_studies(_by_study(found[tag], places), _STUDY_UID, REFERENCED_SERIES)
    for tag, name in _STUDIES_ALONE.items():
        if tag in found:
            changed[tag] = [_study_alone(item, name, places, own) for item in found[tag]]
    if _FRAMES_OF_REFERENCE in found:
        changed[_FRAMES_OF_REFERENCE] = [_frame_of_reference(item, places) for item in found[_FRAMES_OF_REFERENCE]]
    if REFERENCED_SERIES in found or OTHER_STUDIES in found:
        inside, outside = found.get(REFERENCED_SERIES, []), found.get(OTHER_STUDIES, [])
        changed[REFERENCED_SERIES], changed[OTHER_STUDIES] = _common(inside, outside, places, own)
    return {tag: items for tag, items in changed.items() if items != found.get(tag, [])}


def _study_alone(item: Item, name: int, places: Places, own: Own) -> Item:
    study = item.uid(name)
    shown = own.shown if study == own.received else places.study(study)
    return item if not study or shown == study else item.but({name: shown})


def _series_places(items: list[Item], study: str, places: Places) -> list[tuple[str, Item]]:
    """Series items of one study, taken apart where their instances are shown in several series now."""
    out: list[tuple[str, Item]] = []
    for item in items:
        series = item.uid(_SERIES_UID)
        lists = [node for node in item.nodes if node.tag in _LISTS and isinstance(node.value, list)]
        targets: dict[tuple[str, str], dict[int, list[Item]]] = {}
        for node in lists:
            for reference in item.items(node.tag):
                place = places.of(study, series, reference.uid(_SOP_UID))
                targets.setdefault(place, {}).setdefault(node.tag, []).append(reference)
        if not targets:
            targets[places.of(study, series, "")] = {}
        for (new_study, new_series), kept in targets.items():
            whole = len(targets) == 1
            renamed = {_SERIES_UID: new_series} if series and new_series != series else {}
            parts = {} if whole else {node.tag: kept.get(node.tag, []) for node in lists}
            mine = item.but({**renamed, **parts}) if renamed or parts else item
            if not whole:
                mine = Item([node for node in mine.nodes if node.tag not in _LISTS or node.value])
            out.append((new_study, mine))
    return out


def _by_study(
    items: list[Item], places: Places, study_tag: int = _STUDY_UID, series_tag: int = REFERENCED_SERIES
) -> list[Item]:
    """Study items, taken apart where their series are shown in several studies now."""
    out: list[Item] = []
    for item in items:
        study, inner = item.uid(study_tag), item.items(series_tag)
        if not inner:
            shown = places.study(study)
            out.append(item if shown == study else item.but({study_tag: shown}))
            continue
        found = _series_places(inner, study, places)
        studies = dict.fromkeys(new for new, _ in found)
        for new in studies:
            series = [one for at, one in found if at == new]
            if len(studies) == 1 and new == study and series == inner:
                out.append(item)
            else:
                out.append(item.but({study_tag: new, series_tag: series}))
    return out


def _merged_studies(items: list[Item], study_tag: int, series_tag: int) -> list[Item]:
    """Items of one study become one where they say the same besides; likewise their series."""
    return _merged(
        items,
        lambda item: item.uid(study_tag),
        {series_tag},
        lambda item: item.but({series_tag: _merged_series(item.items(series_tag))}) if item.items(series_tag) else item,
    )


def _merged_series(items: list[Item]) -> list[Item]:
    return _merged(items, lambda item: item.uid(_SERIES_UID), _LISTS, lambda item: item)


def _merged(
    items: list[Item], name: Callable[[Item], str], joined: Iterable[int], inside: Callable[[Item], Item]
) -> list[Item]:
    joined = frozenset(joined)
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(name(item), []).append(item)
    out: list[Item] = []
    for key, group in groups.items():
        first = group[0]
        rest = [node for node in first.nodes if node.tag not in joined]
        same = [item for item in group[1:] if key and [n for n in item.nodes if n.tag not in joined] == rest]
        if same:
            lists = dict.fromkeys(node.tag for item in (first, *same) for node in item.nodes if node.tag in joined)
            first = inside(first.but({tag: [i for item in (first, *same) for i in item.items(tag)] for tag in lists}))
        out += [first, *(item for item in group[1:] if not any(item is one for one in same))]
    return out


def _common(inside: list[Item], outside: list[Item], places: Places, own: Own) -> tuple[list[Item], list[Item]]:
    """Series of the own study beside those of other studies (PS3.3 C.12.2). A presentation state's images stay with
    it whatever study they are shown in: its relationship module names no study (PS3.3 C.11.11)."""
    stay: list[Item] = []
    gone: list[Item] = []
    for study, item in _series_places(inside, own.received, places):
        if study == own.shown or item.node(_IMAGES) is not None:
            stay.append(item)
        else:
            gone.append(Item([Node(REFERENCED_SERIES, "SQ", [item])]).but({_STUDY_UID: study}))
    others: list[Item] = []
    for item in _by_study(outside, places):
        if item.uid(_STUDY_UID) == own.shown and own.shown and item not in outside:
            stay += item.items(REFERENCED_SERIES)
        else:
            others.append(item)
    if stay == inside and others == outside and not gone:
        return inside, outside
    return _merged_series(stay), _merged_studies([*others, *gone], _STUDY_UID, REFERENCED_SERIES)


def _frame_of_reference(item: Item, places: Places) -> Item:
    studies = item.items(_RT_STUDIES)
    moved = _by_study(studies, places, _SOP_UID, _RT_SERIES)
    return item if moved == studies else item.but({_RT_STUDIES: _merged_studies(moved, _SOP_UID, _RT_SERIES)})


# ---------------------------------------------------------------- bytes


def parsed(element: bytes, encoding: Encoding, limits: Limits = LIMITS) -> list[Item] | None:
    """The items of a sequence element; None when it is none. Raises LimitExceeded."""
    root = Item()
    here: list[Item] = [root]
    for kind, tag, vr, start, length, big in Tokens(element, encoding, limits):
        if kind in (ELEMENT, FRAGMENTS):
            raw = element[start : start + length]
            raw = little_endian(raw, vr, big is not encoding.big) if kind == ELEMENT else raw
            here[-1].nodes.append(Node(tag, vr, raw, kind == FRAGMENTS))
        elif kind == SEQUENCE:
            here[-1].nodes.append(Node(tag, "SQ", []))
        elif kind == ITEM_START:
            item, owner = Item(), here[-1].nodes[-1].value
            if isinstance(owner, list):
                owner.append(item)
            here.append(item)
        elif kind == ITEM_STOP:
            here.pop()
        elif kind != SEQUENCE_STOP:
            return None
    first = root.nodes[0].value if root.nodes else None
    return first if isinstance(first, list) else None


def sequence(tag: int, items: list[Item], encoding: Encoding) -> bytes:
    """A sequence element, of undefined length. As deep as the reader's limits let it be."""
    marks = BIG if encoding.big else LITTLE
    implicit, big = encoding.implicit, encoding.big
    parts = [element_header(tag, "SQ", UNDEFINED, implicit=implicit, big=big)]
    for item in items:
        parts.append(marks.item)
        for node in item.nodes:
            if not node.tag & 0xFFFF:
                continue
            if isinstance(node.value, list):
                parts.append(sequence(node.tag, node.value, encoding))
                continue
            raw = node.value if node.fragments else padded(node.value, node.vr)
            length = UNDEFINED if node.fragments else len(raw)
            parts.append(element_header(node.tag, node.vr, length, implicit=implicit, big=big) + raw)
            if node.fragments:
                parts.append(marks.sequence_stop)
        parts.append(marks.item_stop)
    parts.append(marks.sequence_stop)
    return b"".join(parts)
