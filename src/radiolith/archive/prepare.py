"""From received bytes to tasks for the commit: scan, hash, describe, encrypt.

Owns: the decision what an object is (an instance, a non-patient object, or something for the quarantine). Runs on worker
threads; pure but for the draft it fills. Must never: look at the index or at a principal's rights.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from radiolith.archive import meta
from radiolith.archive.tasks import ObjectTask, QuarantineTask
from radiolith.dicom.reader import ENDLESS, Scan, Scanner, Unparsable, scan
from radiolith.index.extras import NONE, Extras
from radiolith.index.quarantine import Quarantined
from radiolith.model import (
    Blob,
    Description,
    Identity,
    Incoming,
    Kind,
    Layout,
    LimitExceeded,
    Place,
    Principal,
    Scope,
    Source,
)
from radiolith.storage.blobs import Draft, Log
from radiolith.trust.keys import NONPATIENT, QUARANTINE, STUDY

_ROOT = "1.2.840.10008.5.1.4."
NON_PATIENT = frozenset(
    _ROOT + tail
    for tail in ("1.1.200.1", "1.1.200.3", "1.1.200.7", "1.1.201.1", "38.1", "39.1", "43.1", "44.1", "45.1")
)
"""SOP classes of the Non-Patient Object Storage service (PS3.4 GG.3): they belong to no study."""

UID_MAX = 128  # characters: twice what the standard allows
_NOWHERE = Blob(Place(b"", 0, 0), b"", b"", Scope(b"", 0), b"", 0)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One object, encrypted in its draft. identity None: for the quarantine, for `reason`."""

    draft: Draft
    identity: Identity | None
    sop_class: str
    sha256: bytes
    size: int
    layout: Layout | None
    description: Description | None
    reason: str = ""
    guess: dict[str, str] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """A prepared object and the circumstances of its reception."""

    prepared: Prepared
    principal: Principal
    source: Source
    at: int
    policy: str
    domain: str = ""  # whose patient IDs the sender uses, where the header does not say


def whole(
    store: Log, tenant: bytes, data: memoryview, syntax: str | None, aside: str = "", also: Extras = NONE
) -> Prepared:
    """An object held in one buffer: the way of nearly all. aside: why it goes to the quarantine whatever it is; also: attributes
    searchable beside the table's."""
    draft: Draft | None = None
    try:
        try:
            found, reason = scan(data, transfer_syntax=syntax, wanted=also.wanted), ""
        except (Unparsable, LimitExceeded) as failure:
            found, reason = None, str(failure)
        identity, reason, guess = _set_aside(found, syntax, aside) if aside else _identify(found, reason)
        draft = store.begin(tenant, Kind.OBJECT if identity else Kind.QUARANTINE)
        draft.write(data)
        if found is None or identity is None:
            return Prepared(
                draft, None, _class(found), hashlib.sha256(data).digest(), len(data), None, None, reason, guess
            )
        layout = _with_table(draft, found, len(data))
        digest = hashlib.sha256(data[layout.dataset_start : layout.dataset_end]).digest()
        return Prepared(
            draft,
            identity,
            _class(found),
            digest,
            len(data),
            layout,
            also.describe(found),
            warnings=tuple(found.warnings),
        )
    except BaseException:
        if draft is not None:
            draft.discard()
        raise


class Flow:
    """An object larger than one buffer, passing through."""

    def __init__(self, store: Log, tenant: bytes, syntax: str | None, aside: str = "", also: Extras = NONE):
        self._draft = store.begin(tenant, Kind.OBJECT)
        self._syntax, self._aside, self._also = syntax, aside, also
        self._scanner: Scanner | None = Scanner(transfer_syntax=syntax, wanted=also.wanted)
        self._reason = ""
        self._whole, self._dataset = hashlib.sha256(), _DatasetHash()
        self._size = 0

    def feed(self, data: memoryview) -> None:
        self._draft.write(data)
        self._size += len(data)
        self._whole.update(data)
        if self._scanner is not None:
            try:
                self._scanner.feed(data)
            except (Unparsable, LimitExceeded) as failure:
                self._reason, self._scanner = str(failure), None
        self._dataset.feed(data, self._scanner)

    def finish(self) -> Prepared:
        self._draft.flush()  # here, in the receiver's thread: the commit that others wait for has little left to sync
        found = None
        if self._scanner is not None:
            try:
                found = self._scanner.finish()
            except (Unparsable, LimitExceeded) as failure:
                self._reason = str(failure)
        identity, reason, guess = _identify(found, self._reason)
        if self._aside:
            identity, reason, guess = _set_aside(found, self._syntax, self._aside)
        digest = None
        if found is not None and identity is not None:
            digest = self._dataset.digest(found.layout)
            if digest is None:
                reason = f"more than {_DatasetHash.TAIL} bytes follow the end of a deflated dataset"
        if found is None or identity is None or digest is None:
            digest = self._whole.digest()
            return Prepared(self._draft, None, _class(found), digest, self._size, None, None, reason, guess)
        layout = _with_table(self._draft, found, self._size)
        return Prepared(
            self._draft, identity, _class(found), digest, self._size, layout, self._also.describe(found),
            warnings=tuple(found.warnings),
        )  # fmt: skip

    def discard(self) -> None:
        self._draft.discard()


