"""`radiolith route`: what arrives goes where by itself."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options

if TYPE_CHECKING:
    from radiolith.policies.routes import Tried

app = typer.Typer(help="Rules: what arrives, by attributes, sender and time, goes to a node.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="What the rule is called.")]
Days = Annotated[int, typer.Option("--days", min=1, max=30, help="Look back so many days.")]


@app.callback()
def _home(context: typer.Context, home: options.Home) -> None:
    context.obj = home


def _keys(match: list[str]) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for word in match:
        keyword, equals, value = word.partition("=")
        if not equals or not keyword.strip():
            raise typer.BadParameter(f"'{word}' is no key; one looks like Modality=CT", param_hint="--match")
        keys.setdefault(keyword.strip(), []).append(value)
    return keys


@app.command()
def add(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="PEER", help="The node, as `radiolith peer list` calls it.")],
    match: Annotated[
        list[str] | None,
        typer.Option("--match", metavar="KEY=VALUE", help="An attribute, matched as in queries; again for more."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="AET", help="Who sent it: AE title or name, * and ? allowed; again for more."),
    ] = None,
    door: Annotated[
        list[str] | None, typer.Option("--door", help="How it came: dimse, stow, import; again for more.")
    ] = None,
    hours: Annotated[str, typer.Option("--hours", metavar="FROM-TO", help="20:00-06:00, when it is complete.")] = "",
    days: Annotated[str, typer.Option("--on", metavar="DAYS", help="mon-fri, or sat,sun.")] = "",
    zone: Annotated[str, typer.Option("--zone", help="Whose clock: Europe/Berlin.")] = "UTC",
    priority: Annotated[str, typer.Option("--priority", help="high, medium or low.")] = "medium",
    syntax: Annotated[str, typer.Option("--syntax", metavar="UID", help="Preferred transfer syntax.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make nothing: show what it would have sent in the last 7 days.")
    ] = False,
) -> None:
    """Make a rule: it holds for what is complete from now on."""
    from radiolith.home import open_home

    body: dict[str, Any] = {
        "name": name, "peer": to, "keys": _keys(match or []), "sources": source or [], "doors": door or [], "hours": hours,
        "days": days, "zone": zone, "priority": priority, "syntax": syntax,
    }  # fmt: skip
    body = {key: value for key, value in body.items() if value and (key, value) != ("zone", "UTC")}
    with open_home(context.obj) as home:
        verb = home.graph.traffic.routes
        if dry_run:
            _say_tried(home.run(verb.trial(home.principal, body, _since(7))), as_json=False)
            return
        home.run(verb.add(home.principal, body))
    console.say(f"{name} sends to {to} from now on.")


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """The rules."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        entries = home.run(home.graph.traffic.routes.list(home.principal))
    if as_json:
        console.give_json([dict(entry.body) | {"made_at": _moment(entry.at)} for entry in entries])
        return
    rows = [(entry.name, entry.body.get("peer", ""), _words(dict(entry.body)), _moment(entry.at)) for entry in entries]
    console.give_table(("name", "to", "when", "made"), rows, "No rules yet.")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Remove a rule. What it ordered already is sent all the same."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        home.run(home.graph.traffic.routes.remove(home.principal, name))
    console.say(f"{name} is removed.")


@app.command("try")
def try_(context: typer.Context, name: Name, days: Days = 7, as_json: options.AsJson = False) -> None:
    """What a rule would have sent of past traffic. Sends nothing."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        verb = home.graph.traffic.routes
        entry = home.run(verb.get(home.principal, name))
        found = home.run(verb.trial(home.principal, entry.body, _since(days)))
    _say_tried(found, as_json=as_json)


def _say_tried(found: list[Tried], *, as_json: bool) -> None:
    rows = [
        {"study": one.study, "complete": _moment(one.at), "instances": one.instances, "of": one.of} for one in found
    ]
    if as_json:
        console.give_json(rows)
        return
    lines = [tuple(row.values()) for row in rows]
    console.give_table(("study", "complete", "sent", "of"), lines, "It would have sent nothing.")
    if rows:
        console.say(f"{sum(one.instances for one in found)} instances of {len(found)} completions.")


def _words(body: dict[str, Any]) -> str:
    """The conditions on one line."""
    keys = [f"{key}={'|'.join(map(str, values))}" for key, values in body.get("keys", {}).items()]
    for field, word in (("sources", "from"), ("doors", "by"), ("hours", ""), ("days", "on"), ("zone", "")):
        value = body.get(field)
        if value:
            keys.append(f"{word} {', '.join(value) if isinstance(value, list) else value}".strip())
    return ", ".join(keys) or "everything"


def _since(days: int) -> int:
    return (int(time.time()) - days * 86_400) * 1_000_000


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat(timespec="seconds")
