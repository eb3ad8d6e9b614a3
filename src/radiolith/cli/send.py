"""`radiolith send`: studies and series of the archive, or files and folders, to a DICOM node."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import calling, console, options
from radiolith.model import BadInput, Failure, Level, Match, NotFound, Query

if TYPE_CHECKING:
    from radiolith.dimse.calls import Target
    from radiolith.home import Home
    from radiolith.model import Held

SHOWN = 20
"""Instances that were not sent, named one by one; beyond it only their number."""


def send(
    target: calling.To,
    what: Annotated[
        list[str], typer.Argument(metavar="WHAT...", help="Study or series UIDs of the archive, or files and folders.")
    ],
    home: options.Home,
    aet: calling.As = None,
    as_json: options.AsJson = False,
) -> None:
    """Send to a DICOM node (C-STORE), in the stored transfer syntax where it takes that. Exit code 1 when something was
    not sent."""
    from radiolith.home import open_home

    paths = [Path(word) for word in what if Path(word).exists()]
    uids = [word for word in what if not Path(word).exists()]
    failed: list[dict[str, str]] = []
    counts: Counter[str] = Counter()
    with open_home(home) as opened, console.progress(f"Sending to {target}", "instances") as report:
        whom, who = calling.called(opened, target), calling.title(opened, aet)
        sending = _held(opened, (whom, who), uids, counts) if uids else None
        for results in (sending, _files((whom, who), paths, counts, failed) if paths else None):
            if results is not None:
                opened.run(_follow(results, counts, failed, report))
    _tell(whom, counts, failed, as_json)


async def _held(
    home: Home, called: tuple[Target, str], uids: Sequence[str], counts: Counter[str]
) -> AsyncIterator[tuple[str, int, str]]:
    """(SOP instance, status, reason) of everything under the UIDs."""
    from radiolith.dimse.calls import Ours
    from radiolith.dimse.delivery import send as deliver

    whom, who = called
    helds: list[Held] = []
    for uid in uids:
        helds += await _under(home, uid, f"send to {whom.name or whom.aet}")
    counts["total"] += len(helds)
    async with aclosing(deliver(whom, who, Ours(home.archive, home.principal), helds)) as results:
        async for result in results:
            yield result.instance.identity.sop, result.status, result.reason


async def _under(home: Home, uid: str, purpose: str) -> list[Held]:
    """What is held under a study or series UID."""
    archive, who = home.archive, home.principal
    try:
        return await archive.retrieve.locate(who, uid, purpose=purpose)
    except NotFound:
        page = await archive.query.search(who, Query(Level.SERIES, (Match((0x0020000E,), (uid,)),)))
        studies = [str(row[0x0020000D][1]) for row in page.rows if 0x0020000D in row]
        if not studies:
            raise NotFound(f"{uid} is no study or series of the archive, and no file") from None
        return [held for study in studies for held in await archive.retrieve.locate(who, study, uid, purpose=purpose)]


async def _files(
    called: tuple[Target, str], paths: Sequence[Path], counts: Counter[str], failed: list[dict[str, str]]
) -> AsyncIterator[tuple[str, int, str]]:
    """(file, status, reason) of every DICOM file; what is none is told."""
    from radiolith.dimse.files import below, look, send_files

    files: list[Any] = []
    for path in below(paths):
        try:
            files.append(look(path))
        except (BadInput, OSError) as problem:
            failed.append({"what": str(path), "reason": str(problem)})
    counts["total"] += len(files)
    async with aclosing(send_files(*called, files)) as results:
        async for result in results:
            yield str(result.file.path), result.status, result.reason


async def _follow(
    results: AsyncIterator[tuple[str, int, str]],
    counts: Counter[str],
    failed: list[dict[str, str]],
    report: console.Report,
) -> None:
    try:
        async for what, status, reason in results:
            good = status == 0 or status >> 12 == 0xB
            counts["sent"] += good
            counts["warnings"] += good and status != 0
            if not good:
                counts["refused"] += 1
                failed.append({"what": what, "reason": f"{reason or 'no reason given'} (status {status:04X})"})
            report(counts["sent"] + counts["refused"], counts["total"], "")
    except Failure as failure:
        left = counts["total"] - counts["sent"] - counts["refused"]
        failed.append({"what": f"{left:,} instances", "reason": str(failure)})


def _tell(whom: Target, counts: Counter[str], failed: list[dict[str, str]], as_json: bool) -> None:
    if as_json:
        console.give_json({"sent": counts["sent"], "warnings": counts["warnings"], "failed": failed})
    else:
        console.say(f"{counts['sent']:,} instances sent to {whom}")
        if counts["warnings"]:
            console.say(f"  {counts['warnings']:>9,}  with warnings")
        for each in failed[:SHOWN]:
            console.say(f"  {each['what']}: {each['reason']}")
        if len(failed) > SHOWN:
            console.say(f"  and {len(failed) - SHOWN:,} more that were not sent")
    if failed:
        raise typer.Exit(console.FAILED)
