"""`radiolith send`: studies and series of the archive, or files and folders, to a DICOM node."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import calling, console, options
from radiolith.model import BadInput, Failure, Identity, Level, Match, NotFound, Query

if TYPE_CHECKING:
    from radiolith.archive.outbox import Result
    from radiolith.dimse.calls import Target
    from radiolith.home import Home
    from radiolith.index.outbox import Transfer
    from radiolith.model import Held

LOOK = 0.5
"""Seconds between two looks how far somebody else is."""
SHOWN = 20
"""Instances that were not sent, named one by one; beyond it only their number."""


@dataclass(slots=True)
class Done:
    """What became of it."""

    counts: Counter[str] = field(default_factory=Counter[str])
    failed: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    transfers: list[Transfer] = field(default_factory=list)

    def answered(self, what: str, status: int, reason: str) -> None:
        good = status == 0 or status >> 12 == 0xB
        self.counts["sent"] += good
        self.counts["warnings"] += good and status != 0
        if not good:
            self.counts["refused"] += 1
            self.failed.append({"what": what, "reason": f"{reason or 'no reason given'} (status {status:04X})"})

    @property
    def answers(self) -> int:
        return self.counts["sent"] + self.counts["refused"]


def send(
    target: calling.To,
    what: Annotated[
        list[str], typer.Argument(metavar="WHAT...", help="Study or series UIDs of the archive, or files and folders.")
    ],
    home: options.Home,
    aet: calling.As = None,
    as_json: options.AsJson = False,
) -> None:
    """Send to a DICOM node (C-STORE), in the stored transfer syntax where it takes that. What the archive holds goes to a
    peer by way of the outbox: what could not be sent now is tried again by the server. Files, and what goes to an address
    that is no peer, are sent once. Exit code 1 when something was not sent."""
    from radiolith.home import open_home

    paths = [Path(word) for word in what if Path(word).exists()]
    uids = [word for word in what if not Path(word).exists()]
    done = Done()
    with open_home(home) as opened, console.progress(f"Sending to {target}", "instances") as report:
        whom, who = calling.called(opened, target), calling.title(opened, aet)
        peer = whom.name or _peer_at(opened, whom)
        try:
            if uids and peer:
                opened.run(_ordered(opened, (peer, aet), uids, done, report))
            elif uids:
                opened.run(_follow(_held(opened, (whom, who), uids, done.counts), done, report))
            if paths:
                opened.run(_follow(_files((whom, who), paths, done), done, report))
        except KeyboardInterrupt:
            done.failed.append({"what": "interrupted", "reason": "what is missing was not sent"})
        opened.run(_left(opened, done))
    _tell(whom, done, as_json)


def _peer_at(home: Home, whom: Target) -> str:
    """The name of the peer that is this node, '' where there is none."""
    about = {"aet": whom.aet, "address": whom.host, "port": whom.port, "tls": whom.tls is not None}
    for peer in home.run(home.accounts.peers(home.principal)):
        if all(peer.more.get(key, False) == value for key, value in about.items()):
            return peer.name
    return ""


# ---------------------------------------------------------------- what the archive holds


async def _ordered(
    home: Home, to: tuple[str, str | None], uids: Sequence[str], done: Done, report: console.Report
) -> None:
    """Order it, durable before the first instance goes, and send it here and now; what is missing then is the server's."""
    from radiolith import dicomnode
    from radiolith.jobs.outcomes import Interruption

    places = [place for uid in uids for place in await _places(home, uid)]
    peer, title = to
    done.transfers = await home.graph.traffic.outbox.order(home.principal, peer, places, begins=True)
    done.counts["total"] += sum(one.total for one in done.transfers)
    sender = dicomnode.sender(home.graph, title)

    def told(result: Result) -> None:
        done.answered(result.instance.identity.sop, result.status, result.reason)
        report(done.answers, done.counts["total"], "")

    def interrupted() -> Interruption:
        return Interruption("interrupted at the command line; the rest is sent all the same")

    waiting = [one.id for one in done.transfers]
    while waiting:
        number = waiting.pop(0)
        if await sender.run(number, told, early=True, behind=tuple(waiting), interrupted=interrupted) is None:
            await _watch(home, number, done, report)


