"""`radiolith peer`: DICOM nodes this archive knows."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Annotated

import typer

from radiolith.cli import calling, console, options

app = typer.Typer(help="DICOM nodes this archive knows.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called here.")]


@app.callback()
def _home(context: typer.Context, home: options.Home) -> None:
    context.obj = home


def _notes(which: str) -> str:
    from radiolith.policies.rejections import NOTES

    if which and which not in NOTES:
        raise typer.BadParameter(f"one of: {', '.join(NOTES)}")
    return which


Rejects = Annotated[bool, typer.Option("--rejects", help="Its rejection notes are obeyed (IHE IOCM).")]
Notes = Annotated[
    str,
    typer.Option(
        "--notes",
        metavar="WHICH",
        callback=_notes,
        help="What it is told of what it got from us: 'rejected' instances, 'all' (restored ones too), 'none'.",
    ),
]


@app.command()
def add(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    name: Name,
    aet: Annotated[
        str, typer.Option("--aet", metavar="AET", callback=options.aet, help="Its application entity title.")
    ],
    address: Annotated[
        str,
        typer.Option(
            "--address", metavar="HOST", help="Host name or IP address; a network (10.0.0.0/24) for calls from it."
        ),
    ],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Its TCP port.")],
    tls: Annotated[bool, typer.Option("--tls", help="It speaks DICOM over TLS.")] = False,
    certificate: Annotated[
        str, typer.Option("--certificate", metavar="NAME", help="A name in its certificate, if not its address.")
    ] = "",
    commitment: Annotated[
        bool,
        typer.Option("--commitment", help="What is sent to it counts as delivered when it has committed to keep it."),
    ] = False,
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="What it may do: 'editor' everything, 'reader', 'writer'.")
    ] = "",
    services: Annotated[
        str, typer.Option("--services", metavar="LIST", help="All it may ask for: 'echo,store,find,move,get,commit'.")
    ] = "",
    notify: Annotated[
        bool, typer.Option("--notify", help="It is told of every study that is complete (Instance Availability).")
    ] = False,
    rejects: Rejects = False,
    notes: Notes = "",
    syntax: Annotated[
        str, typer.Option("--syntax", metavar="UID", help="Transfer syntax to send in where it can be made.")
    ] = "",
    charset: Annotated[
        str, typer.Option("--charset", metavar="TERM", help="Character set of answers to its queries: 'ISO_IR 192'.")
    ] = "",
    complete_after: Annotated[
        int | None,
        typer.Option(
            "--complete-after", metavar="SECONDS", min=1, max=86_400, help="A study from it is complete then."
        ),
    ] = None,
) -> None:
    """Add a node."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        about: dict[str, object] = {"aet": aet, "address": address, "port": port, "tls": tls}
        about |= {"commitment": True} if commitment else {}
        about |= {"quiet": complete_after} if complete_after else {}
        wishes: dict[str, object] = {"role": role, "services": services, "notify": notify, "syntax": syntax}
        wishes |= {"charset": charset, "certificate": certificate, "rejects": rejects, "notes": notes}
        about |= {wish: value for wish, value in wishes.items() if value}
        home.run(home.accounts.add_peer(home.principal, name, about))
    console.say(f"{name} is {aet} at {address}:{port}{' with TLS' if tls else ''}.")


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """The nodes known."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        peers = home.run(home.accounts.peers(home.principal))
    fields = (
        "aet",
        "address",
        "port",
        "tls",
        "commitment",
        "quiet",
        "role",
        "services",
        "notify",
        "rejects",
        "notes",
        "syntax",
        "charset",
        "certificate",
    )
    rows = [
        {"name": peer.name} | {field: peer.more.get(field) for field in fields[:4]}
        | {field: peer.more[field] for field in fields[4:] if field in peer.more}
        for peer in peers
    ]  # fmt: skip
    if as_json:
        console.give_json(rows)
    else:
        lines = [(*tuple(row.values())[:4], "yes" if row["tls"] else "no") for row in rows]
        console.give_table(("name", "AE title", "address", "port", "TLS"), lines, "No nodes yet.")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Forget a node."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        home.run(home.accounts.remove_peer(home.principal, name))
    console.say(f"{name} is forgotten.")


@app.command()
def knocks(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Devices that called and are no nodes: for a day after `init` what they send is set aside, then they are refused."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        found = home.run(home.graph.peers.knocks(home.principal))
    if as_json:
        rows = [
            {
                "calling": one.caller.calling, "called": one.caller.called, "address": one.caller.address,
                "first_at": _moment(one.first_at), "last_at": _moment(one.last_at), "count": one.count,
                "admitted": one.admitted, "objects": one.objects,
            }
            for one in found
        ]  # fmt: skip
        console.give_json(rows)
        return
    lines = [
        (
            one.caller.calling, one.caller.address, one.caller.called, _moment(one.last_at), one.count,
            "set aside" if one.admitted else "refused", one.objects,
        )
        for one in found
    ]  # fmt: skip
    columns = ("AE title", "address", "called", "last", "calls", "it is", "objects set aside")
    console.give_table(columns, lines, "No unknown device has called.")


@app.command()
def accept(
    context: typer.Context,
    aet: Annotated[str, typer.Argument(metavar="AET", help="As `knocks` shows it.")],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What it is called here; else its AE title.")
    ] = "",
    address: Annotated[str, typer.Option("--address", metavar="IP", help="Which one, where several call so.")] = "",
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="The TCP port it listens at; else 104, with TLS 2762."),
    ] = None,
    tls: Annotated[
        bool | None, typer.Option("--tls/--no-tls", help="It speaks DICOM over TLS; else as it did when it called.")
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(
            "--certificate", metavar="NAME", help="A name in its certificate; else one of that it showed; '' for none."
        ),
    ] = None,
) -> None:
    """Make a device that called a node, and keep what was set aside from it as images."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        said = {"port": port, "tls": tls, "certificate": certificate}
        about = {key: value for key, value in said.items() if value is not None}
        done = home.run(home.graph.peers.accept(home.principal, aet, name=name, address=address, about=about))
    known = f", known by the name {done.certificate} in its certificate" if done.certificate else ""
    console.say(f"{done.name} is {aet} at {done.address}:{done.port}{' with TLS' if done.tls else ''}{known}.")
    console.say(f"{done.received} objects set aside are kept now.")
    if done.left:
        console.say(f"{done.left} are in quarantine still, each for a reason of its own.")


