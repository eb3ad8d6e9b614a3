"""`radiolith check`: is everything there, and right? And the index made again from the log."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from radiolith.cli import console, options


def check(
    home: options.Home,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="First make the index again from segments and keyring; nothing else may run."),
    ] = False,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and authenticate every byte.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check segments, keyring and index. Exit code 1 when something is wrong."""
    found = {"rebuilt": _rebuild(home)} if rebuild else {}
    found["checked"] = _check(home, read_data)
    problems = [*found.get("rebuilt", {}).get("damaged", ()), *found["checked"]["problems"]]
    if as_json:
        console.give_json(found)
    else:
        for title, figures in found.items():
            _tell(title, figures)
        for problem in dict.fromkeys(problems):
            console.say(f"  {problem}")
        for note in found["checked"]["notes"]:
            console.say(f"  {note}")
        count = len(problems) + found["checked"]["unlisted"]
        console.say(f"{count:,} problems" if problems else "Everything is there, and right.")
    if problems:
        raise typer.Exit(console.FAILED)


def _rebuild(home: Path) -> dict[str, Any]:
    from radiolith.home import rebuild

    with console.progress("Rebuilding the index", "objects") as report:
        return dataclasses.asdict(rebuild(home, lambda so_far: report(so_far.objects, None, "")))


def _check(home: Path, read_data: bool) -> dict[str, Any]:
    from radiolith.home import open_home

    with open_home(home) as opened, console.progress("Checking", "records") as report:
        found = opened.check(read_data=read_data, progress=lambda so_far: report(so_far.records, None, ""))
    return dataclasses.asdict(found)


def _tell(title: str, figures: Mapping[str, Any]) -> None:
    counts = [
        console.bytes_in_words(value) if name == "bytes" else f"{value:,} {name}"
        for name, value in figures.items()
        if isinstance(value, int) and value
    ]
    console.say(f"{title}: {', '.join(counts) or 'nothing'}")
