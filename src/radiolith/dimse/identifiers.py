"""Identifiers of C-FIND, C-MOVE and C-GET: their bytes, and what they ask for (PS3.4 C.4.1 to C.4.3, C.6).

Owns: the rules of the information models and of extended negotiation. Must never: match anything itself. It reads strictly:
an identifier that is cut or broken is refused, since a key that was lost would make the answer larger. Refusals name the
element at fault, never a value.

Limits: IDENTIFIER_MAX bytes, KEYS_MAX keys, DEPTH_MAX levels of sequences, UIDS_MAX unique keys of one retrieval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from radiolith.archive.query import returns
from radiolith.dicom import charset as charsets
from radiolith.dicom import dictionary, syntax, values
from radiolith.dicom.element import ITEM, ITEM_END, SEQUENCE_END, header
from radiolith.dicom.inflate import Inflater
from radiolith.dicom.limits import LIMITS, UNDEFINED, Unparsable
from radiolith.dimse.infomodels import (
    BASELINE,
    CHARACTER_SET,
    ISSUER,
    LEVEL,
    LEVELS,
    NAMES,
    NOT_HELD,
    NOT_KEYS,
    PATIENT_ID,
    QUALIFIERS,
    STUDY_ROOT,
    UNIQUE,
    UNIVERSAL_ISSUER,
    Model,
    Negotiated,
)
from radiolith.dimse.status import Refused, Status
from radiolith.model import Level, LimitExceeded, Match, Query

IDENTIFIER_MAX = 1 << 20
"""Bytes: a list of 10,000 UIDs has 650 KB."""
KEYS_MAX = 1000
"""Keys and items of an identifier; the largest real ones have about 100."""
DEPTH_MAX = 8
"""Sequences inside sequences; keys of keys are two deep in the standard's models."""
CHARSET_BYTES = 256
"""Of a Specific Character Set; each term costs time with each value. Real ones have up to 5 of 16 bytes."""
UIDS_MAX = 20_000
"""Unique keys of one C-MOVE or C-GET."""

# ---------------------------------------------------------------- reading

Elements = dict[int, "Element"]


class Element(NamedTuple):
    """`value` is the raw value, or the items of a sequence."""

    vr: str
    value: bytes | list[Elements]
    big: bool


def read_elements(data: bytes, transfer_syntax: str) -> Elements:
    """An identifier's elements. Raises Refused (C001) for one that is broken or cut, LimitExceeded."""
    encoding = syntax.encoding(transfer_syntax)
    try:
        if encoding.deflated:
            data, encoding = _inflated(data), syntax.EXPLICIT
        if len(data) > IDENTIFIER_MAX:
            raise LimitExceeded(f"an identifier of more than {IDENTIFIER_MAX} bytes")
        return _Reader(data).elements(0, len(data), encoding)[0]
    except Unparsable as problem:
        raise Refused(Status.UNABLE_TO_PROCESS, f"identifier is not readable: {problem}") from problem


def _inflated(data: bytes) -> bytes:
    """All of it, or the beginning of what is too long."""
    out, inflater = bytearray(), Inflater(LIMITS)
    for piece in inflater.feed(data):
        out += piece
        if len(out) > IDENTIFIER_MAX:
            return bytes(out)
    inflater.finish()
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes):
        self._data = data
        self._count = 0

    def elements(
        self, at: int, stop: int, encoding: syntax.Encoding, depth: int = 0, open_end: bool = False
    ) -> tuple[Elements, int]:
        """The elements from `at` up to `stop`, or with `open_end` up to the delimiter, and where they end."""
        found: Elements = {}
        while at < stop:
            seen = header(self._data, at, stop, encoding)
            if seen is None:
                raise Unparsable("it ends inside an element")
            tag, vr, start, length = seen
            if tag == ITEM_END and open_end:
                return found, start
            if tag >> 16 == 0xFFFE:
                raise Unparsable("a delimiter where an element is expected")
            self._counted()
            inner = syntax.IMPLICIT if vr == "UN" else encoding  # PS3.5 6.2.2
            if vr in ("UN", ""):
                vr = _implied_vr(tag, found)
            end = stop if length == UNDEFINED else start + length
            if end > stop:
                raise Unparsable("it ends inside a value")
            if vr == "SQ" or length == UNDEFINED:
                items, at = self._items(start, end, inner, depth, length == UNDEFINED)
                found[tag] = Element("SQ", items, inner.big)
            else:
                at = end
                found[tag] = Element(vr, self._data[start:at], inner.big)
        if open_end:
            raise Unparsable("an item has no end")
        return found, at

    def _items(
        self, at: int, stop: int, encoding: syntax.Encoding, depth: int, open_end: bool
    ) -> tuple[list[Elements], int]:
        """The same for the items of a sequence."""
        if depth == DEPTH_MAX:
            raise LimitExceeded(f"more than {DEPTH_MAX} levels of sequences in an identifier")
        items: list[Elements] = []
        while at < stop or open_end:
            seen = header(self._data, at, stop, encoding._replace(implicit=True))
            if seen is None:
                raise Unparsable("it ends inside a sequence")
            tag, _, start, size = seen
            if tag == SEQUENCE_END and open_end:
                return items, start
            end = stop if size == UNDEFINED else start + size
            if tag != ITEM or end > stop:
                raise Unparsable("a sequence without items, or an item longer than its sequence")
            self._counted()
            item, at = self.elements(start, end, encoding, depth + 1, size == UNDEFINED)
            items.append(item)
        return items, at

    def _counted(self) -> None:
        self._count += 1
        if self._count > KEYS_MAX:
            raise LimitExceeded(f"more than {KEYS_MAX} keys in an identifier")