@app.command()
def reports(context: typer.Context, as_json: options.AsJson = False) -> None:
    """What nodes were to be told and have not taken: results of storage commitment, studies that are complete."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        found = home.run(home.graph.peers.reports(home.principal, 1000))
    rows = [
        {
            "id": one.id, "kind": one.kind.name.lower(), "subject": one.subject, "aet": one.to.aet,
            "state": one.state.name.lower().replace("_", " "), "attempts": one.attempts,
            "next_at": _moment(one.next_at) if not one.ended_at else None, "said": one.said,
        }
        for one in found
    ]  # fmt: skip
    if as_json:
        console.give_json(rows)
        return
    fields = ("id", "kind", "aet", "state", "attempts", "next_at", "said")
    lines = [tuple(row[field] or "" for field in fields) for row in rows]
    console.give_table(("id", "what", "AE title", "state", "tries", "next", "why"), lines, "Everybody has been told.")
    if any(row["state"] == "given up" for row in rows):
        console.say("\nTell one again with radiolith peer again ID, or not at all with radiolith peer drop ID.")


ReportId = Annotated[int, typer.Argument(metavar="ID", help="As `reports` shows it.")]


@app.command()
def again(context: typer.Context, id: ReportId) -> None:
    """Tell a node once more what was given up, with all tries; what waits: now."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        found = home.run(home.graph.peers.report_again(home.principal, id))
    console.say(f"{found.to.aet} is told again by the running server, or when `radiolith serve` is started.")


@app.command()
def drop(context: typer.Context, id: ReportId) -> None:
    """Do not tell a node what it has not taken."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        found = home.run(home.graph.peers.drop_report(home.principal, id))
    console.say(f"{found.to.aet} is not told.")


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat(timespec="seconds")


@app.command()
def test(context: typer.Context, name: Name, aet: calling.As = None, as_json: options.AsJson = False) -> None:
    """Call a node, step by step: its name, the connection, the association, C-ECHO. Exit code 1 when one fails."""
    from radiolith.dimse.diagnosis import diagnose
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        target = calling.called(home, name)

        async def steps() -> bool:
            found = [step async for step in diagnose(target, calling.title(home, aet))]
            if as_json:
                console.give_json([dataclasses.asdict(step) for step in found])
            else:
                rows = [
                    (step.name, "good" if step.good else "failed", _spent(step.seconds), step.words) for step in found
                ]
                console.give_table(("step", "result", "time", "what"), rows, "Nothing was tried.")
            return found[-1].good

        good = home.run(steps())
    if not good:
        raise typer.Exit(console.FAILED)


def _spent(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
