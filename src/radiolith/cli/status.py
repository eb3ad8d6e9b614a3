"""`radiolith status`: green, amber or red, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from radiolith.cli import console, options

STYLES = {"green": "bold green", "amber": "bold yellow", "red": "bold red"}


def status(
    home: options.Home,
    as_json: options.AsJson = False,
    confirm_recovery_saved: Annotated[
        bool,
        typer.Option(
            "--confirm-recovery-saved", help="The recovery file lies in a safe place that is not this machine."
        ),
    ] = False,
    confirm_keyring_places: Annotated[
        bool,
        typer.Option("--confirm-keyring-places", help="Somebody has looked why a place of the keyring was lost."),
    ] = False,
) -> None:
    """How the archive is. Exit code 1 when it is red."""
    from radiolith.home import open_home

    with open_home(home) as opened:
        if confirm_recovery_saved:
            opened.confirm_recovery()
        if confirm_keyring_places:
            opened.confirm_keyring_places()
        found = opened.status()
    if as_json:
        console.give_json(found)
    else:
        _tell(found)
    if found["level"] == "red":
        raise typer.Exit(console.FAILED)


def _tell(found: Mapping[str, Any]) -> None:
    level = found["level"]
    console.out.print(level.upper(), style=STYLES.get(level, "bold"))
    for reason in found["reasons"]:
        console.say(f"  {reason['level']}: {reason['text']}")
    for name, value in _lines({key: value for key, value in found.items() if key not in ("level", "reasons", "at")}):
        console.say(f"{name:<24} {value}")


def _lines(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(name in words, value in words) of everything nested in `value`."""
    for key, inner in value.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(inner, Mapping):
            yield from _lines(inner, f"{name} ")  # pyright: ignore[reportUnknownArgumentType]
        elif key.endswith("bytes") and isinstance(inner, int):
            yield name.removesuffix(" bytes"), console.bytes_in_words(inner)
        elif isinstance(inner, int) and not isinstance(inner, bool):
            yield name, f"{inner:,}"
        else:
            yield name, str(inner)
