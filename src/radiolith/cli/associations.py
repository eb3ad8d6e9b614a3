"""`radiolith associations`: what happened when devices called or were called, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options

if TYPE_CHECKING:
    from radiolith.archive.associations import Association

app = typer.Typer(
    help="What happened when devices called or were called: the newest first.", invoke_without_command=True
)


@app.callback()
def associations(
    context: typer.Context,
    home: options.Home,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 20,
    problems: Annotated[bool, typer.Option("--problems", help="Only those on which something did not work.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """The last associations that have ended; `show` explains one."""
    context.obj = home
    if context.invoked_subcommand is not None:
        return
    from radiolith.home import open_home

    with open_home(home) as opened:
        found = opened.run(opened.graph.associations.latest(opened.principal, limit, problems=problems))
    if as_json:
        console.give_json([_plain(each) for each in found])
        return
    columns = ("id", "when (UTC)", "", "from, to, address", "requests", "what happened")
    console.give_table(columns, [_line(each) for each in found], "No device has called or was called yet.")
    if any(each.hints for each in found):
        console.say("\nWhat to do: radiolith associations show ID")


@app.command()
def show(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="As the list has it; the newest without one.")] = "",
    as_json: options.AsJson = False,
) -> None:
    """One association: what was proposed, accepted and refused, what was answered, and what to do."""
    from radiolith.home import open_home

    with open_home(context.obj) as opened:
        found = opened.run(opened.graph.associations.one(opened.principal, id))
    if as_json:
        console.give_json(_plain(found))
        return
    for line in described(found):
        console.say(line)


def _plain(found: Association) -> dict[str, Any]:
    return {"id": found.id, "problem": found.problem, "hints": found.hints, **found.trace}


def _line(found: Association) -> tuple[object, ...]:
    from radiolith.archive.associations import failures

    trace = found.trace
    count = sum(each["count"] for each in trace["operations"])
    who = f"{trace['calling'] or '?'} to {trace['called'] or '?'}, {trace['address']}"
    happened = dict.fromkeys((trace["outcome"], trace["end"]))
    if trace.get("rejection"):
        happened.pop("rejected", None)  # the outcome has it with its reason
    words = "; ".join([*failures(trace), *happened])
    return found.id, _moment(trace["at"]), "out" if _outgoing(trace) else "in", who, count, words


def described(found: Association) -> list[str]:
    """The lines of `show`."""
    trace = found.trace
    seconds = max(0, trace["ended_at"] - trace["at"]) / 1_000_000
    largest = trace["pdu_bytes"]
    calling, called = trace["calling"] or "nobody", trace["called"] or "nothing"
    who = f"{calling} called {called} at" if _outgoing(trace) else f"{calling} called {called}, from"
    whom = ("peer      ", "not by its name") if _outgoing(trace) else ("let in as ", "nobody")
    lines = [
        f"{who} {trace['address']}, {_moment(trace['at'])} UTC",
        f"  outcome      {trace['outcome']}",
        *([f"  rejection    {trace['rejection']}"] if trace.get("rejection") else []),
        f"  end          {trace['end']}, after {seconds:.3f} s and {console.bytes_in_words(trace['received_bytes'])}",
        f"  {whom[0]}   {trace['principal'] or whom[1]}",
        f"  its software {trace['implementation'] or 'not said'}; PDUs it takes: {f'{largest} bytes' if largest else 'any'}",
    ]
    if trace.get("tls"):
        lines.append(f"  TLS          its certificate: {', '.join(trace['names']) or 'none'}")
    if trace["contexts"]:
        lines.append("  proposed:")
    for context in trace["contexts"]:
        mark = "+" if context["result"] == "acceptance" else "-"
        why = "" if mark == "+" else f": {context['result']}"
        lines.append(f"    {mark} {context['service']} in {context['syntax']}{why}")
    if trace["operations"]:
        lines.append("  answered:")
    lines += [f"    {each['count']:>6} {each['operation']} {each['status']}" for each in trace["operations"]]
    return [*lines, *(f"  > {hint}" for hint in found.hints)]


def _outgoing(trace: Mapping[str, Any]) -> bool:
    return trace.get("direction") == "outgoing"


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
