"""`radiolith history`: who changed what, when and why, from which source it came, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import console, options
from radiolith.cli.deciding import Issuer, key, moment, opened, take_home, told

if TYPE_CHECKING:
    from radiolith.archive.account import Happening
    from radiolith.model import Held

app = typer.Typer(help="Who changed what, when and why.", no_args_is_help=True)
app.callback()(take_home)
Instance = Annotated[str, typer.Argument(metavar="INSTANCE", help="SOP Instance UID.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="As `history instance` lists it.")]


@app.command()
def study(
    context: typer.Context,
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID, any it has or had.")],
    as_json: options.AsJson = False,
) -> None:
    """All that happened to a study, oldest first."""
    with opened(context) as home:
        _tell(home.run(home.graph.decisions.history.of_study(home.principal, study)), as_json=as_json)


@app.command()
def patient(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="Patient ID.")],
    issuer: Issuer = "",
    as_json: options.AsJson = False,
) -> None:
    """What was said about a patient, oldest first."""
    with opened(context) as home:
        _tell(home.run(home.graph.decisions.history.of_patient(home.principal, key(id, issuer))), as_json=as_json)


@app.command()
def operations(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 50,
    after: Annotated[str, typer.Option("--after", metavar="OP", help="Those before this one.")] = "",
    as_json: options.AsJson = False,
) -> None:
    """What people decided, latest first."""
    with opened(context) as home:
        _tell(home.run(home.graph.decisions.history.operations(home.principal, limit, after)), as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    op: Annotated[str, typer.Argument(metavar="OP", help="The operation.")],
    as_json: options.AsJson = False,
) -> None:
    """One operation with all it said."""
    with opened(context) as home:
        _tell([home.run(home.graph.decisions.history.operation(home.principal, op))], as_json=as_json)


@app.command()
def instance(context: typer.Context, instance: Instance, as_json: options.AsJson = False) -> None:
    """Every version of an instance, and what was decided about it."""
    with opened(context) as home:
        found = home.run(home.graph.decisions.history.of_instance(home.principal, instance))
    if as_json:
        console.give_json(
            [
                {
                    "versions": [_version(held) for held in kept.versions],
                    "happened": [told(one) for one in kept.happened],
                }
                for kept in found
            ]
        )
        return
    for kept in found:
        where = kept.versions[0].identity
        console.say(f"study {where.study}, series {where.series}")
        for each in map(_version, kept.versions):
            console.say(f"{each['id']}  {each['standing']}".rstrip())
            console.say(
                f"    received {each['received_at']} from {each['source']}, {console.bytes_in_words(each['size'])}"
            )
        _lines(kept.happened)


def _version(held: Held) -> dict[str, Any]:
    from radiolith.archive.history import SHOWN_SUFFIX

    words = ["current"] if held.current else []
    words += ["same content in another syntax"] if held.encoding_of else []
    words += [f"rejected: {held.rejected}"] if held.rejected else []
    words += [f"corrected, see {held.blob.object_id.hex()[:8]}…{SHOWN_SUFFIX}"] if held.overlay else []
    home = held.home or held.identity
    return {
        "id": held.blob.object_id.hex(), "received_at": moment(held.received_at),
        "source": f"{held.source.door} {held.source.peer} {held.source.address}".strip(), "size": held.layout.original_size,
        "sha256": held.sha256.hex(), "received_study": home.study, "received_series": home.series,
        "current": held.current, "corrected": held.overlay is not None, "standing": ", ".join(words),
    }  # fmt: skip


@app.command("as-of")
def as_of(
    context: typer.Context,
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID, as it was shown then.")],
    at: Annotated[
        str, typer.Argument(metavar="MOMENT", help="2026-01-31, or 2026-01-31T12:00:00; UTC, or with a zone.")
    ],
    as_json: options.AsJson = False,
) -> None:
    """What a study showed at a moment: received until then, under the decisions that counted then."""
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(at)
    except ValueError:
        raise typer.BadParameter(f"'{at}' is no moment; one looks like 2026-01-31T12:00:00") from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    with opened(context) as home:
        found = home.run(home.graph.decisions.history.as_of(home.principal, study, int(when.timestamp() * 1_000_000)))
    rows = [
        {"series": held.identity.series, "instance": held.identity.sop, "version": held.blob.object_id.hex(),
         "rejected": held.rejected, "corrected": held.overlay is not None}
        for held in found.helds
    ]  # fmt: skip
    told_ = {name: {key: value for key, value in columns.items() if value} for name, columns in
             (("patient", found.patient), ("study", found.columns))}  # fmt: skip
    if as_json:
        console.give_json({"study": study, "at": moment(found.at), **told_, "instances": rows})
        return
    for name, columns in told_.items():
        console.say(f"{name}: {', '.join(f'{key} {value}' for key, value in columns.items())}")
    series: dict[str, int] = {}
    for held in found.helds:
        series[held.identity.series] = series.get(held.identity.series, 0) + (not held.rejected)
    console.give_table(("series", "instances"), sorted(series.items()), "Nothing was shown.")


@app.command()
def difference(
    context: typer.Context,
    instance: Instance,
    one: Version,
    other: Annotated[str, typer.Argument(metavar="VERSION", help="With '-shown' behind: with its corrections.")],
    as_json: options.AsJson = False,
) -> None:
    """What changes from one version to the other."""
    with opened(context) as home:
        found = home.run(home.graph.decisions.history.difference(home.principal, instance, one, other))
    if as_json:
        changes = [
            {"tag": each.tag, "attribute": each.keyword, "old": each.old, "new": each.new} for each in found.changes
        ]
        console.give_json({"changes": changes, "pixels": found.pixels})
        return
    rows = [(each.keyword, each.old or "(none)", each.new or "(none)") for each in found.changes]
    console.give_table(("attribute", "before", "after"), rows, "The headers say the same.")
    console.say(f"Pixels: {found.pixels}")


@app.command()
def content(
    context: typer.Context,
    instance: Instance,
    version: Version,
    target: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Where the file goes.")],
) -> None:
    """Write the exact bytes received of one version to DIR/VERSION.dcm."""
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{version}.dcm"
    with opened(context) as home:

        async def copy() -> int:
            stream = await home.graph.decisions.history.content(home.principal, instance, version)
            size = 0
            with closing(path.open("xb")) as file:
                async for chunk in stream.chunks():
                    size += file.write(chunk)
            return size

        size = home.run(copy())
    console.say(f"{console.bytes_in_words(size)} in {path}")


def _tell(found: Sequence[Happening], *, as_json: bool) -> None:
    if as_json:
        console.give_json([told(one) for one in found])
        return
    if not found:
        console.say("Nothing was decided.")
    _lines(found)


def _lines(found: Sequence[Happening]) -> None:
    for one in found:
        undone = f"  (undone {moment(one.undone_at)} by {one.undone_by})" if one.undone else ""
        reason = f": {one.reason}" if one.reason else ""
        where = f" from {one.source}" if one.source else ""
        console.say(f"{moment(one.at)}  {one.kind} by {one.by or 'somebody'}{where}{reason}{undone}")
        for line in one.lines:
            console.say(f"    {line}")
        if one.op:
            console.say(f"    operation {one.op}")
