"""What is declared: the tables of the running code, collected once.

Owns: where each table comes from. Must never: name a SOP class, a transfer syntax or a resource itself.

What the archive asks of others is said by the modules that ask: a constant PROPOSES, (request, SOP class) -> transfer
syntaxes, in any module of `dimse`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radiolith import config, dimse
from radiolith.config import Settings
from radiolith.dicom import dictionary
from radiolith.dicomweb import capabilities, routes
from radiolith.dimse import services
from radiolith.dimse.association import Offer
from radiolith.dimse.commands import COMMANDS

STORE = "C-STORE"


@dataclass(frozen=True, slots=True)
class Declared:
    """`served`: SOP class -> requests ('C-FIND') that are answered; `proposed`: (request, SOP class) -> syntaxes."""

    settings: Settings
    offer: Offer
    served: Mapping[str, tuple[str, ...]]
    proposed: Mapping[tuple[str, str], tuple[str, ...]]
    resources: Sequence[Mapping[str, Any]]

    def requests(self, sop_class: str) -> tuple[str, ...]:
        """What a peer may ask of us; a class without a row of its own is one of storage, which streams."""
        return self.served.get(sop_class) or (STORE,)

    def classes(self, request: str) -> list[str]:
        """SOP classes that are accepted for a request, in the order of the offer."""
        return [uid for uid, accepts in self.offer.accepts.items() if accepts.scp and request in self.requests(uid)]

    def asked(self, request: str) -> list[str]:
        """SOP classes of which we ask this of others, on associations that we open."""
        return [uid for name, uid in self.proposed if name == request]

    def all_requests(self) -> list[str]:
        """Every DIMSE request that is answered or made: verification and storage first, then in the order of PS3.7."""
        names = {name for uid in self.offer.accepts for name in self.requests(uid)}
        names |= {name for name, _ in self.proposed}
        order = ["C-ECHO", STORE, "C-FIND", "C-MOVE", *(spec.name.removesuffix("-RQ") for spec in COMMANDS.values())]
        return sorted(names, key=order.index)


def defaults() -> Settings:
    """Settings of which nothing was changed."""
    return config.resolve(Path("/"), {}, {})


def declared(settings: Settings | None = None) -> Declared:
    """What the code does with these settings; with the defaults where there are none."""
    settings = settings or defaults()
    offer = services.offer(settings.dimse.pdu_bytes, settings.dimse.unknown_classes)
    served: dict[str, tuple[str, ...]] = {}
    for field, sop_class in services.SERVICES:
        served[sop_class] = (*served.get(sop_class, ()), COMMANDS[field].name.removesuffix("-RQ"))
    described: Any = capabilities.plain("", routes.ROUTES)
    return Declared(settings, offer, served, dict(_proposed()), described["resources"])


def _proposed() -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    for module in pkgutil.iter_modules(dimse.__path__):
        table: Mapping[tuple[str, str], tuple[str, ...]] = getattr(
            importlib.import_module(f"{dimse.__name__}.{module.name}"), "PROPOSES", {}
        )
        for (request, sop_class), syntaxes in table.items():
            yield (request.removesuffix("-RQ"), sop_class), syntaxes


def name(uid: str) -> str:
    """The name of PS3.6, without the words that every one has."""
    return dictionary.uid_name(uid).removesuffix(" SOP Class")