async def _watch(home: Home, number: int, done: Done, report: console.Report) -> None:
    """The server has begun with it: say how far it is, as long as it goes on."""
    before = done.counts["sent"]
    while True:
        one = await home.graph.traffic.outbox.get(home.principal, number)
        done.counts["sent"] = before + one.delivered
        report(done.answers, done.counts["total"], "")
        if one.state.name != "SENDING":
            return
        await asyncio.sleep(LOOK)


async def _left(home: Home, done: Done) -> None:
    """How the transfers are now, and what somebody may do about those that are not at the peer."""
    outbox, who = home.graph.traffic.outbox, home.principal
    done.transfers = [await outbox.get(who, one.id) for one in done.transfers]
    for one in done.transfers:
        said = one.said or "not sent yet"
        if one.state.name == "FAILED":
            said += f": radiolith outbox again {one.id} sends what is missing"
        elif one.state.name in ("DELIVERED", "AWAITING"):
            continue
        else:
            said += f": it stays in the outbox and the running server goes on, see radiolith outbox show {one.id}"
        done.failed.append({"what": f"transfer {one.id}", "reason": said})


async def _places(home: Home, uid: str) -> list[Identity]:
    """The study, or the series, of this UID; a series may be in several studies."""
    query, who = home.archive.query, home.principal
    for level, tag in ((Level.STUDY, 0x0020000D), (Level.SERIES, 0x0020000E)):
        page = await query.search(who, Query(level, (Match((tag,), (uid,)),)))
        studies = [str(row[0x0020000D][1]) for row in page.rows if 0x0020000D in row]
        if studies:
            return [Identity(study, "" if level is Level.STUDY else uid, "") for study in studies]
    raise NotFound(f"{uid} is no study or series of the archive, and no file")


async def _held(
    home: Home, called: tuple[Target, str], uids: Sequence[str], counts: Counter[str]
) -> AsyncIterator[tuple[str, int, str]]:
    """(SOP instance, status, reason) of everything under the UIDs."""
    from radiolith.dimse.calls import Ours
    from radiolith.dimse.delivery import send as deliver

    whom, who = called
    archive, principal = home.archive, home.principal
    helds: list[Held] = []
    for uid in uids:
        for place in await _places(home, uid):
            purpose = f"send to {whom.name or whom.aet}"
            helds += await archive.retrieve.locate(principal, place.study, place.series, purpose=purpose)
    counts["total"] += len(helds)
    async with aclosing(deliver(whom, who, Ours(archive, principal), helds)) as results:
        async for result in results:
            yield result.instance.identity.sop, result.status, result.reason


# ---------------------------------------------------------------- files, and the end


async def _files(called: tuple[Target, str], paths: Sequence[Path], done: Done) -> AsyncIterator[tuple[str, int, str]]:
    """(file, status, reason) of every DICOM file; what is none is told."""
    from radiolith.dimse.files import below, look, send_files

    files: list[Any] = []
    for path in below(paths):
        try:
            files.append(look(path))
        except (BadInput, OSError) as problem:
            done.failed.append({"what": str(path), "reason": str(problem)})
    done.counts["total"] += len(files)
    async with aclosing(send_files(*called, files)) as results:
        async for result in results:
            yield str(result.file.path), result.status, result.reason


async def _follow(results: AsyncIterator[tuple[str, int, str]], done: Done, report: console.Report) -> None:
    try:
        async for what, status, reason in results:
            done.answered(what, status, reason)
            report(done.answers, done.counts["total"], "")
    except Failure as failure:
        left = done.counts["total"] - done.answers
        done.failed.append({"what": f"{left:,} instances", "reason": str(failure)})


def _tell(whom: Target, done: Done, as_json: bool) -> None:
    counts, failed = done.counts, done.failed
    if as_json:
        transfers = [{"id": one.id, "study": one.study, "state": one.state.name.lower()} for one in done.transfers]
        told = {"sent": counts["sent"], "warnings": counts["warnings"], "failed": failed, "transfers": transfers}
        console.give_json(told)
    else:
        console.say(f"{counts['sent']:,} instances sent to {whom}")
        if counts["warnings"]:
            console.say(f"  {counts['warnings']:>9,}  with warnings")
        for one in done.transfers:
            if one.state.name == "AWAITING":
                console.say(f"  transfer {one.id}: {one.said}, see radiolith outbox show {one.id}")
        for each in failed[:SHOWN]:
            console.say(f"  {each['what']}: {each['reason']}")
        if len(failed) > SHOWN:
            console.say(f"  and {len(failed) - SHOWN:,} more that were not sent")
    if failed:
        raise typer.Exit(console.FAILED)
