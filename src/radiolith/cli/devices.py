"""`radiolith devices`: who sends here, and what is odd about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options

if TYPE_CHECKING:
    from radiolith.index.devices import Device, Notice

NOTICES = 1000
"""Notices shown: more than anybody reads."""


def devices(
    home: options.Home,
    everything: Annotated[bool, typer.Option("--all", help="Also what was odd and is no more.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Who sends here, and what is odd about it: gaps, short series, silence, wrong clocks, new addresses and versions."""
    from radiolith.home import open_home

    with open_home(home) as opened:
        verb, who = opened.graph.traffic.devices, opened.principal
        known = opened.run(verb.list(who))
        odd = opened.run(verb.notices(who, NOTICES, settled=everything))
    if as_json:
        console.give_json({"devices": [_device(one) for one in known], "notices": [_notice(one) for one in odd]})
        return
    rows = [
        (one.peer, one.door, _moment(one.last_at), one.studies, one.instances, ", ".join(one.habits.addresses))
        for one in known
    ]
    columns = ("name", "door", "last heard", "completions", "instances", "addresses")
    console.give_table(columns, rows, "No device has sent anything yet.")
    if odd:
        console.say()
    for one in odd:
        settled = f" (settled {_moment(one.settled_at)})" if one.settled_at else ""
        console.say(f"{_moment(one.at)}  {one.peer}: {one.said}{settled}")


def _device(one: Device) -> dict[str, Any]:
    return {
        "name": one.peer, "door": one.door, "first_at": _moment(one.first_at), "last_at": _moment(one.last_at),
        "completions": one.studies, "instances": one.instances, "addresses": sorted(one.habits.addresses),
        "software": sorted(one.habits.software),
    }  # fmt: skip


def _notice(one: Notice) -> dict[str, Any]:
    return {
        "name": one.peer, "door": one.door, "kind": one.kind.name.lower(), "at": _moment(one.at), "said": one.said,
        "settled_at": _moment(one.settled_at) if one.settled_at else None,
    }  # fmt: skip


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat(timespec="seconds")
