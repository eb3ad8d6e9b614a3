"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from radiolith.trust.access import ROLES


def _known_role(role: str) -> str:
    if role not in ROLES:
        raise typer.BadParameter(f"there is no role '{role}'; there are: {', '.join(ROLES)}")
    return role


_AET = re.compile(r"[ -\[\]-~]{1,16}")  # PS3.5 6.2: up to 16 characters of the default repertoire, no backslash


def aet(text: str) -> str:
    """An AE title as it is given to an option."""
    if not _AET.fullmatch(text) or not text.strip():
        raise typer.BadParameter("an AE title has 1 to 16 printable ASCII characters, without a backslash")
    return text.strip()


def aet_or_none(text: str | None) -> str | None:
    return None if text is None else aet(text)


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
