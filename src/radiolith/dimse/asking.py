"""What we ask of a peer: is it there, what has it, send it elsewhere, send it here (PS3.4 A, C.4).

Owns: the commands and identifiers of C-ECHO, C-FIND, C-MOVE and C-GET as SCU. Must never: connect (`scu` does), or keep what
was answered. An iterator that is closed before its end cancels at the peer.

Limits: CANCEL_SECONDS for a peer to end what was cancelled; CONTEXTS of storage classes beside that of a C-GET.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from struct import pack

from radiolith.dicom import dictionary, values
from radiolith.dicom.compose import value_bytes
from radiolith.dicom.encoding import element_header, padded
from radiolith.dicom.syntax import encoding
from radiolith.dimse import sopclasses
from radiolith.dimse.association import Context, Wanted
from radiolith.dimse.calls import Declined, Progress, is_pending
from radiolith.dimse.commands import Command
from radiolith.dimse.infomodels import CHARACTER_SET, LEVEL
from radiolith.dimse.items import CONTEXTS_MAX
from radiolith.dimse.scu import MOVE_SECONDS, Association
from radiolith.dimse.sending import ANSWER_SECONDS
from radiolith.model import BadInput, Unavailable

CANCEL_SECONDS = 10.0
CONTEXTS = CONTEXTS_MAX - 1
SYNTAXES = 45
"""Transfer syntaxes in one context of a C-GET: DCMTK breaks off the association at more than 50. The oldest are left out."""
MEDIUM = 0x0000
"""Priority (0000,0700), PS3.7 E.1."""
SUBOPERATIONS_FAILED = 0xB000
_CANCELLED = 0xFE00

Path = tuple[int, ...]
"""Tag, or tags of sequences down to one."""


# ---------------------------------------------------------------- identifiers


def path_of(words: str) -> Path:
    """'PatientName', '00100010' or 'ReferencedStudySequence.ReferencedSOPInstanceUID'. Raises BadInput."""
    found: list[int] = []
    for word in words.split("."):
        tag = dictionary.tag(word)
        if tag is None:
            raise BadInput(f"'{word}' is no keyword or tag of an attribute")
        found.append(tag)
    return tuple(found)


def identifier(level: str, keys: Mapping[Path, str], transfer_syntax: str) -> bytes:
    """The identifier that asks for `keys` at a level ('STUDY'); text that is not ASCII goes as UTF-8.

    Raises BadInput for a value that its VR cannot hold.
    """
    implicit = encoding(transfer_syntax).implicit
    everything = {(LEVEL,): level, **keys}
    if not all(value.isascii() for value in keys.values()):
        everything[(CHARACTER_SET,)] = "ISO_IR 192"
    return _elements(everything, implicit)


def _elements(keys: Mapping[Path, str], implicit: bool) -> bytes:
    parts: list[bytes] = []
    for tag in sorted({path[0] for path in keys}):
        inner = {path[1:]: value for path, value in keys.items() if path[0] == tag and len(path) > 1}
        if inner:
            item = _elements(inner, implicit)
            content = pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
            parts.append(element_header(tag, "SQ", len(content), implicit=implicit) + content)
        else:
            vr = dictionary.vr(tag)[:2]
            text = keys[(tag,)]
            content = b"" if not text or vr == "SQ" else padded(value_bytes(tag, vr, _values(vr, text)), vr)
            parts.append(element_header(tag, vr, len(content), implicit=implicit) + content)
    return b"".join(parts)


def _values(vr: str, text: str) -> list[str]:
    return [text] if vr in values.SINGLE else text.split("\\")


# ---------------------------------------------------------------- contexts to propose

_MODELS = (sopclasses.PATIENT_ROOT, sopclasses.STUDY_ROOT)
PROPOSES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("C-ECHO-RQ", sopclasses.VERIFICATION): sopclasses.UNCOMPRESSED,
    **{("C-FIND-RQ", model.find): sopclasses.UNCOMPRESSED for model in _MODELS},
    **{("C-MOVE-RQ", model.move): sopclasses.UNCOMPRESSED for model in _MODELS},
    **{("C-GET-RQ", model.get): sopclasses.UNCOMPRESSED for model in _MODELS},
}
"""Request and SOP class -> transfer syntaxes: what this module asks, for the conformance statement."""


def for_echo() -> list[Wanted]:
    return [Wanted(sopclasses.VERIFICATION, sopclasses.UNCOMPRESSED)]


def for_query(sop_class: str, extended: bytes = b"") -> list[Wanted]:
    """For C-FIND and C-MOVE of an information model."""
    return [Wanted(sop_class, sopclasses.UNCOMPRESSED, extended=extended)]


def for_get(sop_class: str, held: Iterable[tuple[str, str]] = ()) -> list[Wanted]:
    """For C-GET: with the storage classes in which objects may come, so that each comes as the peer has it stored.

    held: (SOP class, stored transfer syntax or '') of what there is to come. An acceptor chooses one syntax of a context,
    mostly an uncompressed one, and makes over what is stored otherwise; so each class has a context for each of its
    syntaxes, or for as many of those that are kept as there is room for where they are not known, and one for all others.
    The commonest classes of which nothing was said have what room is left.
    """
    known: dict[str, list[str]] = {}
    for storage, stored in held:
        known.setdefault(storage, []).append(stored)
    room = max(1, CONTEXTS // max(1, len(known)))
    inward: list[Wanted] = []
    for storage, stored in list(known.items())[:CONTEXTS]:
        inward += _as_stored(storage, stored, room)
    others = [each for each in sopclasses.COMPOSITE_STORAGE if each not in known]
    inward += [_inward(each, sopclasses.KEPT) for each in others[: CONTEXTS - len(inward)]]
    return [*for_query(sop_class), *inward]


def _as_stored(storage: str, stored: Sequence[str], room: int) -> list[Wanted]:
    """At most `room` contexts of a class, the last for what has none of its own."""
    certain = [uid for uid in stored if uid in sopclasses.KEPT]
    likely = sopclasses.KEPT if "" in stored else sopclasses.UNCOMPRESSED
    alone = list(dict.fromkeys((*certain, *likely)))[: room - 1]
    rest = [uid for uid in sopclasses.KEPT if uid not in alone]
    return [*(_inward(storage, (uid,)) for uid in alone), *([_inward(storage, rest)] if rest else [])]


def _inward(storage: str, syntaxes: Sequence[str]) -> Wanted:
    return Wanted(storage, tuple(syntaxes[:SYNTAXES]), scu=False, scp=True)


# ---------------------------------------------------------------- requests


async def echo(association: Association) -> None:
    """Raises Declined, and what `Association.ask` raises."""
    context = association.context(sopclasses.VERIFICATION)
    command = Command.of("C-ECHO-RQ", MessageID=association.next_id(), AffectedSOPClassUID=context.abstract_syntax)
    answer = await association.ask(context, command)
    if answer.status:
        raise Declined(answer)


async def find(
    association: Association, sop_class: str, make: Callable[[str], bytes]
) -> AsyncGenerator[tuple[int, bytes]]:
    """(status, identifier) of every match; `make`: the request's identifier in a transfer syntax. Raises Declined."""
    context = association.context(sop_class)
    data = make(context.transfer_syntax)
    command = Command.of(
        "C-FIND-RQ", True, MessageID=association.next_id(), AffectedSOPClassUID=sop_class, Priority=MEDIUM
    )
    async with aclosing(_conversation(association, context, command, data, ANSWER_SECONDS)) as answers:
        async for answer, found in answers:
            if is_pending(answer.status):
                yield answer.status, found
            elif answer.status not in (0, _CANCELLED):
                raise Declined(answer)


