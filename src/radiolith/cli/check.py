"""`radiolith check`: is everything there, and right? And the index made again from the log."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from radiolith.cli import console, options

if TYPE_CHECKING:
    from radiolith.app import CheckReport


def check(
    home: options.Home,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the index again from segments and keyring; nothing else may run.")
    ] = False,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and authenticate every byte.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check segments, keyring and index. Exit code 1 when something is wrong."""
    from radiolith import app

    words = "Rebuilding the index" if rebuild else "Checking"
    with app.open_home(home) as opened, console.progress(words, "records") as report:
        found = opened.check(rebuild=rebuild, read_data=read_data, progress=report)
    if as_json:
        console.give_json(dataclasses.asdict(found))
    else:
        _tell(found)
    if found.problems:
        raise typer.Exit(console.FAILED)


def _tell(found: CheckReport) -> None:
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, int) and not isinstance(value, bool):
            text = console.bytes_in_words(value) if field.name == "bytes" else f"{value:,}"
            console.say(f"{field.name.replace('_', ' '):<16} {text}")
    for problem in found.problems:
        console.complain(f"  {problem}")
    console.say(f"{len(found.problems):,} problems" if found.problems else "Everything is there, and right.")
