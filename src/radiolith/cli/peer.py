"""`radiolith peer`: DICOM nodes this archive knows."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from radiolith.cli import calling, console, options

app = typer.Typer(help="DICOM nodes this archive knows.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called here.")]


@app.callback()
def _home(context: typer.Context, home: options.Home) -> None:
    context.obj = home


@app.command()
def add(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    name: Name,
    aet: Annotated[
        str, typer.Option("--aet", metavar="AET", callback=options.aet, help="Its application entity title.")
    ],
    address: Annotated[str, typer.Option("--address", metavar="HOST", help="Its host name or IP address.")],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Its TCP port.")],
    tls: Annotated[bool, typer.Option("--tls", help="It speaks DICOM over TLS.")] = False,
    commitment: Annotated[
        bool,
        typer.Option("--commitment", help="What is sent to it counts as delivered when it has committed to keep it."),
    ] = False,
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
        home.run(home.accounts.add_peer(home.principal, name, about))
    console.say(f"{name} is {aet} at {address}:{port}{' with TLS' if tls else ''}.")


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """The nodes known."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        peers = home.run(home.accounts.peers(home.principal))
    fields = ("aet", "address", "port", "tls", "commitment", "quiet")
    rows = [{"name": peer.name} | {field: peer.more.get(field) for field in fields} for peer in peers]
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
