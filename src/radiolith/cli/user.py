"""`radiolith user`: people who sign in to the pages."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from radiolith.cli import console, options

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
    """Add a person. Prints a password made for them, unless one was given."""
    from radiolith.home import open_home

    given = sys.stdin.readline().rstrip("\r\n") if password_stdin else ""
    if password_stdin and not given:
        raise typer.BadParameter("there is no password on the standard input")
    with open_home(context.obj) as home:
        password = home.run(home.accounts.add_user(home.principal, name, role, given))
    if password_stdin:
        console.complain(f"{name} may sign in.")
    else:
        console.complain(f"{name} may sign in with this password, shown only here:")
        console.give(password)


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Who may sign in."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        users = home.run(home.accounts.users(home.principal))
    rows = [(user.name, user.role, datetime.fromtimestamp(user.at / 1_000_000, UTC).date()) for user in users]
    if as_json:
        console.give_json([{"name": name, "role": role, "since": day} for name, role, day in rows])
    else:
        console.give_table(("name", "role", "since"), rows, "Nobody yet: radiolith user add NAME --role ROLE")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Take a person's access away, open sessions included."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        home.run(home.accounts.remove_user(home.principal, name))
    console.say(f"{name} may no longer sign in.")
