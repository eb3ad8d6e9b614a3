"""`radiolith outbox`: what is to be sent where, how far it is, and why it is not there yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options

if TYPE_CHECKING:
    from radiolith.home import Home
    from radiolith.index.outbox import Item, Lag, Transfer

SERVER_SENDS = "The running server sends; without one it goes out when `radiolith serve` is started."
PAGE = 500
"""Instances asked for at a time."""

app = typer.Typer(help="What is being sent to other nodes, and what could not be.", no_args_is_help=True)
Id = Annotated[int, typer.Argument(metavar="ID", help="As `list` shows it.")]
STATES = ("waiting", "sending", "awaiting", "delivered", "failed", "held", "cancelled")


def _known_state(state: str | None) -> str | None:
    if state is not None and state not in STATES:
        raise typer.BadParameter(f"there is no state '{state}'; there are: {', '.join(STATES)}")
    return state


@app.callback()
def _home(context: typer.Context, home: options.Home) -> None:
    context.obj = home


@app.command("list")
def list_(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option("--state", callback=_known_state, help=f"Only these: {', '.join(STATES)}.")
    ] = None,
    peer: Annotated[str, typer.Option("--peer", metavar="NAME", help="Only to this node.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="The latest so many.")] = 100,
    as_json: options.AsJson = False,
) -> None:
    """How far each destination is behind and why, and the latest transfers."""
    from radiolith.home import open_home
    from radiolith.index.outbox import State

    with open_home(context.obj) as home:
        verb, who = home.graph.traffic.outbox, home.principal
        states = [State[state.upper()]] if state else []
        found = home.run(verb.list(who, limit, states=states, peer=peer))
        lags = [lag for lag in home.run(verb.lags(who)) if peer in ("", lag.peer)]
    if as_json:
        console.give_json({"destinations": [_lag(lag) for lag in lags], "transfers": [_as_dict(one) for one in found]})
        return
    rows = [tuple(_lag(lag).values()) for lag in lags]
    if rows:
        console.give_table(("to", "transfers", "instances left", "since", "last said", "given up"), rows, "")
        console.say()
    lines = [
        (one.id, one.peer, one.state.name.lower(), f"{one.delivered}/{one.total}", _why(one), one.study, one.said)
        for one in found
    ]
    columns = ("id", "to", "state", "sent", "ordered by", "study", "last said")
    nothing = "No transfer is like that." if state or peer else "Nothing was ordered to be sent."
    console.give_table(columns, lines, nothing)
    _say_next({one.state.name for one in found})


@app.command()
def show(context: typer.Context, id: Id, as_json: options.AsJson = False) -> None:
    """Everything about one transfer, with the instances that are not at the peer yet."""
    from radiolith.home import open_home
    from radiolith.index.outbox import ItemState

    with open_home(context.obj) as home:
        verb, who = home.graph.traffic.outbox, home.principal
        found = home.run(verb.get(who, id))
        missing: list[Item] = []
        for state in (ItemState.REFUSED, ItemState.WAITING):
            page = home.run(verb.items(who, id, PAGE, 0, state))
            missing += [item for _, item in page]
    about = _as_dict(found) | {"missing": [_item(item) for item in missing]}
    if as_json:
        console.give_json(about)
        return
    for name, value in about.items():
        if name != "missing":
            console.say(f"{name.replace('_', ' '):<16} {value}")
    lines = [tuple(_item(item).values()) for item in missing]
    if lines:
        console.say()
        console.give_table(("series", "instance", "state", "status", "said"), lines, "")


def _say_next(states: set[str]) -> None:
    """What somebody may do about it."""
    if "FAILED" in states:
        console.say(
            "\nFailed: radiolith outbox show ID says what is missing, again ID sends it, cancel ID gives it up."
        )
    if "HELD" in states:
        console.say("\nHeld: radiolith peer add makes the node known and it goes on; cancel ID gives it up.")


@app.command()
def again(
    context: typer.Context,
    id: Annotated[int | None, typer.Argument(metavar="ID", help="As `list` shows it.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Everything that failed.")] = False,
    peer: Annotated[str, typer.Option("--peer", metavar="NAME", help="With --all: only to this node.")] = "",
    as_json: options.AsJson = False,
) -> None:
    """Send what is missing of a transfer that failed, is held or was cancelled; of one that waits: now."""
    from radiolith.home import open_home

    if every == (id is not None) or (peer and not every):
        raise typer.BadParameter("give the ID of one transfer, or --all, with --peer NAME for one node")
    with open_home(context.obj) as home:
        numbers = [id] if id is not None else _failed(home, peer)
        verb = home.graph.traffic.outbox
        found = [home.run(verb.again(home.principal, number)) for number in numbers]
    if as_json:
        console.give_json([_as_dict(one) for one in found])
        return
    for one in found:
        console.say(f"{one.total - one.delivered} instances go to {one.peer} again (transfer {one.id}).")
    console.say(SERVER_SENDS if found else "No transfer has failed.")


def _failed(home: Home, peer: str) -> list[int]:
    """Numbers of all that failed, oldest first."""
    from radiolith.index.outbox import State

    verb, who = home.graph.traffic.outbox, home.principal
    numbers: list[int] = []
    while page := home.run(verb.list(who, PAGE, numbers[-1] if numbers else 0, states=[State.FAILED], peer=peer)):
        numbers += [one.id for one in page]
    return numbers[::-1]


@app.command()
def cancel(context: typer.Context, id: Id, as_json: options.AsJson = False) -> None:
    """Send nothing more of a transfer; one that failed is nobody's business any more. What has arrived stays there."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        found = home.run(home.graph.traffic.outbox.cancel(home.principal, id))
    if as_json:
        console.give_json(_as_dict(found))
        return
    console.say(f"Transfer {id} is cancelled; {found.delivered} of {found.total} instances are at {found.peer}.")


def _why(transfer: Transfer) -> str:
    word = {"RULE": "rule ", "MOVE": "C-MOVE of ", "NOTE": "note of "}.get(transfer.why.name, "")
    return f"{word}{transfer.ordered_by}"


def _as_dict(one: Transfer) -> dict[str, Any]:
    return {
        "id": one.id, "to": one.peer, "study": one.study, "ordered_by": _why(one), "state": one.state.name.lower(),
        "said": one.said, "instances": one.total, "delivered": one.delivered, "failed": one.failed,
        "priority": one.priority.name.lower(), "transfer_syntax": one.syntax, "attempts": one.attempts,
        "next_try": _moment(one.next_at) if one.state < 3 else "", "ordered_at": _moment(one.created_at),
        "changed_at": _moment(one.changed_at),
    }  # fmt: skip


def _lag(lag: Lag) -> dict[str, Any]:
    return {
        "to": lag.peer, "transfers": lag.transfers, "instances": lag.instances,
        "since": _moment(lag.oldest) if lag.transfers else "", "said": lag.said, "failed": lag.failed,
    }  # fmt: skip


def _item(item: Item) -> dict[str, Any]:
    return {
        "series": item.identity.series, "instance": item.identity.sop, "state": item.state.name.lower(),
        "status": f"{item.status:04X}" if item.status else "", "said": item.said,
    }  # fmt: skip


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat(timespec="seconds")
