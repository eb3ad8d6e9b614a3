"""`radiolith webhook`: where events are posted to, and what could not be delivered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options
from radiolith.cli.changes import Kinds

if TYPE_CHECKING:
    from radiolith.index.deliveries import Delivery

app = typer.Typer(help="Events that are posted to other systems (docs/changes.md).", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="What the webhook is called.")]


@app.callback()
def _home(context: typer.Context, home: options.Home) -> None:
    context.obj = home


@app.command()
def add(
    context: typer.Context,
    name: Name,
    url: Annotated[str, typer.Argument(metavar="URL", help="https://HOST[:PORT]/PATH")],
    kind: Kinds = None,
    role: Annotated[str, typer.Option("--role", help="It sees what this role sees.")] = "reader",
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Sign with the secret on the standard input, not with a random one.")
    ] = False,
) -> None:
    """Post events from now on. Prints the secret that signs them, once."""
    from radiolith.home import open_home

    secret = typer.get_text_stream("stdin").readline().rstrip("\r\n") if secret_stdin else ""
    with open_home(context.obj) as home:
        verb = home.graph.traffic.webhooks
        made = home.run(verb.add(home.principal, name, url, kinds=kind or [], role=role, secret=secret))
    if not secret_stdin:
        console.give(made)


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """The webhooks, without their secrets."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        found = home.run(home.graph.traffic.webhooks.list(home.principal))
    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "url": one.url,
            "kinds": list(one.kinds),
            "role": one.role,
            "made_at": _moment(one.made_at),
            "given_up": lost,
        }
        for one, lost in found
    ]
    if as_json:
        console.give_json(rows)
        return
    lines = [
        (one["name"], one["url"], ", ".join(one["kinds"]) or "all", one["role"], one["made_at"], one["given_up"])
        for one in rows
    ]
    console.give_table(("name", "to", "events", "sees as", "made", "given up"), lines, "No webhooks yet.")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Post nothing more there."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        home.run(home.graph.traffic.webhooks.remove(home.principal, name))
    console.say(f"{name} is removed.")


@app.command()
def deliveries(context: typer.Context, name: Name, as_json: options.AsJson = False) -> None:
    """What waits to be sent again, and what was given up."""
    from radiolith.home import open_home

    found: list[Delivery] = []
    with open_home(context.obj) as home:
        verb = home.graph.traffic.webhooks
        while page := home.run(verb.deliveries(home.principal, name, 500, found[-1].id if found else 0)):
            found += page
    rows = [
        {
            "id": one.id,
            "state": one.state.name.lower(),
            "events": one.batch.events,
            "attempts": one.attempts,
            "created_at": _moment(one.created_at),
            "said": one.said,
        }
        for one in found
    ]
    if as_json:
        console.give_json(rows)
        return
    lines = [tuple(row.values()) for row in rows]
    console.give_table(("id", "state", "events", "attempts", "since", "last said"), lines, "Everything is delivered.")


@app.command()
def again(
    context: typer.Context,
    name: Name,
    number: Annotated[int, typer.Argument(metavar="[ID]", help="As `deliveries` shows it; none: all of them.")] = 0,
) -> None:
    """Send what was given up once more, before anything new. The running server sends."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        count = home.run(home.graph.traffic.webhooks.again(home.principal, name, number))
    console.say(f"{count} {'is' if count == 1 else 'are'} sent again.")


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat(timespec="seconds")