def _implied_vr(tag: int, beside: Elements) -> str:
    creator = ""
    if tag >> 16 & 1 and (named := beside.get(dictionary.creator_tag(tag))) and isinstance(named.value, bytes):
        creator = named.value.decode("latin-1").strip(" \0")
    return dictionary.vr(tag, creator)[:2]


def _texts(element: Element | None, charset: tuple[str, ...]) -> tuple[str, ...]:
    """The values of a key, () where there is none."""
    if element is None:
        return ()
    vr, raw, big = element
    if not raw or isinstance(raw, list):
        return ()
    if vr in values.NUMBERS:
        return tuple(str(number) for number in values.numbers(raw, vr, big) or ())
    if vr == "AT":
        return tuple(values.tags(raw, big) or ())
    return tuple(values.texts(raw, vr, charset))


def _charset(elements: Elements, outer: tuple[str, ...] = ()) -> tuple[str, ...]:
    own = elements.get(CHARACTER_SET)
    return charsets.terms(own.value[:CHARSET_BYTES]) if own and isinstance(own.value, bytes) else outer


def _level(elements: Elements, model: Model) -> Level:
    given = _texts(elements.get(LEVEL), ())
    if not given:
        raise Refused(Status.DOES_NOT_MATCH_SOP_CLASS, "Query/Retrieve Level is missing", LEVEL)
    level = LEVELS.get(given[0].upper())
    if level not in model or len(given) > 1:
        raise Refused(Status.DOES_NOT_MATCH_SOP_CLASS, "Query/Retrieve Level is none of this SOP class", LEVEL)
    return level


_WILD = frozenset('*?"')


def _above(elements: Elements, model: Model, level: Level, charset: tuple[str, ...], wanted: Model) -> None:
    """One single value for the unique key of each level of `wanted` above `level` (PS3.4 C.4.1.2.1, C.4.2.2.1)."""
    for upper in model[: model.index(level)]:
        given = _texts(elements.get(UNIQUE[upper]), charset)
        missing = upper in wanted and not given
        if missing or len(given) > 1 or any(not value or _WILD & set(value) for value in given):
            keyword = dictionary.keyword(UNIQUE[upper])
            raise Refused(
                Status.DOES_NOT_MATCH_SOP_CLASS,
                f"{keyword}: a single value is needed at level {NAMES[level]}",
                UNIQUE[upper],
            )


# ---------------------------------------------------------------- queries


class Key(NamedTuple):
    """A requested attribute: `inner` are the keys of a sequence's item, None or {} for all there are.

    `creator`: of a private one.
    """

    vr: str
    inner: Keys | None = None
    creator: str = ""


Keys = dict[int, Key]


@dataclass(frozen=True, slots=True)
class Asked:
    """A C-FIND as it was asked. `charset` is that of the identifier; `unsupported`: a key cannot be answered (FF01)."""

    query: Query
    keys: Keys
    charset: tuple[str, ...]
    unsupported: bool


def read_query(data: bytes, transfer_syntax: str, model: Model, negotiated: Negotiated = BASELINE) -> Asked:
    """What an identifier of a C-FIND asks for. Raises Refused (A900, C001), LimitExceeded."""
    elements = read_elements(data, transfer_syntax)
    charset = _charset(elements)
    level = _level(elements, model)
    if not negotiated.relational:
        _above(elements, model, level, charset, model)
    keys = _keys(elements)
    include = tuple(dict.fromkeys(path for tag in keys.keys() - NOT_HELD for path in _paths(keys, tag)))
    query = Query(
        level=level,
        matches=tuple(_matches(elements, charset)),
        include=include,
        fuzzy=negotiated.fuzzy,
        empty_values=negotiated.empty_values,
        multiple_values=True,  # where it was not negotiated there is no other meaning a list could have
        combined_times=negotiated.date_time,
    )
    unsupported = any(not returns(level, path) for path in include) or _ownerless(keys)
    return Asked(query, keys, charset, unsupported)


