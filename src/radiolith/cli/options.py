"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radiolith.trust.access import ROLES


def _known_role(role: str) -> str:
    if role not in ROLES:
        raise typer.BadParameter(f"there is no role '{role}'; there are: {', '.join(ROLES)}")
    return role


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise typer.BadParameter(f"'{text}' is no address; one looks like 127.0.0.1:8050")
    return text


Home = Annotated[
    Path,
    typer.Option("--home", metavar="DIR", envvar="RADIOLITH_HOME", file_okay=False, help="The home of the archive."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for a script.")]
Role = Annotated[str, typer.Option("--role", callback=_known_role, help=f"One of: {', '.join(ROLES)}.")]
RoleOrNone = Annotated[
    str | None,
    typer.Option("--role", callback=lambda role: role and _known_role(role), help=f"One of: {', '.join(ROLES)}."),
]
Http = Annotated[
    str | None,
    typer.Option("--http", metavar="HOST:PORT", callback=_address, help="Where to listen, instead of the setting."),
]
