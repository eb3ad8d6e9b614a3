"""`radiolith quarantine`: what arrived and could not be kept as an image, with the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options

if TYPE_CHECKING:
    from radiolith.app import Home
    from radiolith.archive.ports import Sideline

PAGE = 500
"""Entries asked for at a time."""

app = typer.Typer(help="What was set aside on arrival, and why.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]


@app.callback()
def _home(context: typer.Context, home: options.Home) -> None:
    context.obj = home


@contextmanager
def _opened(context: typer.Context) -> Generator[Home, None, None]:
    from radiolith.home import open_home

    with open_home(context.obj) as opened:
        yield opened


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """What lies there, latest first."""
    with _opened(context) as home:
        entries = list(_entries(home))
    if as_json:
        console.give_json([_as_dict(entry) for entry in entries])
        return
    rows = [(entry.id, _moment(entry.received_at), entry.source, entry.size, entry.reason) for entry in entries]
    console.give_table(("id", "received", "from", "bytes", "reason"), rows, "The quarantine is empty.")


def _entries(home: Home) -> Iterator[Sideline]:
    after = ""
    while True:
        page = home.run(home.archive.quarantine.list(home.principal, PAGE, after))
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id


@app.command()
def show(context: typer.Context, id: Id, as_json: options.AsJson = False) -> None:
    """Everything known about one of them."""
    with _opened(context) as home:
        entry = home.run(home.archive.quarantine.get(home.principal, id))
    if as_json:
        console.give_json(_as_dict(entry))
        return
    for name, value in _as_dict(entry).items():
        if name == "guess":
            value = ", ".join(f"{key} {text}" for key, text in entry.guess.items()) or "nothing"
        console.say(f"{name.replace('_', ' '):<12} {value}")


@app.command()
def export(
    context: typer.Context,
    id: Id,
    target: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Where the file goes.")],
) -> None:
    """Write the exact bytes received to DIR/ID.bin."""
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{id}.bin"
    with _opened(context) as home:
        size = home.run(_copy(home, id, path))
    console.say(f"{console.bytes_in_words(size)} in {path}")


async def _copy(home: Home, id: str, path: Path) -> int:
    stream = await home.archive.quarantine.original(home.principal, id)
    size = 0
    with closing(path.open("xb")) as file:
        async for chunk in stream.chunks():
            size += file.write(chunk)
    return size


@app.command()
def release(context: typer.Context, id: Id) -> None:
    """It has been dealt with: take it off the list. The bytes stay."""
    with _opened(context) as home:
        home.run(home.archive.quarantine.release(home.principal, id))
    console.say(f"{id} is off the list.")


def _as_dict(entry: Sideline) -> dict[str, Any]:
    return dataclasses.asdict(entry) | {"received_at": _moment(entry.received_at)}


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat(timespec="seconds")