class _DatasetHash:
    """SHA-256 over the dataset alone, while its end is not known yet.

    The scanner tells how far elements reach; what lies beyond is held back until it does, and TAIL bytes always, since
    zeros may turn out to be padding. Once it says that no element follows, the end is in what is held, and the rest of
    the file is no business of this hash.
    """

    TAIL = 1 << 20

    def __init__(self) -> None:
        self._hash, self._held, self._at, self._ended = hashlib.sha256(), bytearray(), 0, False

    def feed(self, data: memoryview, scanner: Scanner | None) -> None:
        """The bytes the scanner has just been fed."""
        if scanner is None or self._ended:
            return
        start, sure = scanner.dataset_start, scanner.position
        self._ended = sure >= ENDLESS
        if start is None or self._ended or self._held:
            self._held += data
            data = memoryview(self._held)
        if start is None or self._ended:
            return
        skip = max(0, start - self._at)  # preamble and file meta, once
        ready = min(sure - self._at, len(data) - self.TAIL)
        if ready > skip:
            self._hash.update(data[skip:ready])
        self._at += max(ready, 0)
        rest = bytes(data[max(ready, 0) :])
        self._held = bytearray(rest)

    def digest(self, layout: Layout) -> bytes | None:
        """None where the end lies before what was hashed already (bytes behind a deflated dataset)."""
        start, stop = max(0, layout.dataset_start - self._at), layout.dataset_end - self._at
        if stop < 0 or stop > len(self._held):
            return None
        self._hash.update(memoryview(self._held)[start:stop])
        return self._hash.digest()


def _identify(found: Scan | None, reason: str) -> tuple[Identity | None, str, dict[str, str] | None]:
    """What it is, or why it goes to quarantine and what could be read of its identity."""
    if found is None:
        return None, reason, None
    sop_class, identity = found.sop_class, found.identity
    if found.is_dicomdir:
        return None, "a DICOMDIR describes a medium; import the medium instead", None
    for name, uid in (("Study", identity.study), ("Series", identity.series), ("SOP", identity.sop)):
        if not _is_name(uid):
            return None, f"the {name} Instance UID is no UID", None
    if sop_class in NON_PATIENT and identity.sop:
        return Identity("", "", identity.sop), "", None
    missing = [
        name
        for name, value in (
            ("Study Instance UID", identity.study),
            ("Series Instance UID", identity.series),
            ("SOP Instance UID", identity.sop),
            ("SOP Class UID", sop_class),
        )
        if not value
    ]
    if missing:
        guess = {"study": identity.study, "series": identity.series, "sop": identity.sop, "class": sop_class}
        return None, f"no {' and no '.join(missing)}", guess
    return identity, "", None


def _set_aside(found: Scan | None, syntax: str | None, reason: str) -> tuple[None, str, dict[str, str]]:
    """For the quarantine, with what it takes to receive it again: a bare dataset does not say its own transfer syntax."""
    guess = {"syntax": syntax} if syntax else {}
    if found is not None:
        identity = found.identity
        guess |= {"study": identity.study, "series": identity.series, "sop": identity.sop, "class": found.sop_class}
    return None, reason, {name: value[:UID_MAX] for name, value in guess.items()}


def _is_name(uid: str) -> bool:
    """Lenient: leading zeros, letters and 65 characters are kept as they came. What no header or URL can carry is not."""
    return len(uid) <= UID_MAX and uid.isascii() and (not uid or uid.isprintable())


def _class(found: Scan | None) -> str:
    return found.sop_class if found is not None else ""


def _with_table(draft: Draft, found: Scan, size: int) -> Layout:
    """The layout as the row keeps it; a frame table too long for the row goes behind the original, in the payload."""
    layout = found.layout
    if found.frame_table and not layout.frames_inline:
        draft.write(found.frame_table)
        layout = replace(layout, table_offset=size)
    return layout


def object_task(received: Received) -> ObjectTask:
    prepared, who = received.prepared, received.principal
    identity = prepared.identity
    assert identity is not None and prepared.layout is not None and prepared.description is not None
    incoming = Incoming(
        who.tenant, identity, prepared.sop_class, meta.in_domain(prepared.description, received.domain), prepared.layout,
        _NOWHERE, prepared.sha256, received.at, received.source, who.name, received.policy,
    )  # fmt: skip
    kind = STUDY if identity.study else NONPATIENT
    label = (who.tenant.uid, kind, identity.study)
    return ObjectTask(prepared.draft, label, meta.dump(meta.of_incoming(incoming, received.domain)), incoming)


def quarantine_task(received: Received) -> QuarantineTask:
    prepared, who = received.prepared, received.principal
    row = Quarantined(
        _NOWHERE, prepared.reason, received.at, received.source, who.name, prepared.size, prepared.sha256,
        prepared.sop_class, prepared.guess or {},
    )  # fmt: skip
    reception = meta.Reception(
        "quarantine", None, prepared.sop_class, prepared.sha256, received.at, received.source, who.name,
        received.policy, None, None, prepared.size, prepared.reason, prepared.guess,
    )  # fmt: skip
    return QuarantineTask(prepared.draft, (who.tenant.uid, QUARANTINE, ""), meta.dump(reception), row, who.tenant.id)
