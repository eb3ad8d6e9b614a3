"""`radiolith desk`: what is unclear, what is proposed and why, and how it is resolved."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options
from radiolith.cli.deciding import (
    DryRun,
    Expected,
    Issuer,
    New,
    PatientId,
    Reason,
    asked,
    key,
    moment,
    opened,
    take_home,
    tell,
)

if TYPE_CHECKING:
    from radiolith.archive.proposals import Case

app = typer.Typer(help="Unclear cases: list, look, resolve.", no_args_is_help=True)
app.callback()(take_home)
Key = Annotated[str, typer.Argument(metavar="KEY", help="As `list` shows it.")]


@app.command("list")
def list_(
    context: typer.Context,
    kind: Annotated[
        str, typer.Option("--kind", help="versions, mixed, foreign, inbox, emergency, stranger or unreadable.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 50,
    after: Annotated[str, typer.Option("--after", metavar="KEY", help="Those behind this one.")] = "",
    as_json: options.AsJson = False,
) -> None:
    """Open cases, each with a proposal."""
    with opened(context) as home:
        found = home.run(home.graph.decisions.desk.list(home.principal, kind, limit, after))
    if as_json:
        console.give_json([_as_dict(case) for case in found])
        return
    if not found:
        console.say("Nothing is unclear.")
    for case in found:
        console.say(f"{moment(case.since)}  {case.summary}: {case.proposal.words}")
        console.say(f"    {case.key}")
    if found:
        console.say("Why, and what can be answered: radiolith desk show KEY")


@app.command()
def show(context: typer.Context, key: Key, as_json: options.AsJson = False) -> None:
    """One case with its reasons and what can be answered."""
    with opened(context) as home:
        case = home.run(home.graph.decisions.desk.get(home.principal, key))
    if as_json:
        console.give_json(_as_dict(case))
        return
    console.say(f"{case.summary}, since {moment(case.since)}")
    for reason in case.reasons:
        console.say(f"  {reason}")
    if case.studies:
        console.say(f"  studies: {', '.join(case.studies)}")
    if case.people:
        console.say(f"  patients: {', '.join(map(str, case.people))}")
    for one in case.candidates:
        console.say(f"  perhaps {one.key} ({one.score}): {'; '.join(one.reasons)}")
    console.say(f"Proposal: {case.proposal.action}: {case.proposal.words}")
    console.say(f"Answer it: radiolith desk resolve '{case.key}' {'|'.join(case.answers)}")


@app.command()
def resolve(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    key_: Key,
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="adopt, assign, merge, link, keep, accept or reject.")
    ],
    patient: PatientId = "",
    issuer: Issuer = "",
    version: Annotated[
        str, typer.Option("--version", metavar="ID", help="Which version becomes the current one.")
    ] = "",
    new: New = False,
    name: Annotated[str, typer.Option("--name", help="Of a device that becomes a peer.")] = "",
    code: Annotated[
        str, typer.Option("--code", help="Why it is rejected: 113001, 113037, 113038 or 113039.")
    ] = "113038",
    reason: Reason = "",
    expected: Expected = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Answer a case."""
    from radiolith.archive.desk import Answer

    answer = Answer(action, key(patient, issuer) if patient else None, version, new, name, code)
    how = asked(reason, expected, dry_run=dry_run)
    with opened(context) as home:
        tell(home.run(home.graph.decisions.desk.resolve(home.principal, key_, answer, how)), as_json=as_json)


@app.command()
def undo(
    context: typer.Context,
    op: Annotated[str, typer.Argument(metavar="OP", help="The operation: 32 digits.")],
    reason: Reason = "",
    as_json: options.AsJson = False,
) -> None:
    """Take an answer back: the case is open again."""
    with opened(context) as home:
        tell(home.run(home.graph.decisions.desk.undo(home.principal, op, asked(reason))), as_json=as_json)


def _as_dict(case: Case) -> dict[str, Any]:
    return dataclasses.asdict(case) | {"since": moment(case.since), "answers": case.answers, "state": case.state}
