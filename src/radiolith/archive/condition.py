"""How the archive is: what `radiolith status`, `/health/ready` and the start page say.

Owns: the judgement green, amber or red, with one sentence per reason. Must never: repair, or take longer than a second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from radiolith.archive import backlog
from radiolith.archive.accounts import Accounts
from radiolith.archive.backlog import Backlog
from radiolith.archive.reading import Reading
from radiolith.config import Settings
from radiolith.index import extras, facts, figures, segments
from radiolith.index.database import Database
from radiolith.index.session import Reader
from radiolith.metrics import Asked
from radiolith.model import Failure, Principal
from radiolith.storage.blobs import Log
from radiolith.storage.lost_places import LostPlaces
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit

NODE_SILENT = 120_000_000  # microseconds after which a node's word is too old
COUNTED = 30.0  # seconds the numbers of studies and instances are good for
FRESH = 2.0  # seconds an answer is good for: monitors of a fleet ask more often than anything changes


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked at."""

    settings: Settings
    database: Database
    store: Log
    accounts: Accounts
    reading: Reading
    lost: LostPlaces
    trail: ReadAudit
    clock: Callable[[], int]


class Condition:
    def __init__(self, watched: Watched):
        self._watched = watched
        self._known: tuple[float, dict[str, Any]] | None = None
        self._counted: tuple[float, dict[str, int]] | None = None
        self._backlog: Backlog | None = None  # of the last look

    async def problems(self) -> list[str]:
        """Why no work can be taken on, one sentence each; empty when it can."""
        return [reason["text"] for reason in (await self.status())["reasons"] if reason["level"] == "red"]

    async def status(self) -> dict[str, Any]:
        """Everything worth knowing, for people and for scripts."""
        if self._known is not None and time.monotonic() - self._known[0] < FRESH:
            return self._known[1]
        found = await self._watched.reading.run(self.look)
        self._known = (time.monotonic(), found)
        return found

    async def gauges(self) -> Asked:
        found = await self.status()
        held, level = found.get("held", {}), {"green": 0.0, "amber": 1.0, "red": 2.0}[found["level"]]
        return {
            "radiolith_condition": ("0 green, 1 amber, 2 red.", level),
            "radiolith_studies": ("Studies held.", float(held.get("studies", 0))),
            "radiolith_instances": ("Instances held.", float(held.get("instances", 0))),
            "radiolith_non_patient_instances": ("Non-patient instances held.", float(held.get("non_patient", 0))),
            "radiolith_quarantined": ("Objects in quarantine.", float(held.get("quarantined", 0))),
            **(self._backlog.gauges(found["at"]) if self._backlog else {}),
            **_filled(found.get("filled_in", {})),
        }

    def _held(self, read: Reader, tenant: int) -> dict[str, int]:
        """Counting reads a row per study: not for every monitor's question."""
        if self._counted is None or time.monotonic() - self._counted[0] > COUNTED:
            self._counted = (time.monotonic(), figures.held(read, tenant))
        return self._counted[1]

    def lost_places(self) -> list[str]:
        """A sentence for each place of the keyring that had to be made again, until `confirm_places`. Blocks."""
        try:
            known = self._watched.lost.known()
        except OSError as error:
            return [f"the home cannot be read: {error.strerror}"]
        return [
            f"the keyring's place {one.place} was missing or damaged on {_day(one.at)} and was made again from the others; look"
            " why, then say so with radiolith status --confirm-keyring-places"
            for one in known
        ]

    async def confirm_places(self, principal: Principal) -> None:
        """Somebody has looked after the places that were lost. On record before they are forgotten."""
        require(principal, Action.ACCOUNTS)
        known = await self._watched.reading.run(self._watched.lost.known)
        if known:
            await self._watched.trail.note(principal, "", "keyring places", len(known), action="confirm-keyring-places")
            await self._watched.reading.run(self._watched.lost.seen_to)

    def look(self) -> dict[str, Any]:
        """Blocks."""
        watched = self._watched
        reasons: list[dict[str, str]] = []
        held: dict[str, int] = {}
        filled: dict[str, str] = {}
        self._backlog = None
        try:
            who = watched.accounts.system("status")
            with watched.database.read() as read:
                held = self._held(read, who.tenant.id)
                self._backlog = backlog.look(read, who.tenant.id)
                filled = {fill.name: f"{int(fill.share * 100)} %" for fill in extras.fills(read)}
                reasons += map(_amber, self._backlog.reasons())
                if not figures.recovery_confirmed(read, who.tenant.id):
                    reasons.append(_amber(
                        "nobody has confirmed that the recovery file is in a safe place; without it a lost root key means"
                        " lost images (radiolith status --confirm-recovery-saved)"
                    ))  # fmt: skip
                if facts.unknown(read):
                    reasons.append(
                        _amber("the log holds decisions of a newer version that this one does not understand")
                    )
        except Failure as failure:
            reasons.append(_red(f"the index cannot be reached: {failure}"))
        try:
            watched.store.backend.check_space()
        except Failure as failure:
            reasons.append(_red(str(failure)))
        try:
            with watched.database.read() as read:
                for node in segments.nodes(read, since=watched.clock() - NODE_SILENT):
                    reasons += [_red(problem) for problem in json.loads(node.body or "{}").get("problems", [])]
        except Failure:
            pass  # told above
        reasons += [_amber(text) for text in self.lost_places()]
        if held.get("conflicts"):
            reasons.append(_amber(f"{held['conflicts']} instances wait for a choice between two contents"))
        reasons.append(_amber("one copy of each object is kept; add a backup or a mirror"))
        levels = [reason["level"] for reason in reasons]
        return {
            "level": "red" if "red" in levels else "amber" if "amber" in levels else "green",
            "reasons": reasons,
            "home": str(watched.settings.home),
            "held": held,
            **(self._backlog.as_status(watched.clock()) if self._backlog else {}),
            **({"filled_in": filled} if filled else {}),
            "storage": watched.store.status(),
            "at": watched.clock(),
        }


def _filled(shares: dict[str, str]) -> Asked:
    """How far attributes that became searchable are filled in, all together."""
    if not shares:
        return {}
    share = sum(int(text.partition(" ")[0]) for text in shares.values()) / len(shares) / 100
    return {"radiolith_index_filled_ratio": ("Share of what is held that index.attributes are filled in for.", share)}


def _day(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).date().isoformat()


def _amber(text: str) -> dict[str, str]:
    return {"level": "amber", "text": text}


def _red(text: str) -> dict[str, str]:
    return {"level": "red", "text": text}
