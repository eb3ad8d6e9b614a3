"""`radiolith serve`: run the archive until it is told to stop."""

from __future__ import annotations

from typing import Annotated

import typer

from radiolith import config
from radiolith.cli import logs, options


def serve(
    home: options.Home,
    http: options.Http = None,
    dimse: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to listen for DICOM; port 0 takes a free one.")
    ] = None,
    dimse_tls: Annotated[
        str | None, typer.Option("--dimse-tls", metavar="HOST:PORT", help="Where to listen for DICOM over TLS.")
    ] = None,
    aet: Annotated[str | None, typer.Option("--aet", metavar="AET", help="The AE title of this archive.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Worker processes.")] = None,
) -> None:
    """Run the archive. Stops cleanly on SIGTERM or Ctrl-C."""
    from radiolith import app

    logs.begin(config.load(home).log.level)
    raise typer.Exit(app.serve(home, app.Doors(http, dimse, aet, dimse_tls), workers=workers))
