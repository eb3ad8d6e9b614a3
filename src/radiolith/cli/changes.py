"""`radiolith changes`: what has happened, and what happens, as lines of JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from radiolith.cli import console, options

if TYPE_CHECKING:
    from radiolith.archive.follow import Ask, Events
    from radiolith.home import Home

Kinds = Annotated[
    list[str] | None, typer.Option("--kind", metavar="EVENT", help="Only these, as study.complete; again for more.")
]


def changes(
    home: options.Home,
    after: Annotated[
        str, typer.Option("--after", metavar="CURSOR", help="Behind this event; 'latest' for what happens from now on.")
    ] = "",
    kind: Kinds = None,
    follow: Annotated[bool, typer.Option("--follow", help="Do not end: print what happens as it happens.")] = False,
) -> None:
    """Print the change feed, one event a line; the last line's cursor is where --after goes on."""
    from radiolith.archive.follow import LIMIT_MAX, Ask
    from radiolith.home import open_home

    ask = Ask(after, LIMIT_MAX, tuple(kind or ()))
    with open_home(home) as opened:
        while True:
            found = _next(opened, ask, follow=follow)
            if found.restarted:
                console.complain("radiolith: this cursor is of an index that was made again since: from the beginning")
            for event in found.events:
                console.give(json.dumps(event.document(), ensure_ascii=False))
            ask = Ask(found.after, ask.limit, ask.kinds)
            if not found.more and not follow:
                return


def _next(home: Home, ask: Ask, *, follow: bool) -> Events:
    from radiolith.archive.follow import WAIT_MAX
    from radiolith.model import Principal

    verb, who = home.graph.traffic.follow, home.principal
    if not follow:
        return home.run(verb.after(who, ask))

    async def caller() -> Principal:
        return who

    return home.run(verb.waited(caller, ask, WAIT_MAX))
