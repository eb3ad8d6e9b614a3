"""What became of each object of a Store request, as the Store Instances Response (PS3.18 annex I) and its status.

Owns: the response document and the choice of 200, 202, 400, 409, 413, 415, 503 or 507 (10.5.3). Must never: report as
stored what has no receipt.

Referenced SOP Sequence names what is held now, with Warning Reason B001 where it became a further version. Failed SOP
Sequence names what was refused (where its metadata or its own bytes had told who it is before), Other Failures Sequence
lists what could not be named. What went to quarantine is among
the latter, with reason C001 and the quarantine id in Error Comment (0000,0902): its bytes are kept, hence 202.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.dicom.naming import name_of
from radiolith.dicom.reader import Scan, text
from radiolith.dicomweb import status
from radiolith.dicomweb.accept import Choice
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.respond import Answer
from radiolith.dicomweb.rows import NON_PATIENT, object_path, rows_json, rows_xml
from radiolith.dicomweb.status import UnsupportedMedia
from radiolith.model import (
    BadInput,
    Conflict,
    Failure,
    Level,
    LimitExceeded,
    NoSpace,
    Outcome,
    Receipt,
    Row,
    Unavailable,
)

COMMENT_MAX = 64  # characters of an LO


@dataclass(frozen=True, slots=True)
class Named:
    """Who an object says it is."""

    study: str
    sop_class: str
    sop: str


class Misplaced(Conflict):
    """The object does not belong under the target URL, and says so itself."""

    def __init__(self, message: str, named: Named):
        super().__init__(message)
        self.named = named


class StudyMismatch(Misplaced):
    """The object belongs to another study than the one in the URL (PS3.18 10.5.1)."""

    def __init__(self, named: Named):
        super().__init__("the Study Instance UID is not the one of the target URL", named)


def mismatch(named: Named, study: str, category: str | None, sop: str) -> Misplaced | None:
    """What is wrong with an object sent to a study, or to a category of non-patient instances (PS3.18 12.5.1.1)."""
    if study:
        return StudyMismatch(named) if named.study and named.study != study else None
    if category is not None and named.sop_class not in NON_PATIENT[category]:
        return Misplaced("the SOP Class is none of the category of the target URL", named)
    return (
        Misplaced("the SOP Instance UID is not the one of the target URL", named)
        if sop not in ("", named.sop)
        else None
    )


def identity_of(scan: Scan) -> Named:
    return Named(text(scan, 0x0020000D), text(scan, 0x00080016), text(scan, 0x00080018))


class Outcomes:
    """Collected as receipts and failures come in, in any order."""

    def __init__(self, study: str = ""):
        self._study = study
        self._receipts: list[Receipt] = []
        self._failures: list[Failure] = []
        self._names: list[Named | None] = []  # of the failures, in the same order
        self.broken: Failure | None = None

    def take(self, receipt: Receipt) -> None:
        self._receipts.append(receipt)

    def fail(self, failure: Failure, named: Named | None = None) -> None:
        """`named`: who the object said it is, where that is known."""
        self._failures.append(failure)
        self._names.append(failure.named if isinstance(failure, Misplaced) else named)

    @property
    def kept(self) -> bool:
        return bool(self._receipts)

    def status(self) -> int:
        """PS3.18 table 10.5.3-1. Raises BadInput for a request without any object."""
        if self.broken is not None:
            return 400
        whole = all(receipt.outcome not in _WITH_WARNING for receipt in self._receipts)
        if self._receipts:
            return 200 if whole and not self._failures else 202
        if not self._failures:
            raise BadInput("the request holds no object")
        return self._refused()

    def _refused(self) -> int:
        for kind, code in ((NoSpace, 507), (Unavailable, 503)):
            if any(isinstance(failure, kind) for failure in self._failures):
                return code
        for kind, code in ((UnsupportedMedia, 415), (LimitExceeded, 413), (BadInput, 400)):
            if all(isinstance(failure, kind) for failure in self._failures):
                return code
        return 409

    def reply(self, call: Call, wish: Choice) -> Answer:
        code = self.status()
        headers = call.warning_headers()
        headers += [header for failure in self._failures if code == 503 for header in status.headers(failure)][:1]
        row = self.document(call.service)
        if wish.media == "application/dicom+xml":
            return Answer(rows_xml(row, Level.PATIENT, ""), wish.media, status=code, headers=headers)
        return Answer(rows_json([row], Level.PATIENT, "")[1:-1], wish.media, status=code, headers=headers)

    def document(self, service: str) -> Row:
        """The Store Instances Response."""
        stored = [receipt for receipt in self._receipts if receipt.identity is not None]
        row: Row = {}
        studies = {receipt.identity.study for receipt in stored if receipt.identity is not None}
        if self._study or (len(studies) == 1 and all(studies)):
            row[0x00081190] = ("UR", f"{service}/studies/{name_of(self._study or studies.pop())}")
        failures = list(zip(self._failures, self._names, strict=True))
        failed = [_failed(failure, named) for failure, named in failures if named is not None]
        if failed:
            row[0x00081198] = ("SQ", failed)
        if stored:
            row[0x00081199] = ("SQ", [_referenced(receipt, service) for receipt in stored])
        others = [_quarantined(receipt) for receipt in self._receipts if receipt.identity is None]
        others += [_other(failure) for failure, named in failures if named is None]
        if self.broken is not None:
            others.append(_other(self.broken))
        if others:
            row[0x0008119A] = ("SQ", others)
        return row


_WITH_WARNING = (Outcome.VERSION, Outcome.QUARANTINED)


def _referenced(receipt: Receipt, service: str) -> Row:
    identity = receipt.identity
    if identity is None:
        raise TypeError("an object in quarantine has no identity to refer to")
    row: Row = {0x00081150: ("UI", receipt.sop_class), 0x00081155: ("UI", identity.sop)}
    if path := object_path(identity, receipt.sop_class):
        row[0x00081190] = ("UR", service + path)
    if receipt.outcome is Outcome.VERSION:
        row[0x00081196] = ("US", status.VERSION_KEPT)
        row[0x00000902] = ("LO", _comment(receipt.reason))
    return row


def _failed(failure: Failure, named: Named) -> Row:
    reason = status.STUDY_MISMATCH if isinstance(failure, StudyMismatch) else status.reason(failure)
    return {
        0x00081150: ("UI", named.sop_class),
        0x00081155: ("UI", named.sop),
        0x00081197: ("US", reason),
        0x00000902: ("LO", _comment(str(failure))),
    }


def _quarantined(receipt: Receipt) -> Row:
    comment = f"quarantine {receipt.object_id.hex()}\\{_comment(receipt.reason)}"
    return {0x00081197: ("US", status.QUARANTINED), 0x00000902: ("LO", comment)}


def _other(failure: Failure) -> Row:
    return {0x00081197: ("US", status.reason(failure)), 0x00000902: ("LO", _comment(str(failure)))}


def _comment(text: str) -> str:
    return text.replace("\\", "/")[:COMMENT_MAX]
