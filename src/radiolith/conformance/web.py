"""DICOMweb in the statement: resources, media types, parameters, statuses (PS3.2 N.1.3, N.5.3, N.7.3.3).

Owns: the words. Must never: name a resource: `dicomweb.capabilities` has them from the table of routes.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from radiolith import httpstatus
from radiolith.conformance.declared import Declared
from radiolith.conformance.document import Section, Table
from radiolith.dicomweb import qido, status
from radiolith.model import Failure

_SERVICES = (
    ("wado", "URI Web Service (PS3.18 chapter 9)"),
    ("commitment-requests", "Storage Commitment Web Service (PS3.18 chapter 13)"),
    ("studies", "Studies Web Service (PS3.18 chapter 10)"),
    ("series", "Studies Web Service (PS3.18 chapter 10)"),
    ("instances", "Studies Web Service (PS3.18 chapter 10)"),
    ("rejected", "Searches for rejected objects (not of the standard)"),
    ("capabilities", "Capabilities (PS3.18 8.9)"),
    ("", "Capabilities (PS3.18 8.9)"),
)
_OTHER = "Non-Patient Instance Web Service (PS3.18 chapter 12)"


def service_of(path: str) -> str:
    """Which service of PS3.18 a resource belongs to, by the first segment of its path."""
    first = path.strip("/").partition("/")[0]
    return dict(_SERVICES).get(first, _OTHER)


def overview(declared: Declared) -> Section:
    """N.1.3."""
    found: dict[str, set[str]] = {}
    for resource in declared.resources:
        found.setdefault(service_of(resource["path"]), set()).add(str(resource["method"]))
    rows = [(service, "N", "Y", ", ".join(sorted(methods))) for service, methods in found.items()]
    return Section(
        "DICOM Web Services", (Table.of("Web services", ("service", "User Agent", "Origin Server", "methods"), rows),)
    )


def described(declared: Declared) -> Section:
    """N.5.3."""
    groups: dict[str, list[Any]] = {}
    for resource in declared.resources:
        groups.setdefault(service_of(resource["path"]), []).append(resource)
    sections = tuple(Section(title, (_resources(title, found),)) for title, found in groups.items())
    words = (
        "The root is `/dicom-web`. The same list is answered there and under `/capabilities`, as JSON, WADL and OpenAPI."
        " Every GET also answers HEAD, every resource OPTIONS. Objects, frames and bulk data are given in the stored"
        " transfer syntax unless `transfer-syntax` or the media type asks for another one.",
        f"Searches match and return what C-FIND does (5.2). At most {declared.settings.limits.results} results in an"
        f" answer (setting `limits.results`), `offset` to {qido.OFFSET_MAX}, beyond that by the link to the next page;"
        f" {qido.UIDS_MAX} values of a UID list, {qido.INCLUDE_MAX} attributes of `includefield`.",
    )
    return Section("DICOM Web Services", words, sections)


def _resources(title: str, resources: list[Any]) -> Table:
    rows = [
        (
            f"`{each['method']} {each['path']}`",
            each["transaction"],
            ", ".join(f"`{media}`" for media in each["accept"]),
            ", ".join(f"`{media}`" for media in each.get("consumes", ())),
            ", ".join(each.get("parameters", ())),
        )
        for each in resources
    ]
    return Table.of(title, ("resource", "transaction", "answers as", "takes", "parameters"), rows)


def statuses() -> Section:
    """N.7.3.3."""
    rows = [(f"{code} {HTTPStatus(code).phrase}", _words(kind)) for kind, code in (*httpstatus.STATUS, *status.OWN)]
    rows.sort()
    reasons = [(f"{reason:04X}", _words(kind)) for kind, reason in status.REASONS]
    reasons += [
        (f"{status.PROCESSING_FAILURE:04X}", "Anything else."),
        (f"{status.STUDY_MISMATCH:04X}", "The Study Instance UID is not the one of the target resource."),
        (f"{status.QUARANTINED:04X}", "Kept in quarantine: not readable, or without identity."),
    ]
    return Section(
        "DICOM Web Services",
        (
            "Every failure has a document `application/problem+json` (RFC 9457) with a sentence and a number under which"
            " the log has more.",
            Table.of("HTTP status codes of failures", ("status", "meaning"), rows),
            Table.of("Failure Reason (0008,1197) in the answer to a store", ("reason", "meaning"), reasons),
        ),
    )


def _words(kind: type[Failure]) -> str:
    return (kind.__doc__ or kind.__name__).split("\n")[0].partition(" (4")[0].rstrip(".") + "."