def _keys(elements: Elements) -> Keys:
    """The requested attributes: every one that is in the identifier."""
    keys: Keys = {}
    for tag, element in elements.items():
        if not tag & 0xFFFF:
            continue
        inner = None
        if isinstance(element.value, list):
            if len(element.value) > 1:
                raise Refused(Status.UNABLE_TO_PROCESS, "a sequence key has more than one item", tag)
            inner = _keys(element.value[0]) if element.value else {}
        keys[tag] = Key(element.vr, inner, _creator(tag, elements))
    return keys


def _creator(tag: int, beside: Elements) -> str:
    """Who reserved the block of a private key; '' of others."""
    if not tag >> 16 & 1 or dictionary.is_creator(tag):
        return ""
    return "".join(_texts(beside.get(dictionary.creator_tag(tag)), ()))


def _ownerless(keys: Keys) -> bool:
    return any(tag >> 16 & 1 and not dictionary.is_creator(tag) and not key.creator for tag, key in keys.items())


def _paths(keys: Keys, tag: int) -> list[tuple[int, ...]]:
    inner = keys[tag].inner
    return [(tag, below) for below in inner] if inner else [(tag,)]


def _matches(elements: Elements, charset: tuple[str, ...], path: tuple[int, ...] = ()) -> list[Match]:
    """The matching keys: those with a value. What is not text or number matches anything, as every value here does not."""
    found: list[Match] = []
    for tag, element in elements.items():
        if tag in NOT_KEYS or not tag & 0xFFFF or dictionary.is_creator(tag):
            continue
        if isinstance(element.value, list):
            for item in element.value:
                found += _matches(item, _charset(item, charset), (*path, tag))
        elif given := _texts(element, charset):
            found.append(Match((*path, tag), given, _creator(tag, elements)))
    return found


# ---------------------------------------------------------------- retrievals


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What a C-MOVE or C-GET names: unique keys; those above `level` have one value or, relational, none."""

    level: Level
    patient_id: str = ""
    issuer: str = ""
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    sops: tuple[str, ...] = ()


def read_retrieval(data: bytes, transfer_syntax: str, model: Model, negotiated: Negotiated = BASELINE) -> Retrieval:
    """What an identifier of a C-MOVE or C-GET names. Raises Refused (A900, C001), LimitExceeded.

    Other keys than unique ones are passed over. The Patient ID above other levels may be missing: UIDs are unique, and there
    are patients without one.
    """
    elements = read_elements(data, transfer_syntax)
    charset = _charset(elements)
    level = _level(elements, model)
    if not elements.get(PATIENT_ID, Element("LO", b"", False)).value and level is not Level.PATIENT:
        elements.pop(PATIENT_ID, None)
    _above(elements, model, level, charset, () if negotiated.relational else STUDY_ROOT)
    given = _texts(elements.get(UNIQUE[level]), charset)
    if not given or any(not value or _WILD & set(value) for value in given):
        keyword = dictionary.keyword(UNIQUE[level])
        raise Refused(Status.DOES_NOT_MATCH_SOP_CLASS, f"{keyword}: values without wildcards are needed", UNIQUE[level])
    if level is Level.PATIENT and len(given) > 1:
        raise Refused(Status.DOES_NOT_MATCH_SOP_CLASS, "PatientID: a single value is needed", PATIENT_ID)
    if len(given) > UIDS_MAX:
        raise LimitExceeded(f"more than {UIDS_MAX} UIDs in one retrieval")
    patient_id = "".join(_texts(elements.get(PATIENT_ID), charset))
    named = {
        upper: tuple(dict.fromkeys(_texts(elements.get(UNIQUE[upper]), charset)))
        for upper in model[: model.index(level) + 1]
    }
    return Retrieval(
        level,
        patient_id if Level.PATIENT in model else "",
        _issuer(elements, charset) if patient_id else "",
        *(named.get(upper, ()) for upper in STUDY_ROOT),
    )


def _issuer(elements: Elements, charset: tuple[str, ...]) -> str:
    """Issuer of Patient ID, by its name or else its universal id."""
    issuer = "".join(_texts(elements.get(ISSUER), charset)[:1])
    qualifiers = elements.get(QUALIFIERS)
    if not issuer and qualifiers and isinstance(qualifiers.value, list) and qualifiers.value:
        issuer = "".join(_texts(qualifiers.value[0].get(UNIVERSAL_ISSUER), charset)[:1])
    if _WILD & set(issuer):
        raise Refused(Status.DOES_NOT_MATCH_SOP_CLASS, "IssuerOfPatientID: a single value is needed", ISSUER)
    return issuer
