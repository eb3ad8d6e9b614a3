"""Whom a command calls, and as whom: a peer by its name, or AET@HOST:PORT.

Owns: the reading of TARGET and of UIDs on the command line. Must never: connect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from radiolith.cli.options import aet_or_none
from radiolith.model import BadInput, NotFound

if TYPE_CHECKING:
    import ssl

    from radiolith.dimse.calls import Target
    from radiolith.home import Home

To = Annotated[
    str, typer.Argument(metavar="TARGET", help="A peer's name, or AET@HOST:PORT (with TLS: AET@HOST:PORT/tls).")
]
As = Annotated[
    str | None,
    typer.Option("--aet", metavar="AET", callback=aet_or_none, help="Our AE title, instead of the setting."),
]
Study = Annotated[list[str] | None, typer.Option("--study", metavar="UID", help="A study; may be given several times.")]
Series = Annotated[list[str] | None, typer.Option("--series", metavar="UID", help="Series of the one study.")]
Instance = Annotated[list[str] | None, typer.Option("--instance", metavar="UID", help="Instances of the one series.")]
_DIRECT = re.compile(
    r"(?P<aet>[^@\\]{1,16})@(?P<host>\[[0-9A-Fa-f:.]+\]|[^:@\s\[\]]+):(?P<port>[0-9]{1,5})(?P<tls>/tls)?"
)


def called(home: Home, words: str) -> Target:
    """Raises NotFound for a name that no peer has, BadInput for what is neither."""
    from radiolith.dimse.calls import Target
    from radiolith.dimse.delivery import target_of
    from radiolith.trust.certificates import Certificates

    def secured() -> ssl.SSLContext:
        return Certificates(home.settings.dimse).client()

    for peer in home.run(home.accounts.peers(home.principal)):
        if peer.name == words:
            return target_of(peer, secured() if peer.more.get("tls") else None)
    direct = _DIRECT.fullmatch(words)
    if direct is None or not 0 < int(direct["port"]) < 65536:
        if "@" in words:
            raise BadInput(f"'{words}' is no address of a DICOM node; one looks like ARCHIVE@192.0.2.1:104")
        raise NotFound(f"there is no peer '{words}': add it with `radiolith peer add`, or give AET@HOST:PORT")
    return Target(direct["aet"], direct["host"].strip("[]"), int(direct["port"]), secured() if direct["tls"] else None)


def title(home: Home, given: str | None) -> str:
    """Our AE title."""
    return given or home.settings.dimse.aet


def named(
    study: Sequence[str] | None, series: Sequence[str] | None, instance: Sequence[str] | None
) -> tuple[str, dict[str, str]]:
    """Query/Retrieve level and unique keys of what is to be retrieved (PS3.4 C.4.2.2.1). Raises BadInput."""
    studies, all_series, instances = list(study or ()), list(series or ()), list(instance or ())
    if not studies:
        raise BadInput("say which study: --study UID")
    if (all_series or instances) and len(studies) > 1:
        raise BadInput("series and instances are named in one study")
    if instances and len(all_series) != 1:
        raise BadInput("instances are named in one series: --study UID --series UID --instance UID")
    keys = {"StudyInstanceUID": "\\".join(studies)}
    if all_series:
        keys["SeriesInstanceUID"] = "\\".join(all_series)
    if instances:
        keys["SOPInstanceUID"] = "\\".join(instances)
    return ("IMAGE" if instances else "SERIES" if all_series else "STUDY"), keys
