"""`radiolith token`: a bearer token for a program."""

from __future__ import annotations

from typing import Annotated

import typer

from radiolith.cli import console, options


def token(
    home: options.Home,
    role: options.Role,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What it is for; shows in the audit trail.")
    ] = "token",
) -> None:
    """Print a new bearer token. It is shown once and kept only as a hash."""
    from radiolith import app

    with app.open_home(home) as opened:
        secret = opened.run(opened.accounts.add_token(opened.principal, name, role))
    console.give(secret)
