"""`radiolith amend`: correct, move, merge, split, and take it back. The bytes received are never changed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from radiolith.cli import console, options
from radiolith.cli.deciding import DryRun, Expected, Issuer, New, PatientId, Reason, asked, key, opened, take_home, tell

app = typer.Typer(help="Correct, move, merge and split what is held, and take it back.", no_args_is_help=True)
app.callback()(take_home)
Study = Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID.")]
Op = Annotated[str, typer.Argument(metavar="OP", help="The operation: 32 digits, as it was told.")]


@app.command("set")
def set_(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE...", help="Keyword or tag; of a private one 'ggggxxee:CREATOR'. JSON is taken as such."
        ),
    ] = None,
    patient: PatientId = "",
    issuer: Issuer = "",
    study: Annotated[str, typer.Option("--study", metavar="UID", help="Correct this study.")] = "",
    series: Annotated[str, typer.Option("--series", metavar="UID", help="Correct this series of the study.")] = "",
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="NAME", help="Take an attribute away.")
    ] = None,
    reason: Reason = "",
    coerce: Annotated[bool, typer.Option("--coerce", help="No error: this house's rules (COERCE).")] = False,
    expected: Expected = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Correct attributes of a patient, a study or a series."""
    from radiolith.archive.subjects import of_patient, of_series, of_study

    if bool(patient) == bool(study) or (series and not study):
        raise typer.BadParameter("name --patient, or --study, or --study and --series")
    if patient:
        subject = of_patient(key(patient, issuer))
    else:
        subject = of_series(study, series) if series else of_study(study)
    how = asked(reason, expected, dry_run=dry_run, coerce=coerce)
    with opened(context) as home:
        verb = home.graph.decisions.amend
        tell(home.run(verb.change(home.principal, subject, _values(values or []), remove or [], how)), as_json=as_json)


def _values(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"'{pair}' is not NAME=VALUE; to take an attribute away use --remove NAME")
        try:
            found[name] = json.loads(value) if value[:1] in "{[" and value else value
        except ValueError:
            found[name] = value
    return found


@app.command("move-study")
def move_study(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    study: Study,
    patient: Annotated[str, typer.Option("--patient", metavar="ID", help="Whose study it is.")],
    issuer: Issuer = "",
    new: New = False,
    reason: Reason = "",
    expected: Expected = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """The study is another patient's."""
    with opened(context) as home:
        verb, how = home.graph.decisions.amend, asked(reason, expected, dry_run=dry_run)
        tell(home.run(verb.move_study(home.principal, study, key(patient, issuer), how, new=new)), as_json=as_json)


@app.command("move-series")
def move_series(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    study: Study,
    series: Annotated[str, typer.Argument(metavar="SERIES", help="Series Instance UID.")],
    to: Annotated[str, typer.Option("--to", metavar="STUDY", help="The study it belongs to.")],
    keep_uid: Annotated[bool, typer.Option("--keep-uid", help="Keep its UID, where that is free there.")] = False,
    reason: Reason = "",
    expected: Expected = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """The series belongs to another study, with all that still arrives for it."""
    with opened(context) as home:
        verb, how = home.graph.decisions.amend, asked(reason, expected, dry_run=dry_run)
        done = home.run(verb.move_series(home.principal, (study, series), to, how, keep_uid=keep_uid))
        tell(done, as_json=as_json)


@app.command("merge-studies")
def merge_studies(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The study that is shown in the other.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The study that stays.")],
    reason: Reason = "",
    expected: Expected = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Two studies are one."""
    with opened(context) as home:
        verb, how = home.graph.decisions.amend, asked(reason, expected, dry_run=dry_run)
        tell(home.run(verb.merge_studies(home.principal, source, target, how)), as_json=as_json)


@app.command()
def split(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    study: Study,
    series: Annotated[list[str] | None, typer.Option("--series", metavar="UID", help="All of this series.")] = None,
    instance: Annotated[
        list[str] | None, typer.Option("--instance", metavar="SERIES/INSTANCE", help="One instance, by both UIDs.")
    ] = None,
    new_study: Annotated[bool, typer.Option("--new-study", help="Into a new study of the same patient.")] = False,
    reason: Reason = "",
    expected: Expected = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Take instances or series out of where they are, into new ones."""
    pieces = [(uid, "") for uid in series or []]
    for pair in instance or []:
        above, slash, uid = pair.partition("/")
        if not slash or not above or not uid:
            raise typer.BadParameter(f"'{pair}' is not SERIES/INSTANCE")
        pieces.append((above, uid))
    with opened(context) as home:
        verb, how = home.graph.decisions.amend, asked(reason, expected, dry_run=dry_run)
        tell(home.run(verb.split(home.principal, study, pieces, how, new_study=new_study)), as_json=as_json)


@app.command()
def undo(context: typer.Context, op: Op, reason: Reason = "", as_json: options.AsJson = False) -> None:
    """What this operation said counts no more."""
    with opened(context) as home:
        tell(home.run(home.graph.decisions.amend.undo(home.principal, op, asked(reason))), as_json=as_json)


@app.command()
def redo(context: typer.Context, op: Op, reason: Reason = "", as_json: options.AsJson = False) -> None:
    """What was undone counts again."""
    with opened(context) as home:
        done = home.run(home.graph.decisions.amend.redo(home.principal, op, asked(reason)))
    if as_json:
        tell(done, as_json=True)
    else:
        console.say(f"{done.summary}\nTo take it back: radiolith amend undo {op}")
