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

SHOWN = 20
"""Files named one by one in a summary; beyond it only their number by reason: there may be a million."""


def import_(
    home: options.Home,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", exists=True, help="Folders, files, ZIP, DICOMDIR.")],
    as_json: options.AsJson = False,
) -> None:
    """Take images in. Run again after an interruption: what was taken is passed over."""
    from radiolith.home import open_home

    with open_home(home) as opened, console.progress("Importing", "files") as report:
        summary = opened.import_paths(paths, lambda so_far: report(so_far.files + so_far.resumed, None, ""))
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
