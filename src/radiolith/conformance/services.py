"""DIMSE services in the statement: the overview, and what holds for each service (PS3.2 N.1.2 and N.5.2).

Owns: the order and the words. Must never: say of a service what its table does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from radiolith.conformance.declared import STORE, Declared, name
from radiolith.conformance.document import Block, Section, Table
from radiolith.dicom import dictionary
from radiolith.dicom.notes import RESTORE, TITLES
from radiolith.dimse import infomodels
from radiolith.dimse.infomodels import Negotiated
from radiolith.index.attributes import ATTRIBUTES, LABEL_CREATOR, LABELS, Matching
from radiolith.model import Level

QUERIES = ("C-FIND", "C-MOVE", "C-GET")
_GROUPS: Mapping[str, str] = {"C-ECHO": "Verification", STORE: "Storage", **dict.fromkeys(QUERIES, "Query/Retrieve")}
_OTHER = "Workflow Management"
"""Of the services of DIMSE-N: storage commitment, instance availability, procedure steps."""
_YES = {True: "Y", False: "N"}

MATCHING: Mapping[Matching, str] = {
    Matching.UID: "single value, list of UIDs",
    Matching.TEXT: "single value, wildcard",
    Matching.NAME: "single value, wildcard; without regard to case and accents, by component, in every representation",
    Matching.IDENTIFIER: "single value, wildcard; all identifiers of the patient",
    Matching.DATE: "single value, range",
    Matching.TIME: "single value, range",
    Matching.NUMBER: "single value; a whole number",
    Matching.MODALITIES: "single value, wildcard; any series of the study",
    Matching.CLASSES: "single value; any series of the study",
    Matching.CODE: "single value",
    Matching.REQUEST: "sequence; single value, wildcard inside its items",
    Matching.ISSUER: "sequence; single value, wildcard inside its items",
    Matching.NONE: "returned only",
    Matching.LABEL: "single value, wildcard; `name` or `name=value`, the name without regard to case",
    Matching.EXTRA: "by the VR: single value, list of UIDs, wildcard, range of dates and times",
}


def group(request: str) -> str:
    return _GROUPS.get(request, _OTHER)


def overview(declared: Declared) -> Section:
    """N.1.2: every SOP class with the roles it is supported in, one table a group of services."""
    tables: list[Block] = []
    requests = declared.all_requests()
    for title in dict.fromkeys(sorted((group(each) for each in requests), key=_group_order)):
        rows = [row for each in requests if group(each) == title for row in _roles(declared, each)]
        tables.append(Table.of(f"{title} services", ("SOP class", "UID", "request", "SCU", "SCP"), rows))
    unknown = declared.offer.unknown
    if unknown is not None:
        tables.append(
            "Storage SOP classes that are in none of these tables (private ones, and those newer than this version) are"
            " accepted as SCP as well, in the same transfer syntaxes (setting `dimse.unknown_classes`)."
        )
    return Section("DIMSE services", tuple(tables))


def _group_order(title: str) -> int:
    return [*dict.fromkeys(_GROUPS.values()), _OTHER].index(title)


def _roles(declared: Declared, request: str) -> list[tuple[str, ...]]:
    user, provider = _played(declared, request)
    return [
        (name(uid), uid, request, _YES[uid in user], _YES[uid in provider]) for uid in dict.fromkeys(provider + user)
    ]


def _played(declared: Declared, request: str) -> tuple[list[str], list[str]]:
    """SOP classes as SCU and as SCP. Who is sent an N-EVENT-REPORT is the SCU (PS3.7 10.1.1)."""
    served, asked = declared.classes(request), declared.asked(request)
    if request == "N-EVENT-REPORT":
        return served, asked
    accepts = declared.offer.accepts
    turned = [uid for uid in served if request == STORE and accepts[uid].scu]  # by role selection, as in C-GET
    return list(dict.fromkeys(asked + turned)), served


# ---------------------------------------------------------------- each service


def mapping(declared: Declared) -> Section:
    """N.5.1."""
    rows: list[tuple[object, ...]] = []
    for request in declared.all_requests():
        user, provider = _played(declared, request)
        rows.append((request, group(request), len(user), len(provider)))
    columns = ("request", "service", "SOP classes as SCU", "SOP classes as SCP")
    return Section("Mapping of services to application entities", (Table.of("AE ARCHIVE", columns, rows),))


def described(declared: Declared) -> Section:
    """N.5.2."""
    sections = [_SECTIONS.get(request, _plain)(declared, request) for request in declared.all_requests()]
    return Section("DIMSE services", (), tuple(sections))


def _classes(declared: Declared, request: str) -> Table:
    return Table.of(
        f"SOP classes of {request}", ("SOP class", "UID", "request", "SCU", "SCP"), _roles(declared, request)
    )


def _plain(declared: Declared, request: str) -> Section:
    return Section(request, (_classes(declared, request),))


def _echo(declared: Declared, request: str) -> Section:
    return Section("Verification (C-ECHO)", ("Answered with 0000.", _classes(declared, request)))


def _store(declared: Declared, request: str) -> Section:
    count, titles = len(declared.classes(STORE)), ", ".join(TITLES)
    words = (
        f"{count} SOP classes with a name (table under 1.2), level 2 (full): all attributes are kept, private ones included.",
        "Status 0000 is sent when the object is encrypted and synced to disk and its index rows are committed, never"
        " before. The bytes received are the bytes kept, and a SHA-256 over the data set as transmitted is held. The same"
        " object sent again is answered 0000 and kept once; other content under a UID that is held is kept as a further"
        " version and answered 0000. No attribute is coerced. What cannot be read goes to the quarantine and is answered"
        " 0000, so that the sender does not repeat it for ever.",
        "B007 is sent where the data set has another SOP class or instance than the command; it is kept as what it says"
        " it is.",
    )
    notes = (
        f"Key Object Selection documents titled {titles} (CID 7011; IHE RAD-66, Rejection Note Stored) that come from a peer with"
        " the setting `rejects` take what they list out of all queries and retrievals; from anybody else they wait for a person."
        " What they list is hidden also when it comes later. As SCU, notes of what is rejected here are sent to peers that have"
        " got instances of the study from this archive (setting `notes` of the peer). The code"
        f" ({RESTORE[0]}, {RESTORE[1]}) takes a rejection back, in both directions."
    )
    return Section("Storage (C-STORE)", (*words, notes))


def _find(declared: Declared, request: str) -> Section:
    keys = [_key_table(level) for level in Level]
    blocks: list[Block] = [
        _classes(declared, request),
        Table.of("Levels", ("SOP class", "levels from the root down"), list(_levels(declared.classes(request)))),
        "Matching kinds: single value, list of UIDs, universal, wildcard (`*`, `?`), range of dates and times, sequence;"
        " empty value and multiple values where they are negotiated. An attribute that no table names is read from the"
        " stored header when it is asked for as a return key; as a matching key it is answered with status FF01.",
        *_extended(declared, request),
        *keys,
        _labels(),
        "Labels are what people say of patients, studies and series in the archive; no stored object has them. They are"
        f" matched and returned in a private block: (7777,0010) holds `{LABEL_CREATOR}`, the labels are the values of the"
        " elements above it.",
        "Further attributes become matching keys by the setting `index.attributes`, private ones with their creator among"
        " them, at the level of the instance: "
        f"{MATCHING[Matching.EXTRA]}. Until all that is held has been read for such an attribute, answers have status FF01.",
    ]
    return Section("Query (C-FIND)", tuple(blocks))


def _labels() -> Table:
    rows = [
        (
            one.keyword,
            f"({one.path[0] >> 16:04X},{one.path[0] & 0xFFFF:04X})",
            one.vr,
            infomodels.NAMES[one.level],
            MATCHING[one.matching],
        )
        for one in LABELS
    ]
    return Table.of("Keys for labels", ("attribute", "tag", "VR", "level", "matching"), rows)


def _retrieve(declared: Declared, request: str) -> Section:
    words = (
        "Sub-operations go out in the stored transfer syntax where the receiver accepts it, else transcoded."
        if request == "C-MOVE"
        else "The sub-operations come on the same association, for which the requestor proposes the storage classes with"
        " the SCP role (PS3.7 D.3.3.4)."
    )
    levels = list(_levels(declared.classes(request)))
    blocks: list[Block] = [words, _classes(declared, request)]
    if levels:
        blocks.append(Table.of("Levels", ("SOP class", "levels from the root down"), levels))
    return Section(f"Retrieve ({request})", (*blocks, *_extended(declared, request)))


def _levels(classes: Iterable[str]) -> Iterable[tuple[str, str]]:
    for uid in classes:
        model = infomodels.MODELS.get(uid)
        if model:
            yield name(uid), ", ".join(infomodels.NAMES[level] for level in model)


def _extended(declared: Declared, request: str) -> list[Block]:
    """What is agreed to in SOP class extended negotiation, asked of the very function that answers."""
    fields = Negotiated._fields if request == "C-FIND" else ("relational", "multi_frame")
    rows: list[tuple[str, ...]] = []
    for uid in declared.classes(request):
        answer = declared.offer.accepts[uid].extended
        given = (answer(b"\1" * len(fields)) if answer else None) or b""
        agreed = [field.replace("_", " ") for field, byte in zip(fields, given, strict=False) if byte == 1]
        rows.append((name(uid), ", ".join(agreed) or "none"))
    return [Table.of("SOP class extended negotiation", ("SOP class", "options agreed to"), rows)] if rows else []


def _key_table(level: Level) -> Table:
    rows: list[tuple[str, ...]] = []
    for attribute in ATTRIBUTES:
        if attribute.level is level:
            keyword = ".".join(
                [dictionary.keyword(attribute.path[0]) or "", attribute.keyword][2 - len(attribute.path) :]
            )
            tags = ".".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in attribute.path)
            unique = attribute.path == (infomodels.UNIQUE[level],)
            kind = "unique" if unique else "returned unasked" if attribute.default else "on demand"
            rows.append((keyword, tags, attribute.vr, kind, MATCHING[attribute.matching]))
    columns = ("attribute", "tag", "VR", "key", "matching")
    return Table.of(f"Keys of the {infomodels.NAMES[level]} level", columns, rows)


_SECTIONS = {"C-ECHO": _echo, STORE: _store, "C-FIND": _find, "C-MOVE": _retrieve, "C-GET": _retrieve}
