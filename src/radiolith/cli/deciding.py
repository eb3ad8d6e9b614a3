"""What commands that decide have in common: how it is asked, whom it is about, and how an operation reads.

Owns: these options and words. Must never: know a verb.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options

if TYPE_CHECKING:
    from radiolith.archive.operations import Asked, Operation
    from radiolith.archive.subjects import PatientKey
    from radiolith.home import Home

Reason = Annotated[str, typer.Option("--reason", help="A sentence for other people.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what it would do, and do nothing.")]
Expected = Annotated[
    str,
    typer.Option("--expected", metavar="STATE", help="As --dry-run told it: fail if somebody decided something since."),
]
Issuer = Annotated[str, typer.Option("--issuer", metavar="NAME", help="Who assigned the patient ID; none: this house.")]
New = Annotated[bool, typer.Option("--new", help="The patient need not be known yet.")]
PatientId = Annotated[str, typer.Option("--patient", metavar="ID", help="Patient ID.")]


def take_home(context: typer.Context, home: options.Home) -> None:
    """The callback of a group of commands."""
    context.obj = home


@contextmanager
def opened(context: typer.Context) -> Generator[Home, None, None]:
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        yield home


def asked(reason: str = "", expected: str = "", *, dry_run: bool = False, coerce: bool = False) -> Asked:
    from radiolith.archive.operations import Asked

    return Asked(reason, "COERCE" if coerce else "CORRECT", expected, dry_run)


def key(value: str, issuer: str = "", study: str = "") -> PatientKey:
    from radiolith.archive.subjects import PatientKey

    return PatientKey(value, issuer, "" if value else study)


def tell(done: Operation, *, as_json: bool) -> None:
    """What was done, or would be, and what to do next."""
    if as_json:
        console.give_json(dataclasses.asdict(done) | {"at": moment(done.at) if done.at else None, "undo": done.undo})
        return
    console.say(f"{'Would do: ' if done.dry_run else ''}{done.summary}")
    for change in done.changes:
        console.say(f"  {change.keyword}: {change.old or '(none)'} -> {change.new or '(none)'}")
    for line in done.moves:
        console.say(f"  {line}")
    if done.instances:
        console.say(f"  {done.instances:,} instance{'s' if done.instances != 1 else ''} in {done.series:,} series")
    for warning in done.warnings:
        console.complain(f"  Look at this: {warning}")
    if done.dry_run:
        hint = f"; with --expected {done.state} only if nobody decides something else first" if done.state else ""
        console.say(f"Nothing was changed. Call it again without --dry-run to do it{hint}.")
    elif done.undo:
        console.say(f"To take it back: {done.undo.replace('undo', 'redo') if done.kind == 'undo' else done.undo}")


def moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat(timespec="seconds")


def told(entry: Any) -> dict[str, Any]:
    """One line of an account, for a script."""
    more = {
        name: moment(value) if value else None
        for name in ("at", "undone_at")
        if (value := getattr(entry, name)) is not None
    }
    return dataclasses.asdict(entry) | more
