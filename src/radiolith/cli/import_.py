"""`radiolith import`: folders, files, ZIP archives and DICOMDIR media into the archive, beside a running server."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radiolith.cli import console, options

if TYPE_CHECKING:
    from radiolith.archive.media import ImportSummary

NAME_MAX = 56
"""Characters of the name of a house or an inbox: with its prefix it is an Issuer of Patient ID (0010,0021), which has 64."""
SHOWN = 20
"""Files named one by one in a summary; beyond it only their number by reason: there may be a million."""


def _house(name: str) -> str:
    if len(name) > NAME_MAX or not name.isprintable() or name != name.strip():
        raise typer.BadParameter(f"a name has 1 to {NAME_MAX} printable characters")
    return name


def import_(
    home: options.Home,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", exists=True, help="Folders, files, ZIP, DICOMDIR.")],
    foreign: Annotated[
        str,
        typer.Option(
            "--foreign",
            metavar="NAME",
            callback=_house,
            help="A medium of another house: its patient IDs are not ours.",
        ),
    ] = "",
    inbox: Annotated[
        str, typer.Option("--inbox", metavar="NAME", callback=_house, help="An upload that somebody is to assign.")
    ] = "",
    as_json: options.AsJson = False,
) -> None:
    """Take images in. Run again after an interruption: what was taken is passed over."""
    from radiolith.home import open_home

    if foreign and inbox:
        raise typer.BadParameter("--foreign or --inbox, not both")
    domain = f"medium:{foreign}" if foreign else f"inbox:{inbox}" if inbox else ""

    with open_home(home) as opened, console.progress("Importing", "files") as report:
        summary = opened.import_paths(
            paths, lambda so_far: report(so_far.files + so_far.resumed, None, ""), domain=domain
        )
    if as_json:
        console.give_json(dataclasses.asdict(summary))
    else:
        _tell(summary)


def _tell(summary: ImportSummary) -> None:
    console.say(f"{summary.files:,} files, {console.bytes_in_words(summary.bytes)}")
    counts = (
        (summary.stored, "stored"),
        (summary.duplicates, "held already, the same bytes"),
        (summary.versions, "kept as another version of something held"),
        (summary.encodings, "kept as another encoding of something held"),
        (summary.resumed, "passed over: taken by an earlier import"),
        (len(summary.quarantined), "in quarantine"),
        (len(summary.not_taken), "not taken"),
    )
    for count, words in counts:
        if count:
            console.say(f"  {count:>9,}  {words}")
    _reasons("In quarantine:", [(f"{name} ({id_})", reason) for name, reason, id_ in summary.quarantined])
    _reasons("Not taken:", summary.not_taken)


def _reasons(title: str, entries: list[tuple[str, str]]) -> None:
    """Each file with its reason, or the number of files per reason where there are many."""
    if not entries:
        return
    console.say(title)
    for name, reason in entries[:SHOWN]:
        console.say(f"  {name}: {reason}")
    for reason, count in Counter(reason for _, reason in entries[SHOWN:]).most_common(SHOWN):
        console.say(f"  {count:,} more: {reason}")
