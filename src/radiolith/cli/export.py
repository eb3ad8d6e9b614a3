"""`radiolith export`: studies out of the archive, as DICOM files in folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from radiolith.cli import console, options


def export(
    home: options.Home,
    target: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Where the files go.")],
    study: Annotated[list[str] | None, typer.Option(metavar="UID", help="A study; all of them without it.")] = None,
    original: Annotated[
        bool, typer.Option("--original", help="Exactly the files received, every version and encoding.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write studies to a folder, one file an instance; what is there already is passed over."""
    from radiolith.home import open_home

    with open_home(home) as opened, console.progress("Exporting", "objects") as report:
        summary = opened.export(
            study or [], target, original=original, progress=lambda so_far: report(so_far.files, None, "")
        )
    if as_json:
        console.give_json(dataclasses.asdict(summary))
    else:
        console.say(f"{summary.files:,} files, {console.bytes_in_words(summary.bytes)}, in {target}")
        if summary.present:
            console.say(f"  {summary.present:,} were there already")
    for name, reason in summary.failed:
        console.complain(f"  {name}: {reason}")
    if summary.failed:
        raise typer.Exit(console.FAILED)
