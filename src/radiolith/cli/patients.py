"""`radiolith patients`: who is held, who might be the same person, and what a person says about that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options
from radiolith.cli.deciding import DryRun, Expected, Issuer, New, Reason, asked, key, opened, take_home, tell

if TYPE_CHECKING:
    from radiolith.archive.patients import Patient
    from radiolith.index.persons import Person

app = typer.Typer(help="Patients: find, merge, link, verify.", no_args_is_help=True)
app.callback()(take_home)
Id = Annotated[str, typer.Argument(metavar="ID", help="Patient ID.")]
Other = Annotated[str, typer.Argument(metavar="OTHER", help="The other patient ID.")]
OtherIssuer = Annotated[str, typer.Option("--other-issuer", metavar="NAME", help="Who assigned the other ID.")]


@app.command("list")
def list_(
    context: typer.Context,
    id: Annotated[str, typer.Option("--id", metavar="ID", help="Patient ID, of any issuer.")] = "",
    name: Annotated[str, typer.Option("--name", help="How the name begins, in any spelling.")] = "",
    birth_date: Annotated[str, typer.Option("--birth-date", metavar="YYYYMMDD")] = "",
    state: Annotated[str, typer.Option("--state", help="provisional, verified, foreign or merged.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 100,
    as_json: options.AsJson = False,
) -> None:
    """Patients of whom all that is asked holds, the one known last first."""
    from radiolith.archive.patients import Wanted

    if birth_date and (len(birth_date) != 8 or not birth_date.isdecimal()):
        raise typer.BadParameter("a birth date looks like 19650131")
    wanted = Wanted(id, name, int(birth_date) if birth_date else None, state)
    with opened(context) as home:
        found = home.run(home.graph.decisions.patients.search(home.principal, wanted, limit))
    if as_json:
        console.give_json([_person(one.person) | {"state": one.state} for one in found])
        return
    rows = [(one.key, one.person.name, _date(one.person.birth_date), one.person.sex, one.state) for one in found]
    console.give_table(("patient", "name", "born", "sex", "state"), rows, "No such patient.")


@app.command()
def show(context: typer.Context, id: Id, issuer: Issuer = "", as_json: options.AsJson = False) -> None:
    """One with all that is known of it, and its studies."""
    with opened(context) as home:
        found = home.run(home.graph.decisions.patients.get(home.principal, key(id, issuer)))
    if as_json:
        console.give_json(_as_dict(found))
        return
    person = found.person
    console.say(f"{found.key}  {person.name}  {_date(person.birth_date)} {person.sex}  {found.state}")
    for words, keys in (
        ("the same person as", found.linked),
        ("merged into it", found.merged),
        ("also known as", found.claimed),
    ):
        if keys:
            console.say(f"  {words}: {', '.join(map(str, keys))}")
    if found.into:
        console.say(f"  shown as {found.into}")
    rows = [(one.uid, _date(one.date), one.series, one.instances, one.description) for one in found.studies]
    console.give_table(
        ("study", "date", "series", "instances", "description"), rows, "Nothing is shown of this patient."
    )


@app.command()
def candidates(context: typer.Context, id: Id, issuer: Issuer = "", as_json: options.AsJson = False) -> None:
    """Who might be the same person, most likely first, with the reasons."""
    with opened(context) as home:
        found = home.run(home.graph.decisions.patients.candidates(home.principal, key(id, issuer)))
    if as_json:
        console.give_json([_person(one.person) | {"score": one.score, "reasons": one.reasons} for one in found])
        return
    rows = [
        (one.score, one.key, one.person.name, _date(one.person.birth_date), "; ".join(one.reasons)) for one in found
    ]
    console.give_table(("score", "patient", "name", "born", "reasons"), rows, "Nobody looks alike.")
    if found:
        console.say(
            "One person with two numbers: radiolith patients link. One number too many: radiolith patients merge."
        )


@app.command()
def merge(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="SOURCE", help="The patient that is shown under the other.")],
    other: Annotated[str, typer.Argument(metavar="TARGET", help="The patient that stays.")],
    issuer: Issuer = "",
    other_issuer: OtherIssuer = "",
    new: New = False,
    reason: Reason = "",
    expected: Expected = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Two patients are one; this is also how a patient gets another ID (--new)."""
    with opened(context) as home:
        verb, how = home.graph.decisions.amend, asked(reason, expected, dry_run=dry_run)
        done = home.run(verb.merge_patients(home.principal, key(id, issuer), key(other, other_issuer), how, new=new))
        tell(done, as_json=as_json)


@app.command()
def link(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    id: Id,
    other: Other,
    issuer: Issuer = "",
    other_issuer: OtherIssuer = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Two identifiers are one person's; both stay, no header changes."""
    with opened(context) as home:
        verb, how = home.graph.decisions.patients, asked(reason, dry_run=dry_run)
        tell(home.run(verb.link(home.principal, key(id, issuer), key(other, other_issuer), how)), as_json=as_json)


@app.command()
def unlink(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    id: Id,
    other: Other,
    issuer: Issuer = "",
    other_issuer: OtherIssuer = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """They are not."""
    with opened(context) as home:
        verb, how = home.graph.decisions.patients, asked(reason, dry_run=dry_run)
        tell(home.run(verb.unlink(home.principal, key(id, issuer), key(other, other_issuer), how)), as_json=as_json)


@app.command()
def state(
    context: typer.Context,
    id: Id,
    state: Annotated[str, typer.Argument(metavar="STATE", help="provisional, verified or foreign.")],
    issuer: Issuer = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Say whether somebody made sure who this is."""
    with opened(context) as home:
        verb, how = home.graph.decisions.patients, asked(reason, dry_run=dry_run)
        tell(home.run(verb.set_state(home.principal, key(id, issuer), state, how)), as_json=as_json)


def _date(date: int | None) -> str:
    return f"{date:08d}" if date else ""


def _person(person: Person) -> dict[str, Any]:
    return {
        "id": person.value, "issuer": person.issuer, "study": "" if person.value else person.study, "name": person.name,
        "birth_date": _date(person.birth_date), "sex": person.sex,
    }  # fmt: skip


def _as_dict(found: Patient) -> dict[str, Any]:
    return _person(found.person) | {
        "state": found.state,
        "studies": [{"study": one.uid, "date": _date(one.date), "instances": one.instances} for one in found.studies],
        "linked": [{"id": one.value, "issuer": one.issuer, "study": one.study} for one in found.linked],
        "merged": [{"id": one.value, "issuer": one.issuer, "study": one.study} for one in found.merged],
        "into": {"id": found.into.value, "issuer": found.into.issuer} if found.into else None,
    }
