"""Export to a folder: one file an instance, as DICOM gives it or exactly as it came.

Names are made from UIDs that were checked to be digits and dots, or from the object id, never from what a header says.
Must never: overwrite a file, or leave a half-written one under its final name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from radiolith.archive.ports import Archive, Stream
from radiolith.model import Failure, Held, Level, NotFound, Principal, Query
from radiolith.trust.access import Action, require

_SAFE = re.compile(r"[0-9][0-9.]{0,63}")
_STUDY = 0x0020000D
NON_PATIENT = ""  # where a study's UID would stand: hanging protocols and the like


@dataclass(slots=True)
class ExportSummary:
    studies: int = 0
    files: int = 0
    bytes: int = 0
    present: int = 0  # was there already, with the same size; of what was amended, with the same bytes
    failed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # SOP Instance UID, reason


async def export(
    archive: Archive,
    principal: Principal,
    studies: list[str],
    target: Path,
    *,
    original: bool = False,
    progress: Callable[[ExportSummary], None] = lambda _: None,
) -> ExportSummary:
    """Studies by UID, all of them when none is named. original: every version and encoding, the exact bytes received.

    Raises NotFound for a study that is not held.
    """
    require(principal, Action.EXPORT)
    summary = ExportSummary()
    for study in studies or [*[uid async for uid in _all(archive, principal)], NON_PATIENT]:
        try:
            helds = await archive.retrieve.locate(principal, study, purpose="export")
        except NotFound:
            if study is NON_PATIENT:
                break  # there are none
            raise
        summary.studies += 1 if study else 0
        for held in helds:
            for one in await archive.versions.of(principal, held.identity) if original else [held]:
                await _write(archive, one, target, original, summary)
                progress(summary)
    return summary


async def _all(archive: Archive, principal: Principal) -> AsyncIterator[str]:
    cursor = ""
    while True:
        page = await archive.query.search(principal, Query(Level.STUDY, limit=200, cursor=cursor))
        for row in page.rows:
            yield str(row[_STUDY][1])
        if not page.more:
            return
        cursor = page.cursor


async def _write(archive: Archive, held: Held, target: Path, original: bool, summary: ExportSummary) -> None:
    path = _path(held, target, original)
    try:
        stream = archive.retrieve.original(held) if original else await archive.retrieve.part10(held)
        same = path.exists() and path.stat().st_size == stream.size
        if same and (original or held.overlay is None or await _holds(path, stream)):
            summary.present += 1
            return
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            async for piece in stream.chunks():
                summary.bytes += len(piece)
                await asyncio.to_thread(file.write, piece)
        part.rename(path)
        summary.files += 1
    except Failure as failure:
        summary.failed.append((held.identity.sop, str(failure)))


async def _holds(path: Path, stream: Stream) -> bool:
    """Whether the file is what would be written: another correction may have the same length."""
    with path.open("rb") as file:
        async for piece in stream.chunks():
            if await asyncio.to_thread(file.read, len(piece)) != bytes(piece):
                return False
    return True


def _path(held: Held, target: Path, original: bool) -> Path:
    identity = held.identity
    if not identity.study:
        return (
            target
            / "non-patient"
            / f"{identity.sop if _SAFE.fullmatch(identity.sop) else held.blob.object_id.hex()}.dcm"
        )
    study = identity.study if _SAFE.fullmatch(identity.study) else "study-" + held.blob.object_id.hex()[:8]
    series = identity.series if _SAFE.fullmatch(identity.series) else "series-" + held.blob.object_id.hex()[:8]
    name = identity.sop if _SAFE.fullmatch(identity.sop) else held.blob.object_id.hex()
    if original and (not held.current or held.encoding_of):
        name += "." + held.blob.object_id.hex()[:8]
    return target / study / series / f"{name}.dcm"
