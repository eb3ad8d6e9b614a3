"""Events, and following them across interruptions.

Owns: Event, and the file that remembers how far somebody is. Must never: skip an event because its work failed: the place moves
once the next event is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from radiolith.client.transport import ArchiveError, Transport

WAIT = 25  # seconds of one long poll, below what proxies allow
FIRST, LONGEST = 1.0, 60.0  # seconds between two tries while the archive cannot be reached
LATEST, RESTARTED = "latest", "restarted"


@dataclass(frozen=True)
class Event:
    """What happened (docs/changes.md). `kind` 'restarted': the archive's index was made again, and everything that is held is
    told once more. UIDs that the kind does not have are ''; `document` is the event as it came."""

    kind: str
    cursor: str
    number: int = 0
    at: datetime | None = None
    study: str = ""
    series: str = ""
    instance: str = ""
    document: dict[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def of(document: dict[str, Any]) -> Event:
        return Event(
            document["kind"],
            document["cursor"],
            document["number"],
            datetime.fromisoformat(document["at"]),
            document.get("study", ""),
            document.get("series", ""),
            document.get("instance", ""),
            document,
        )


def follow(
    transport: Transport,
    after: str,
    kinds: Sequence[str],
    remember: str | Path | None,
    sleep: Callable[[float], None] = time.sleep,
) -> Generator[Event]:
    """Events without end. Raises ArchiveError for what does not pass by itself: a token, a role, a kind there is not."""
    file = Path(remember) if remember else None
    if file is not None and file.exists():
        after = file.read_text("ascii").strip() or after
    pause = FIRST
    while True:
        # The place of 'latest' is asked for without waiting: an interruption then loses nothing that happens after it.
        query = {"after": after, "kinds": ",".join(kinds), "wait": 0 if after == LATEST else WAIT}
        try:
            answer = transport.json("GET", "/api/v1/changes", query=query)
        except ArchiveError as error:
            if not error.passes:
                raise
            sleep(pause)
            pause = min(LONGEST, pause * 2)
            continue
        pause = FIRST
        if answer["restarted"]:
            yield Event(RESTARTED, answer["after"])
        for document in answer["events"]:
            yield Event.of(document)
            _remember(file, document["cursor"])
        if answer["after"] != after:
            after = answer["after"]
            _remember(file, after)


def _remember(file: Path | None, cursor: str) -> None:
    """Whole or not at all: a kill in between leaves the place before."""
    if file is not None:
        fresh = file.with_name(f"{file.name}.new")
        fresh.write_text(cursor, "ascii")
        fresh.replace(file)
