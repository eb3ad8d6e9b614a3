"""`radiolith note`: rejection notes from those who may not reject."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from radiolith.cli import console, options

app = typer.Typer(help="Rejection notes that wait for a person (docs/rejection.md).", no_args_is_help=True)
Uid = Annotated[str, typer.Argument(metavar="UID", help="SOP Instance UID of the note.")]


@app.callback()
def _home(context: typer.Context, home: options.Home) -> None:
    context.obj = home


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """The notes that wait, latest first."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        found = home.run(home.archive.notes.waiting(home.principal, 1000))
    rows = [
        {
            "instance": one.subject,
            "sender": one.peer,
            "at": datetime.fromtimestamp(one.at / 1_000_000, UTC).isoformat(timespec="seconds"),
            "said": one.said,
        }
        for one in found
    ]
    if as_json:
        console.give_json(rows)
        return
    console.give_table(("note", "from", "at", "what it says"), [tuple(row.values()) for row in rows], "No note waits.")


@app.command()
def obey(context: typer.Context, uid: Uid) -> None:
    """Do what a note says, whoever sent it."""
    from radiolith.archive.notes import operation_of
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        count = home.run(home.archive.notes.obey(home.principal, uid))
    if count:
        console.say(f"{count} instances. To take that back: radiolith amend undo {operation_of(uid)}")
    else:
        console.say("It was obeyed before.")


@app.command()
def dismiss(context: typer.Context, uid: Uid) -> None:
    """The note does not hold: take it off the list. It stays where it is."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        home.run(home.archive.notes.dismiss(home.principal, uid))
    console.say(f"{uid} is off the list.")
