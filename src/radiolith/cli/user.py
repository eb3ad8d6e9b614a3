"""`radiolith user`: people who sign in to the pages."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from radiolith.cli import console, options

PASSWORD_LENGTH_MIN = 12
"""Characters, as NIST SP 800-63B asks of a password that stands alone (and a little more)."""

app = typer.Typer(help="People who sign in to the pages.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name to sign in with.")]


@app.callback()
def _home(context: typer.Context, home: options.Home) -> None:
    context.obj = home


@app.command()
def add(
    context: typer.Context,
    name: Name,
    role: options.Role,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the standard input.")
    ] = False,
) -> None:
    """Add a person, or give one a new password. Prints the password unless it was given."""
    from radiolith import app as archive

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else secrets.token_urlsafe(12)
    if len(password) < PASSWORD_LENGTH_MIN:
        raise typer.BadParameter(f"a password has {PASSWORD_LENGTH_MIN} characters or more")
    with archive.open_home(context.obj) as home:
        home.run(home.accounts.add_user(home.principal, name, role, password))
    if password_stdin:
        console.complain(f"{name} may sign in.")
    else:
        console.complain(f"{name} may sign in with this password, shown only here:")
        console.give(password)


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Who may sign in."""
    from radiolith import app as archive

    with archive.open_home(context.obj) as home:
        users = home.run(home.accounts.users(home.principal))
    rows = [(user.name, user.role, datetime.fromtimestamp(user.at / 1_000_000, UTC).date()) for user in users]
    if as_json:
        console.give_json([{"name": name, "role": role, "since": day} for name, role, day in rows])
    else:
        console.give_table(("name", "role", "since"), rows, "Nobody yet: radiolith user add NAME --role ROLE")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Take a person's access away, open sessions included."""
    from radiolith import app as archive

    with archive.open_home(context.obj) as home:
        home.run(home.accounts.remove_user(home.principal, name))
    console.say(f"{name} may no longer sign in.")
