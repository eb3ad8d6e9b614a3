"""Attributes that a setting made searchable: which they are, what a header says of them, how far they are filled in.

Owns: the tables `extras` and `extra_fills`, and the reading of `index.attributes`. Must never: cost an instance anything where
the setting is empty. An attribute is a keyword or tag of PS3.6, a keyword inside a sequence ('ReferencedImageSequence.…'), or a
private one with its creator ('0009,1001:ACME 1.1'), whatever block its creator reserved. Values are kept as they are compared:
names folded, numbers in one notation, the rest as text of at most TEXT_MAX characters.

Limits: ATTRIBUTES_MAX attributes, VALUES_MAX values of one in one instance; about 60 bytes a value on disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from radiolith.dicom import charset, dictionary, values
from radiolith.dicom.reader import Scan
from radiolith.dicom.wanted import WANTED, Wanted
from radiolith.index import codes
from radiolith.index.attributes import BY_PATH, TEXT_MAX, Attribute, Matching, clean, date, describe, time
from radiolith.index.codes import Code
from radiolith.index.heldrows import tenant_uid
from radiolith.index.layouts import unpack_layout
from radiolith.index.person import name_keys
from radiolith.index.session import Reader, Writer
from radiolith.model import BadInput, Blob, Description, Layout, Level, Place

ATTRIBUTES_MAX = 32  # of the setting
VALUES_MAX = 32  # of one attribute in one instance
_BLOCKS = range(0x10, 0x100)
_NEVER = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"})
_PRIVATE = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?:(.{1,64})")
_LOOSE = re.compile(r"\(?([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)?")
_DATE_TIME = re.compile(r"\d{4,14}(\.\d{1,6})?")


@dataclass(frozen=True, slots=True)
class Extra:
    """`path`: a private attribute stands in block 10. `name`: how the index and people call it."""

    name: str
    path: tuple[int, ...]
    vr: str
    creator: str = ""

    def attribute(self) -> Attribute:
        return Attribute(Level.INSTANCE, self.path, self.name, self.vr, "", Matching.EXTRA, default=False)


class Extras:
    """The attributes of the setting, as the scan, the rows and the search need them. `known`: in the order of the setting."""

    def __init__(self, known: Sequence[Extra] = ()):
        self.known = tuple(known)
        self.wanted = _wanted(self.known)
        self._by_path = {(one.path, one.creator): one for one in self.known}

    def find(self, path: tuple[int, ...], creator: str = "") -> Extra | None:
        """The attribute asked for. A private one may be asked for in any block, and without its creator where no other has that
        element."""
        if not path[0] >> 16 & 1:
            return self._by_path.get((path, ""))
        path = (path[0] & 0xFFFF00FF | 0x1000,)
        if creator:
            return self._by_path.get((path, creator))
        found = [one for one in self.known if one.path == path]
        return found[0] if len(found) == 1 else None

    def describe(self, scan: Scan) -> Description:
        """As `attributes.describe`, with what the header says of these attributes."""
        made = describe(scan)
        return replace(made, extras=self.values(scan)) if self.known else made

    def values(self, scan: Scan) -> tuple[tuple[str, str], ...]:
        """(name, value as compared) of all of them that the header has."""
        return tuple((one.name, value) for one in self.known for value in _values(scan, one))


def parse(setting: Sequence[str]) -> Extras:
    """Raises BadInput for what is no attribute, cannot be searched, or is indexed anyway."""
    if len(setting) > ATTRIBUTES_MAX:
        raise BadInput(f"'index.attributes' names {len(setting)} attributes, at most {ATTRIBUTES_MAX} are kept")
    known: dict[str, Extra] = {}
    for text in setting:
        one = _private(text) if ":" in text else _public(text)
        if one.vr in _NEVER:
            raise BadInput(f"'index.attributes': values of '{text}' (VR {one.vr}) cannot be searched")
        if one.path in BY_PATH and not one.creator:
            raise BadInput(f"'index.attributes': '{text}' is searchable without being named")
        known[one.name] = one
    return Extras(tuple(known.values()))


def _public(text: str) -> Extra:
    words = text.strip().split(".")
    loose = [_LOOSE.fullmatch(word) for word in words]
    tags = [
        dictionary.tag("".join(match.groups()) if match else word) for word, match in zip(words, loose, strict=True)
    ]
    path = tuple(tag for tag in tags if tag is not None and dictionary.keyword(tag))
    if len(path) != len(words) or len(path) > 2 or (len(path) == 2 and dictionary.vr(path[0]) != "SQ"):
        raise BadInput(
            f"'index.attributes': '{text}' is no attribute; give a keyword of PS3.6, SEQUENCE.KEYWORD, or for a private one"
            " GGGG,EEEE:CREATOR"
        )
    return Extra(".".join(map(dictionary.keyword, path)), path, dictionary.vr(tags[-1] or 0)[:2])


def _private(text: str) -> Extra:
    match = _PRIVATE.fullmatch(text.strip())
    group, element = (int(part, 16) for part in match.groups()[:2]) if match else (0, 0)
    if match is None or not group & 1 or group < 9 or element > 0xFFFF or 0 < element < 0x1000:
        raise BadInput(f"'index.attributes': '{text}' is no private attribute; one looks like 0009,1001:ACME 1.1")
    tag, creator = group << 16 | 0x1000 | element & 0xFF, match.group(3).strip()
    vr = dictionary.vr(tag, creator)
    return Extra(f"{group:04X},xx{element & 0xFF:02X}:{creator}", (tag,), "LO" if vr == "UN" else vr[:2], creator)


# ---------------------------------------------------------------- from a header


def _wanted(known: Iterable[Extra]) -> Wanted:
    """What a scan has to keep: of a private attribute every block that its creator may have reserved."""
    elements: dict[int, str] = {}
    sequences: dict[int, dict[int, str]] = {}
    for one in known:
        if one.creator:
            base, element = one.path[0] & 0xFFFF0000, one.path[0] & 0xFF
            for block in _BLOCKS:
                elements[base | block] = "LO"
                elements[base | block << 8 | element] = one.vr
        elif len(one.path) == 2:
            kept = sequences.setdefault(one.path[0], dict(WANTED.sequences.get(one.path[0], {})))
            kept[one.path[1]] = one.vr
        else:
            elements[one.path[0]] = one.vr
    return WANTED.also(elements, sequences) if elements or sequences else WANTED


def _values(scan: Scan, one: Extra) -> list[str]:
    found: list[str] = []
    for vr, raw, terms in _raw(scan, one):
        for value in _compared(raw, vr if vr not in ("UN", "") else one.vr, one.vr, terms, scan.big_endian):
            if value not in found and len(found) < VALUES_MAX:
                found.append(value)
    return found


def _raw(scan: Scan, one: Extra) -> list[tuple[str, bytes, tuple[str, ...]]]:
    """(VR, value, character set) wherever the header has it."""
    if one.creator:
        base, element = one.path[0] & 0xFFFF0000, one.path[0] & 0xFF
        blocks = [
            block
            for block in _BLOCKS
            if (named := scan.elements.get(base | block))
            and bytes(named[1]).decode("latin-1").strip(" \0") == one.creator
        ]
        held = (scan.elements.get(base | block << 8 | element) for block in blocks)
        return [(each[0], bytes(each[1]), scan.charset) for each in held if each]
    if len(one.path) == 2:
        items = scan.sequences.get(one.path[0], [])[:VALUES_MAX]
        found: list[tuple[str, bytes, tuple[str, ...]]] = []
        for item in items:
            each, own = item.get(one.path[1]), item.get(0x00080005)
            if each:
                found.append((each[0], bytes(each[1]), charset.terms(own[1]) if own else scan.charset))
        return found
    each = scan.elements.get(one.path[0])
    return [(each[0], bytes(each[1]), scan.charset)] if each else []


def _compared(raw: bytes, stored: str, vr: str, terms: tuple[str, ...], big: bool) -> list[str]:
    """The values of one element as they are compared. `stored`: the VR the bytes are in."""
    if stored in values.NUMBERS:
        texts = [str(number) for number in values.numbers(raw, stored, big) or ()]
    elif stored == "AT":
        texts = list(values.tags(raw, big) or ())
    elif stored in _NEVER:
        return []
    else:
        text = charset.decode(raw, terms, stored)
        texts = [text] if stored in values.SINGLE else text.split("\\")
    made = (value for text in texts for value in folded(text, vr))
    return [value[:TEXT_MAX] for value in made if value]


def folded(text: str, vr: str) -> list[str]:
    """A value as it is kept and compared; nothing for one that its VR does not allow."""
    text = text.strip(" \0")
    if vr == "PN":
        return sorted(name_keys(text))
    if vr == "DA":
        day = date(text)
        return [f"{day:08d}"] if day else []
    if vr == "TM":
        return [found] if (found := time(text)) else []
    if vr == "DT":
        moment = text.partition("+")[0]
        moment = moment[:4] + moment[4:].partition("-")[0]  # without the offset from UTC
        return [moment] if _DATE_TIME.fullmatch(moment) else []
    if vr in ("DS", "IS") or vr in values.NUMBERS:
        return [found] if (found := plain_number(text, single=vr == "FL")) else []
    cleaned = clean(text)
    return [cleaned] if cleaned else []


def plain_number(text: str, *, single: bool = False) -> str:
    """A number in one notation: '1.50' and '15e-1' are '1.5'; '' for what is none. `single`: of 32 bits, which hold 7 digits."""
    try:
        number = Decimal(text.strip())
        if not number.is_finite() or abs(number.adjusted()) > 60:
            return ""
        number = Decimal(f"{number:.7g}") if single else number
    except InvalidOperation:
        return ""
    plain = format(number.normalize(), "f")
    return "0" if plain in ("-0", "0") else plain


# ---------------------------------------------------------------- rows


def number_of(read: Reader, name: str) -> int | None:
    """How the rows call an attribute; None while no value of it was ever kept."""
    return codes.number_of(read, Code.EXTRA, 0, name)


def write(tx: Writer, found: Sequence[tuple[int, int, Sequence[tuple[str, str]]]]) -> None:
    """(tenant, instance row, its values); what is there already stays."""
    names = {name for _, _, pairs in found for name, _ in pairs}
    if not names:
        return
    numbers = codes.encode(tx, Code.EXTRA, 0, names)
    tx.run_many(
        "INSERT INTO extras(tenant_id, attribute, value, instance_id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(tenant_id, numbers[name], value, row_id) for tenant_id, row_id, pairs in found for name, value in pairs],
    )


@dataclass(frozen=True, slots=True)
class Fill:
    """How far an attribute is filled in: instance rows up to `done` of `last`."""

    name: str
    done: int
    last: int
    complete: bool

    @property
    def share(self) -> float:
        """0 to 1."""
        return 1.0 if self.complete or self.last <= 0 else min(self.done / self.last, 1.0)


def fills(read: Reader) -> list[Fill]:
    rows = read.all("SELECT attribute, done_row, last_row, state FROM extra_fills ORDER BY attribute")
    return [Fill(row[0], row[1], row[2], bool(row[3])) for row in rows]


def fill_of(read: Reader, name: str) -> Fill:
    row = read.one("SELECT done_row, last_row, state FROM extra_fills WHERE attribute = ?", (name,))
    return Fill(name, row[0], row[1], bool(row[2])) if row else Fill(name, 0, 1, False)


def to_fill(read: Reader, after: int, last: int, limit: int) -> list[tuple[int, int, Blob, Layout]]:
    """(tenant, instance row, its record, its layout) of the next rows, of every tenant."""
    rows = read.all(
        "SELECT id, tenant_id, segment_id, place_start, place_length, object_id, scope_id, wrapped_key, size, layout, syntax"
        " FROM instances WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
        (after, last, limit),
    )
    found: list[tuple[int, int, Blob, Layout]] = []
    for row_id, tenant_id, segment, start, length, object_id, scope, wrapped, size, layout, syntax in rows:
        place = Place(codes.segment_uid(read, segment), start, length)
        blob = Blob(
            place, bytes(object_id), tenant_uid(read, tenant_id), codes.scope(read, scope), bytes(wrapped), size
        )
        found.append((tenant_id, row_id, blob, unpack_layout(bytes(layout), codes.decode(read, syntax))))
    return found


def begin(tx: Writer, names: Sequence[str], now: int) -> None:
    """Note attributes that are new: what is held up to now has to be filled in."""
    row = tx.one("SELECT MAX(id) FROM instances")
    last = row[0] if row and row[0] else 0
    tx.run_many(
        "INSERT INTO extra_fills(attribute, done_row, last_row, state, at) VALUES (?, 0, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(name, last, int(last == 0), now) for name in names],
    )


def advance(tx: Writer, name: str, done: int, now: int) -> None:
    """Rows up to `done` are filled in. Never back: another node may be further."""
    tx.run(
        "UPDATE extra_fills SET done_row = ?, state = CASE WHEN ? >= last_row THEN 1 ELSE state END, at = ?"
        " WHERE attribute = ? AND done_row < ?",
        (done, done, now, name, done),
    )


def complete(tx: Writer, names: Sequence[str], now: int) -> None:
    """A rebuild has read every header: nothing is left to fill in."""
    begin(tx, names, now)
    tx.run_many(
        "UPDATE extra_fills SET done_row = last_row, state = 1, at = ? WHERE attribute = ?",
        [(now, name) for name in names],
    )


def forget(tx: Writer, name: str, limit: int) -> bool:
    """Drop up to `limit` values of an attribute that the setting no longer names; whether that was all."""
    number = number_of(tx, name)
    dropped = 0
    if number is not None:
        dropped = tx.run(
            "DELETE FROM extras WHERE (instance_id, attribute, value) IN"
            " (SELECT instance_id, attribute, value FROM extras WHERE attribute = ? LIMIT ?)",
            (number, limit),
        )
    if dropped < limit:
        tx.run("DELETE FROM extra_fills WHERE attribute = ?", (name,))
    return dropped < limit


NONE: Extras = Extras()
