"""Command sets: group 0000 in implicit VR little endian (PS3.7 6.3, chapters 9 and 10, annex E).

Owns: the table of the DIMSE commands with their fields, and the bytes of a command set both ways. Must never: know what a
service does with a command. Elements that no command of the standard has are skipped, empty ones are as if absent; only
what a message cannot be answered without is insisted on, the rest is said by `Command.missing`.

Limits: COMMAND_MAX.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import error, pack, unpack, unpack_from
from typing import NamedTuple

from radiolith.dicom import dictionary
from radiolith.dimse.items import USER, ProtocolError

COMMAND_MAX = 64 * 1024
"""Bytes of a command set. Real ones have 100 to 300; N-GET lists attributes at 4 bytes each."""

NO_DATA_SET = 0x0101
"""Command Data Set Type of a message without data set (PS3.7 annex E.1)."""
RESPONSE = 0x8000
"""The bit of a Command Field that says response."""


class Spec(NamedTuple):
    """One row of the tables of PS3.7 9.3 and 10.3."""

    name: str
    mandatory: tuple[str, ...]
    optional: tuple[str, ...]


_ID, _TO, _STATUS = "MessageID", "MessageIDBeingRespondedTo", "Status"
_CLASS, _INSTANCE = "AffectedSOPClassUID", "AffectedSOPInstanceUID"
_ON_CLASS, _ON_INSTANCE = "RequestedSOPClassUID", "RequestedSOPInstanceUID"
_PRIORITY = "Priority"
_TROUBLE = ("ErrorComment", "OffendingElement", "ErrorID", "AttributeIdentifierList")
_COUNTS = (
    "NumberOfRemainingSuboperations",
    "NumberOfCompletedSuboperations",
    "NumberOfFailedSuboperations",
    "NumberOfWarningSuboperations",
)


def _response(name: str, *fields: str) -> Spec:
    return Spec(name, (_TO, _STATUS), (*fields, *_TROUBLE))


COMMANDS: dict[int, Spec] = {
    0x0001: Spec(
        "C-STORE-RQ",
        (_CLASS, _ID, _INSTANCE),
        (_PRIORITY, "MoveOriginatorApplicationEntityTitle", "MoveOriginatorMessageID"),
    ),
    0x8001: _response("C-STORE-RSP", _CLASS, _INSTANCE),
    0x0010: Spec("C-GET-RQ", (_CLASS, _ID), (_PRIORITY,)),
    0x8010: _response("C-GET-RSP", _CLASS, *_COUNTS),
    0x0020: Spec("C-FIND-RQ", (_CLASS, _ID), (_PRIORITY,)),
    0x8020: _response("C-FIND-RSP", _CLASS),
    0x0021: Spec("C-MOVE-RQ", (_CLASS, _ID), (_PRIORITY, "MoveDestination")),
    0x8021: _response("C-MOVE-RSP", _CLASS, *_COUNTS),
    0x0030: Spec("C-ECHO-RQ", (_ID,), (_CLASS,)),
    0x8030: _response("C-ECHO-RSP", _CLASS),
    0x0100: Spec("N-EVENT-REPORT-RQ", (_CLASS, _ID, "EventTypeID"), (_INSTANCE,)),
    0x8100: _response("N-EVENT-REPORT-RSP", _CLASS, _INSTANCE, "EventTypeID"),
    0x0110: Spec("N-GET-RQ", (_ON_CLASS, _ID, _ON_INSTANCE), ("AttributeIdentifierList",)),
    0x8110: _response("N-GET-RSP", _CLASS, _INSTANCE),
    0x0120: Spec("N-SET-RQ", (_ON_CLASS, _ID, _ON_INSTANCE), ()),
    0x8120: _response("N-SET-RSP", _CLASS, _INSTANCE),
    0x0130: Spec("N-ACTION-RQ", (_ON_CLASS, _ID, _ON_INSTANCE, "ActionTypeID"), ()),
    0x8130: _response("N-ACTION-RSP", _CLASS, _INSTANCE, "ActionTypeID"),
    0x0140: Spec("N-CREATE-RQ", (_CLASS, _ID), (_INSTANCE,)),
    0x8140: _response("N-CREATE-RSP", _CLASS, _INSTANCE),
    0x0150: Spec("N-DELETE-RQ", (_ON_CLASS, _ID, _ON_INSTANCE), ()),
    0x8150: _response("N-DELETE-RSP", _CLASS, _INSTANCE),
    0x0FFF: Spec("C-CANCEL-RQ", (_TO,), ()),
}
"""Command Field -> its row."""

FIELD = {spec.name: number for number, spec in COMMANDS.items()}
"""'C-ECHO-RQ' -> 0x0030."""

_KEYWORDS = dict.fromkeys(
    keyword for spec in COMMANDS.values() for keyword in (*spec.mandatory, *spec.optional)
) | dict.fromkeys(("CommandField", "CommandDataSetType"))
_TAGS = {keyword: tag for keyword in _KEYWORDS if (tag := dictionary.tag(keyword)) is not None}
_FIELDS = {tag: (keyword, dictionary.VR[tag]) for keyword, tag in sorted(_TAGS.items(), key=lambda row: row[1])}

Plain = int | str | tuple[int, ...]
"""US and UL are int, AT is a tuple of tags, everything else is text without padding."""


class Command(Mapping[str, Plain]):
    """A command set: keyword -> value, without group length, Command Field and Command Data Set Type.

    `field` is the Command Field, `has_data_set` whether a data set follows. Made with `Command.of`, or read.
    """

    __slots__ = ("_values", "field", "has_data_set")

    def __init__(self, field: int, values: Mapping[str, Plain], has_data_set: bool):
        self.field = field
        self._values = dict(values)
        self.has_data_set = has_data_set

    @classmethod
    def of(cls, name: str, has_data_set: bool = False, **values: Plain) -> Command:
        """A command by its name, as in `Command.of("C-ECHO-RQ", MessageID=1, AffectedSOPClassUID=VERIFICATION)`."""
        return cls(FIELD[name], values, has_data_set)

    def answer(self, status: int, has_data_set: bool = False, **values: Plain) -> Command:
        """The response to this request: ids, SOP class and instance taken over, other fields as given."""
        spec = COMMANDS[self.field | RESPONSE]
        taken: dict[str, Plain] = {_TO: self.message_id, _STATUS: status}
        for to, sources in ((_CLASS, (_CLASS, _ON_CLASS)), (_INSTANCE, (_INSTANCE, _ON_INSTANCE))):
            found = next((self._values[source] for source in sources if source in self._values), None)
            if found is not None and to in spec.optional:
                taken[to] = found
        return Command(self.field | RESPONSE, taken | values, has_data_set)

    def __getitem__(self, keyword: str) -> Plain:
        return self._values[keyword]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Command):
            return NotImplemented
        mine = (self.field, self.has_data_set, self._values)
        return mine == (other.field, other.has_data_set, other._values)

    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        """Name and message id; never values, which may be about a patient."""
        return f"<{self.name} {self.message_id}>"

    @property
    def name(self) -> str:
        """'C-STORE-RQ'."""
        return COMMANDS[self.field].name

    @property
    def is_response(self) -> bool:
        return bool(self.field & RESPONSE)

    @property
    def message_id(self) -> int:
        """Message ID of a request, Message ID Being Responded To of a response and of C-CANCEL."""
        return self.number(self.id_keyword)

    @property
    def id_keyword(self) -> str:
        """The keyword of `message_id`."""
        return _TO if self.is_response or self.field == FIELD["C-CANCEL-RQ"] else _ID

    @property
    def missing(self) -> list[str]:
        """Keywords of mandatory fields that are absent: the service answers with a status for that (PS3.7 annex C)."""
        return [keyword for keyword in COMMANDS[self.field].mandatory if keyword not in self._values]

    @property
    def status(self) -> int:
        return self.number(_STATUS)

    @property
    def sop_class(self) -> str:
        """Affected or Requested SOP Class UID, '' where the command has none."""
        return self.text(_CLASS) or self.text(_ON_CLASS)

    @property
    def sop_instance(self) -> str:
        """Affected or Requested SOP Instance UID, '' where the command has none."""
        return self.text(_INSTANCE) or self.text(_ON_INSTANCE)

    def number(self, keyword: str, default: int = 0) -> int:
        """A number; `default` when it is absent."""
        value = self._values.get(keyword, default)
        return value if isinstance(value, int) else default

    def text(self, keyword: str) -> str:
        """A text; '' when it is absent."""
        value = self._values.get(keyword, "")
        return value if isinstance(value, str) else ""


def encode_command(command: Command) -> bytes:
    """The command set with its group length; ValueError for a keyword or value that has no place in it."""
    values: dict[str, Plain] = {
        **command,
        "CommandField": command.field,
        "CommandDataSetType": 0 if command.has_data_set else NO_DATA_SET,
    }
    unknown = values.keys() - _TAGS.keys()
    if unknown:
        raise ValueError(f"no field of a command: {', '.join(sorted(unknown))}")
    parts: list[bytes] = []
    for tag, (keyword, vr) in _FIELDS.items():
        if keyword in values:
            value = _value_bytes(values[keyword], vr)
            parts.append(pack("<HHI", 0, tag, len(value)) + value)
    body = b"".join(parts)
    return pack("<HHII", 0, 0, 4, len(body)) + body


def _value_bytes(value: Plain, vr: str) -> bytes:
    try:
        if isinstance(value, int):
            return pack("<I" if vr == "UL" else "<H", value)
        if isinstance(value, tuple):
            return b"".join(pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
    except error as problem:
        raise ValueError(f"{value} does not fit into a {vr}") from problem
    text = value.encode("latin-1", "replace")
    return text + (b"\0" if vr == "UI" else b" ") * (len(text) % 2)


def decode_command(body: bytes) -> Command:
    """A command set as received; ProtocolError when it is none, or one that cannot be answered.

    A wrong or missing group length is tolerated: the length of the message says the same.
    """
    field, data_set = None, None
    values: dict[str, Plain] = {}
    for tag, value in _elements(body):
        keyword, vr = _FIELDS.get(tag, ("", ""))
        if not keyword or not value:
            continue
        plain = _plain(value, vr, keyword)
        if keyword == "CommandField":
            field = plain
        elif keyword == "CommandDataSetType":
            data_set = plain
        else:
            values[keyword] = plain
    spec = COMMANDS.get(field) if isinstance(field, int) else None
    if spec is None or not isinstance(field, int):
        raise _refused("a command set without a known Command Field")
    command = Command(field, values, data_set != NO_DATA_SET)
    needed = (command.id_keyword, _STATUS) if command.is_response else (command.id_keyword,)
    absent = [keyword for keyword in needed if keyword not in values]
    if data_set is None:
        absent.append("CommandDataSetType")
    if absent:
        raise _refused(f"a {spec.name} without {', '.join(absent)}")
    return command


def _elements(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        if len(body) - at < 8:
            raise _refused(f"{len(body) - at} bytes behind the last element of a command set")
        group, element, length = unpack_from("<HHI", body, at)
        at += 8
        if group or length > len(body) - at:
            raise _refused(f"an element ({group:04X},{element:04X}) of {length} bytes in a command set")
        yield element, body[at : at + length]
        at += length


def _plain(value: bytes, vr: str, keyword: str) -> Plain:
    if vr in ("US", "UL"):
        if len(value) != (2 if vr == "US" else 4):
            raise _refused(f"{keyword} of {len(value)} bytes")
        return int.from_bytes(value, "little")
    if vr == "AT":
        if len(value) % 4:
            raise _refused(f"{keyword} of {len(value)} bytes")
        numbers = unpack(f"<{len(value) // 2}H", value)
        return tuple(group << 16 | element for group, element in zip(numbers[::2], numbers[1::2], strict=True))
    return value.decode("latin-1").strip("\0 ")


def _refused(text: str) -> ProtocolError:
    """What PS3.7 does not allow is for the service user to abort: the transport of it was right."""
    return ProtocolError(text, source=USER)
