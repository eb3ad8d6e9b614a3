"""The IHE Integration Statement: actors whose every required transaction the running tables can answer.

Owns: which transactions an actor needs (IHE RAD TF-1 to TF-3; WIA and WIC from their supplements) and what answers them. Must
never: claim an actor of which one required transaction is not served, or served in part: a query whose keys are not all matched
is not. Such an actor is listed with what it lacks; what is not in this table is not claimed at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from radiolith import __version__
from radiolith.conformance.declared import STORE, Declared, name
from radiolith.conformance.document import Section, Table
from radiolith.dimse import sopclasses
from radiolith.index.attributes import ATTRIBUTES, Matching
from radiolith.model import Level

Serves = Callable[[Declared], bool]


@dataclass(frozen=True, slots=True)
class Transaction:
    number: str  # 'RAD-107'
    title: str
    served: Serves
    asks: str = ""  # what of it is missing where the rest is there


@dataclass(frozen=True, slots=True)
class Actor:
    profile: str
    actor: str
    transactions: tuple[Transaction, ...]

    def implemented(self, declared: Declared) -> bool:
        return not self.lacks(declared)

    def lacks(self, declared: Declared) -> list[Transaction]:
        return [each for each in self.transactions if not each.served(declared)]


def _resource(*wanted: str) -> Serves:
    def served(declared: Declared) -> bool:
        return set(wanted) <= {f"{each['method']} {each['path']}" for each in declared.resources}

    return served


def _takes(*media_types: str) -> Serves:
    """A Store request of the Studies Service in each of these media types."""

    def served(declared: Declared) -> bool:
        stores = [each for each in declared.resources if each["method"] == "POST" and each["path"] in _STORES]
        return len(stores) == len(_STORES) and all(
            any(f'"{wanted}"' in given for given in each["consumes"]) for each in stores for wanted in media_types
        )

    return served


def _nothing(declared: Declared) -> bool:
    """What no part of the program does."""
    return False


def _stores(*keywords: str) -> Serves:
    """All storage classes with these words in their name, at least one for each."""

    def served(declared: Declared) -> bool:
        names = [name(uid) for uid in declared.classes(STORE)]
        return all(any(word in each for each in names) for word in keywords)

    return served


def _request(request: str) -> Serves:
    """A request of query/retrieve, in both information models that every archive has."""

    def served(declared: Declared) -> bool:
        wanted = {uid for model in sopclasses.QUERY_RETRIEVE for uid in model}
        classes = wanted & set(declared.classes(request))
        return len(classes) == len(sopclasses.QUERY_RETRIEVE)

    return served


def _query(*paths: tuple[int, ...]) -> Serves:
    """C-FIND that matches these attributes of an instance."""
    matched = {each.path for each in ATTRIBUTES if each.level is Level.INSTANCE and each.matching is not Matching.NONE}
    asked = _request("C-FIND")
    return lambda declared: asked(declared) and set(paths) <= matched


def _commits(declared: Declared) -> bool:
    return sopclasses.STORAGE_COMMITMENT in declared.classes("N-ACTION")


_STUDY, _SERIES, _INSTANCE = (
    "GET /studies/{study}",
    "GET /studies/{study}/series/{series}",
    "GET /studies/{study}/series/{series}/instances/{instance}",
)
_STORES = ("/studies", "/studies/{study}")
_COMMITMENT = Transaction("RAD-10", "Storage Commitment", _commits)
_DOCUMENT_TITLE = ((0x0040A043, 0x00080100), (0x0040A043, 0x00080102))
"""Code value and coding scheme of the Concept Name Code Sequence: what kind of document it is."""


def _documents(profile: str, store: Transaction, query: tuple[str, str], retrieve: tuple[str, str]) -> Actor:
    """A content profile of documents, which are queried by their title (RAD TF-2 4.30, 4.44, TF-3 4.64)."""
    wanted = (
        store,
        _COMMITMENT,
        Transaction(*query, _query(*_DOCUMENT_TITLE), "matching by Concept Name Code Sequence"),
        Transaction(*retrieve, _request("C-MOVE")),
    )
    return Actor(profile, "Image Manager/Image Archive", wanted)


ACTORS: tuple[Actor, ...] = (
    Actor("Web-based Image Access (WIA)", "Imaging Document Source", (
        Transaction("RAD-107", "WADO-RS Retrieve", _resource(
            *(each + end for each in (_STUDY, _SERIES, _INSTANCE) for end in ("", "/metadata", "/rendered")),
            _INSTANCE + "/frames/{frames}", _INSTANCE + "/frames/{frames}/rendered",
        )),
    )),
    Actor("Web-based Image Access (WIA)", "Imaging Document Responder", (
        Transaction("RAD-129", "QIDO-RS Query", _resource(
            "GET /studies", "GET /series", "GET /instances", _STUDY + "/series", _STUDY + "/instances", _SERIES + "/instances",
        )),
    )),
    Actor("Web-based Image Capture (WIC)", "Image Manager/Image Archive", (
        Transaction("RAD-108", "Store Instances Over the Web", _takes("application/dicom")),
        Transaction("RAD-108", "with metadata and bulk data", _takes("application/dicom+json", "application/dicom+xml")),
        # PS3.18 10.5: a client that sends JPEG or video may leave out rows, columns and the like.
        Transaction("RAD-108", "with the image described from its bulk data", _nothing),
    )),
    _documents(
        "Key Image Note (KIN)", Transaction("RAD-29", "Key Image Note Stored", _stores("Key Object")),
        ("RAD-30", "Query Key Image Notes"), ("RAD-31", "Retrieve Key Image Notes"),
    ),
    _documents(
        "Evidence Documents (ED)",
        Transaction("RAD-43", "Evidence Document Stored", _stores("Enhanced SR", "Comprehensive SR")),
        ("RAD-44", "Query Evidence Documents"), ("RAD-45", "Retrieve Evidence Documents"),
    ),
    _documents(
        "Radiation Exposure Monitoring (REM)",
        Transaction("RAD-62", "Store Dose Information", _stores("X-Ray Radiation Dose SR")),
        ("RAD-64", "Query Dose Information"), ("RAD-65", "Retrieve Dose Information"),
    ),
)  # fmt: skip


def integration_statement(declared: Declared) -> Section:
    """Profiles, actors and options as IHE has them; only what is there."""
    rows = [
        (each.profile, each.actor, "none", ", ".join(map(_named, each.transactions)))
        for each in ACTORS
        if each.implemented(declared)
    ]
    words = (
        "Generated by `radiolith conformance --integration-statement` from the tables the program runs on. An actor is"
        " named when every transaction it requires is answered; profiles that are not named are not claimed, among them those"
        " of IHE ITI (Audit Trail and Node Authentication, Consistent Time), nor any test at a Connectathon.",
        Table.of(f"Radiolith {__version__}", ("integration profile", "actor", "options", "by the transactions"), rows),
        *_not_claimed(declared),
        "The DICOM Conformance Statement is written by `radiolith conformance`.",
    )
    return Section(f"IHE Integration Statement of Radiolith {__version__}", words)


def _not_claimed(declared: Declared) -> list[Table]:
    """The other actors of the table, and what they lack."""
    rows: list[tuple[str, ...]] = []
    for each in ACTORS:
        lacks = each.lacks(declared)
        if lacks:
            served = ", ".join(_named(one) for one in each.transactions if one not in lacks) or "nothing"
            missing = ", ".join(_named(one) + (f" ({one.asks})" if one.asks else "") for one in lacks)
            rows.append((each.profile, each.actor, served, missing))
    columns = ("integration profile", "actor", "is served", "is missing")
    return [Table.of("Not claimed, as something is missing", columns, rows)] if rows else []


def _named(transaction: Transaction) -> str:
    return f"{transaction.number} {transaction.title}"