async def move(
    association: Association, sop_class: str, make: Callable[[str], bytes], destination: str
) -> AsyncGenerator[Progress]:
    """The peer's progress, its last word as the last. `destination`: an AE title the peer knows. Raises Declined."""
    context = association.context(sop_class)
    command = Command.of(
        "C-MOVE-RQ", True, MessageID=association.next_id(), AffectedSOPClassUID=sop_class, Priority=MEDIUM,
        MoveDestination=destination,
    )  # fmt: skip
    async with aclosing(_retrieval(association, context, command, make, MOVE_SECONDS)) as told:
        async for progress in told:
            yield progress


async def get(association: Association, sop_class: str, make: Callable[[str], bytes]) -> AsyncGenerator[Progress]:
    """The same for C-GET; objects come in on this association (`Exchange.storing`). Raises Declined."""
    context = association.context(sop_class)
    command = Command.of(
        "C-GET-RQ", True, MessageID=association.next_id(), AffectedSOPClassUID=sop_class, Priority=MEDIUM
    )
    async with aclosing(_retrieval(association, context, command, make, ANSWER_SECONDS)) as told:
        async for progress in told:
            yield progress


async def _retrieval(
    association: Association, context: Context, command: Command, make: Callable[[str], bytes], seconds: float
) -> AsyncGenerator[Progress]:
    data = make(context.transfer_syntax)
    async with aclosing(_conversation(association, context, command, data, seconds)) as answers:
        async for answer, found in answers:
            if not is_pending(answer.status) and answer.status not in (0, _CANCELLED, SUBOPERATIONS_FAILED):
                raise Declined(answer)
            yield Progress(
                answer.status,
                answer.number("NumberOfRemainingSuboperations", -1),
                answer.number("NumberOfCompletedSuboperations", -1),
                answer.number("NumberOfFailedSuboperations", -1),
                answer.number("NumberOfWarningSuboperations", -1),
                answer.text("ErrorComment"),
                found,
            )


async def _conversation(
    association: Association, context: Context, command: Command, data: bytes, seconds: float
) -> AsyncGenerator[tuple[Command, bytes]]:
    """All responses; C-CANCEL when nobody wants the rest, and then the peer's last word is waited for."""
    ended = False
    async with aclosing(association.responses(context, command, data, seconds)) as responses:
        try:
            async for answer, found in responses:
                ended = not is_pending(answer.status)
                yield answer, found
        finally:
            if not ended and association.open:
                association.cancel(context, command.message_id)
                with suppress(TimeoutError, Unavailable):
                    async with asyncio.timeout(CANCEL_SECONDS):
                        async for _ in responses:
                            pass
