"""`radiolith token`: bearer tokens for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from radiolith.cli import console, options

app = typer.Typer(help="Bearer tokens for programs: with --role a new one is printed.", invoke_without_command=True)


@app.callback()
def token(
    context: typer.Context,
    home: options.Home,
    role: options.RoleOrNone = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What it is for; shows in the audit trail.")
    ] = "token",
) -> None:
    """Print a new bearer token. It is shown once and kept only as a hash."""
    context.obj = home
    if context.invoked_subcommand is not None:
        if role is not None:
            raise typer.BadParameter("--role is for a new token, without a command behind it")
        return
    if role is None:
        raise typer.BadParameter("give the role of the new token with --role, or say 'list' or 'revoke'")
    from radiolith.home import open_home

    with open_home(home) as opened:
        secret = opened.run(opened.accounts.add_token(opened.principal, name, role))
    console.give(secret)


@app.command("list")
def list_(context: typer.Context, as_json: options.AsJson = False) -> None:
    """The tokens there are, without their secrets."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        tokens = home.run(home.accounts.tokens(home.principal))
    rows = [
        {
            "id": one.id,
            "name": one.name,
            "role": one.role,
            "since": _day(one.at),
            "expires": _day(one.expires),
            "used": _day(one.used_at),
        }
        for one in sorted(tokens, key=lambda one: (one.name, one.at))
    ]
    if as_json:
        console.give_json(rows)
    else:
        lines = [tuple(value or "never" for value in row.values()) for row in rows]
        console.give_table(
            ("id", "name", "role", "since", "expires", "last used"), lines, "None yet: radiolith token --role ROLE"
        )


@app.command()
def revoke(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `list` shows it.")],
) -> None:
    """Take a program's access away. Running servers refuse the token within a second."""
    from radiolith.home import open_home

    with open_home(context.obj) as home:
        gone = home.run(home.accounts.revoke_token(home.principal, token))
    console.say(f"{gone.name} ({gone.id}) is revoked.")


def _day(at: int | None) -> str | None:
    """ISO 8601, to the second."""
    return datetime.fromtimestamp(at // 1_000_000, UTC).isoformat() if at else None
