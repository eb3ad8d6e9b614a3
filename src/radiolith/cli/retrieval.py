"""`radiolith get` and `radiolith move`: have a DICOM node send what it has, here or elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import calling, console, options

if TYPE_CHECKING:
    from radiolith.dimse.calls import Progress, Target
    from radiolith.dimse.scu import Association
    from radiolith.home import Home


def move(
    target: calling.To,
    home: options.Home,
    study: calling.Study = None,
    series: calling.Series = None,
    instance: calling.Instance = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="AET", help="Where to: an AE title TARGET knows; ours without it.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Have a DICOM node send what it has to an AE title (C-MOVE). Exit code 1 when something was not sent."""
    from radiolith.dimse import asking
    from radiolith.dimse.sopclasses import STUDY_ROOT
    from radiolith.home import open_home

    level, keys = calling.named(study, series, instance)
    with open_home(home) as opened, console.progress(f"{target} is sending", "instances") as report:
        whom, who = calling.called(opened, target), calling.title(opened, None)

        def ask(association: Association) -> Any:
            return asking.move(association, STUDY_ROOT.move, _make(level, keys), to or who)

        told = opened.run(_followed(opened, (whom, who, asking.for_query(STUDY_ROOT.move)), report, ask))
    _tell(told, f"sent to {to or who}", as_json)


def get(
    target: calling.To,
    home: options.Home,
    study: calling.Study = None,
    series: calling.Series = None,
    instance: calling.Instance = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", file_okay=False, help="Files into this folder; else into the archive."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Have a DICOM node send what it has here (C-GET), as it is stored there. Exit code 1 when something did not come."""
    from radiolith.dimse import asking
    from radiolith.dimse.asking_kinds import kinds
    from radiolith.dimse.files import Saving
    from radiolith.dimse.sopclasses import STUDY_ROOT
    from radiolith.home import open_home

    level, keys = calling.named(study, series, instance)
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
    with open_home(home) as opened, console.progress(f"{target} is sending", "instances") as report:
        whom, who = calling.called(opened, target), calling.title(opened, None)

        def ask(association: Association) -> Any:
            if to is not None:
                association.exchange.storing = Saving.into(to)
            return asking.get(association, STUDY_ROOT.get, _make(level, keys))

        held = opened.run(kinds(whom, who, study or ()))
        told = opened.run(_followed(opened, (whom, who, asking.for_get(STUDY_ROOT.get, held)), report, ask))
    _tell(told, f"now in {to or 'the archive'}", as_json)


def _make(level: str, keys: dict[str, str]) -> Callable[[str], bytes]:
    from radiolith.dimse.asking import identifier, path_of

    return lambda syntax: identifier(level, {path_of(keyword): value for keyword, value in keys.items()}, syntax)


async def _followed(
    home: Home, called: tuple[Target, str, Any], report: console.Report, ask: Callable[[Association], Any]
) -> Progress | None:
    """Ask, show progress, and give the peer's last word."""
    from contextlib import aclosing

    from radiolith.dimse.calls import Ours
    from radiolith.dimse.scu import connect

    whom, who, wanted = called
    last: Progress | None = None
    async with connect(whom, wanted, who, Ours(home.archive, home.principal)) as association:
        async with aclosing(ask(association)) as told:
            async for progress in told:
                last = progress
                done = max(progress.completed, 0) + max(progress.failed, 0) + max(progress.warning, 0)
                report(done, done + progress.remaining if progress.remaining >= 0 else None, "")
        await association.exchange.quiet()
    return last


def _tell(told: Progress | None, where: str, as_json: bool) -> None:
    if told is None:
        raise typer.Exit(console.FAILED)
    if as_json:
        fields = {name: value for name, value in dataclasses.asdict(told).items() if name != "identifier"}
        console.give_json(fields | {"status": f"{told.status:04X}"})
    else:
        console.say(f"{max(told.completed, 0):,} instances {where}")
        for count, words in ((told.warning, "with warnings"), (told.failed, "failed")):
            if count > 0:
                console.say(f"  {count:>9,}  {words}")
        if told.comment:
            console.say(f"  {told.comment}")
    if told.status:
        raise typer.Exit(console.FAILED)
