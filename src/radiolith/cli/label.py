"""`radiolith label`: words and key=value pairs on patients, studies and series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from radiolith.cli import console, options
from radiolith.cli.deciding import Issuer, PatientId, Reason, asked, opened, take_home

if TYPE_CHECKING:
    from radiolith.archive.labels import Used
    from radiolith.archive.subjects import Subject

PAGE = 500
"""Entries asked for at a time."""

app = typer.Typer(help="Words and NAME=VALUE on patients, studies and series.", no_args_is_help=True)
app.callback()(take_home)
Text = Annotated[str, typer.Argument(metavar="LABEL", help="A word, or NAME=VALUE.")]
Studies = Annotated[list[str] | None, typer.Option("--study", metavar="UID", help="A study; may be repeated.")]
Series = Annotated[
    str, typer.Option("--series", metavar="UID", help="A series of the study that --study names, instead of it.")
]


def _subjects(studies: list[str] | None, series: str, patient: str, issuer: str) -> list[Subject]:
    from radiolith.archive.subjects import PatientKey, of_patient, of_series, of_study

    named = [of_study(one) for one in studies or []]
    if series:
        if len(named) != 1:
            raise typer.BadParameter("--series needs the one --study it belongs to")
        named = [of_series(named[0].study, series)]
    if patient:
        named.append(of_patient(PatientKey(patient, issuer)))
    if not named:
        raise typer.BadParameter("name what is meant with --study, --series or --patient")
    return named


@app.command()
def add(
    context: typer.Context,
    text: Text,
    study: Studies = None,
    series: Series = "",
    patient: PatientId = "",
    issuer: Issuer = "",
    reason: Reason = "",
) -> None:
    """Put a label on something. Another value under the same name replaces it."""
    _say(context, text, _subjects(study, series, patient, issuer), reason, gone=False)


@app.command()
def remove(
    context: typer.Context,
    text: Text,
    study: Studies = None,
    series: Series = "",
    patient: PatientId = "",
    issuer: Issuer = "",
    reason: Reason = "",
) -> None:
    """Take a label away."""
    _say(context, text, _subjects(study, series, patient, issuer), reason, gone=True)


def _say(context: typer.Context, text: str, subjects: list[Subject], reason: str, *, gone: bool) -> None:
    with opened(context) as home:
        verbs = home.graph.decisions.labels
        verb = verbs.take if gone else verbs.put
        done = home.run(verb(home.principal, subjects, text, asked(reason)))
    console.say(f"{done.summary[:1].upper()}{done.summary[1:]}. To take that back: radiolith label undo {done.op}")


@app.command()
def undo(
    context: typer.Context,
    op: Annotated[str, typer.Argument(metavar="OPERATION", help="As add and remove named it.")],
    again: Annotated[bool, typer.Option("--again", help="Make it count again.")] = False,
) -> None:
    """Take back what one add or remove did."""
    with opened(context) as home:
        done = home.run(home.graph.decisions.labels.undo(home.principal, op, again=again))
    console.say(f"{done.summary[:1].upper()}{done.summary[1:]}.")


@app.command()
def show(
    context: typer.Context,
    study: Studies = None,
    series: Series = "",
    patient: PatientId = "",
    issuer: Issuer = "",
    as_json: options.AsJson = False,
) -> None:
    """The labels of one patient, study or series."""
    subjects = _subjects(study, series, patient, issuer)
    if len(subjects) != 1:
        raise typer.BadParameter("name one patient, study or series")
    with opened(context) as home:
        found = [str(one) for one in home.run(home.graph.decisions.labels.of(home.principal, subjects[0]))]
    if as_json:
        console.give_json(found)
        return
    for one in found:
        console.give(one)


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Labels in use, and how many patients, studies and series carry each."""
    found: list[Used] = []
    with opened(context) as home:
        verb = home.graph.decisions.labels
        while page := home.run(verb.used(home.principal, PAGE, found[-1].label if found else None)):
            found += page
    if as_json:
        console.give_json([{"label": str(one.label), "count": one.count} for one in found])
        return
    console.give_table(("label", "carried by"), [(str(one.label), one.count) for one in found], "No labels yet.")
