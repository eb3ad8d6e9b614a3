"""`radiolith demo`: a fresh archive with generated studies, running, in one command."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from radiolith import config
from radiolith.cli import console, logs, options

USER = "demo"
PORTS_TRIED = 20
"""Ports tried upwards from the default one, so that a demo starts beside whatever listens already."""


def demo(
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", file_okay=False, help="Where to make it; a temporary one otherwise."),
    ] = None,
    http: options.Http = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Worker processes.")] = None,
) -> None:
    """Make a fresh archive with sample studies, start it, print its address and a one-time password."""
    from radiolith import app

    logs.begin("warning")
    temporary = home is None
    place = Path(tempfile.mkdtemp(prefix="radiolith-demo-")) / "home" if home is None else home
    try:
        made = app.initialise(place)
        password = _fill(made.home)
        address = http or _free_address()
        console.say()
        console.say(f"  Radiolith is at   http://{address}/")
        console.say(f"  user              {USER}")
        console.say(f"  password          {password}   (made for this demo, printed only here)")
        console.say(f"  DICOMweb          http://{address}/dicom-web/")
        console.say(f"  home              {made.home}{'   (removed at the end)' if temporary else ''}")
        console.say()
        console.say("  Ctrl-C stops it.")
        code = app.serve(made.home, app.Doors(address), workers=workers)
    finally:
        if temporary:
            shutil.rmtree(place.parent, ignore_errors=True)
    raise typer.Exit(code)


def _fill(home: Path) -> str:
    """Generate the studies, import them, make the user; returns the password."""
    from radiolith import app
    from radiolith.cli.phantom import studies

    with tempfile.TemporaryDirectory(prefix="radiolith-studies-") as folder:
        with console.progress("Computing sample studies", "objects") as report:
            studies.generate(Path(folder), progress=lambda done, total: report(done, total, ""))
        with app.open_home(home) as opened:
            with console.progress("Importing them", "files") as report:
                summary = opened.import_paths([Path(folder)], lambda so_far: report(so_far.files, None, ""))
            password = opened.run(opened.accounts.add_user(opened.principal, USER, "admin"))
    console.say(f"{summary.stored} sample objects imported, {console.bytes_in_words(summary.bytes)}.")
    return password


def _free_address() -> str:
    """The default address, or the next port that nobody listens on."""
    default = config.Http()
    for port in range(default.port, default.port + PORTS_TRIED):
        with socket.socket() as probe:
            if probe.connect_ex((default.host, port)) != 0:
                return f"{default.host}:{port}"
    return f"{default.host}:0"
