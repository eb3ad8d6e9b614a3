"""Which places of the keyring were missing or damaged and were made again from the others, until somebody has seen to it.

Owns: the file `lost-keyring-places` in the home, a JSON object a line, and `keyring-places`, the places that were whole when
the archive was opened last: one that is not among them is new, not lost. Must never: hold up the opening of a keyring; a note
that cannot be written is logged. It lies beside the index and in no database: what lost a place may have lost the index too,
and a rebuild must not forget it. Limits: NOTES places; a place is noted once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from radiolith.storage.backends.disk import read_bytes, write_all
from radiolith.storage.backends.local import LocalDisk, LocalFile

NAME = "lost-keyring-places"
WHOLE = "keyring-places"
NOTES = 100
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LostPlace:
    place: str  # its URL
    at: int  # microseconds


class LostPlaces:
    """Of one home. Any process."""

    def __init__(self, home: Path, clock: Callable[[], int]):
        self._disk, self._clock = LocalDisk(str(home)), clock

    def note(self, place: str) -> None:
        """Durable on return; call it before the place is made again."""
        if place not in (self._whole() or [place]):
            log.info("a new place of the keyring is filled from the others", place=place)
            return
        log.warning("a place of the keyring was missing or damaged and is made again from the others", place=place)
        try:
            file = self._opened()
            try:
                file.lock(wait=True)
                known = _parsed(bytes(read_bytes(file, 0, file.size())))
                if len(known) >= NOTES or any(one.place == place for one in known):
                    return
                line = json.dumps({"place": place, "at": self._clock()}).encode() + b"\n"
                write_all(file, [line], file.size())
                file.sync()
                self._disk.sync_directory("")
            finally:
                file.close()
        except OSError as error:
            log.error("that could not be noted for `status` and `check`", reason=error.strerror)

    def whole(self, places: Sequence[str]) -> None:
        """All of these have been opened. Where that cannot be noted, a place that is added later counts as lost."""
        if sorted(places) == self._whole():
            return
        try:
            with contextlib.suppress(FileNotFoundError):
                self._disk.remove(WHOLE)
            file = self._disk.create(WHOLE)
            try:
                write_all(file, [json.dumps(sorted(places)).encode()], 0)
                file.sync()
            finally:
                file.close()
        except OSError as error:  # another process notes the same at this moment, or the home is full
            log.info("the places of the keyring could not be noted", reason=error.strerror)

    def _whole(self) -> list[str]:
        """[] where nothing was noted yet, or a note is torn."""
        try:
            file = self._disk.open(WHOLE)
        except OSError:
            return []
        try:
            known = json.loads(bytes(read_bytes(file, 0, file.size())))
            return [str(place) for place in known] if isinstance(known, list) else []
        except (OSError, ValueError):
            return []
        finally:
            file.close()

    def known(self) -> list[LostPlace]:
        """In the order they were lost. Raises OSError where the home cannot be read."""
        try:
            file = self._disk.open(NAME)
        except FileNotFoundError:
            return []
        try:
            return _parsed(bytes(read_bytes(file, 0, file.size())))
        finally:
            file.close()

    def seen_to(self) -> None:
        """Somebody has looked after them: forget the notes."""
        with contextlib.suppress(FileNotFoundError):
            self._disk.remove(NAME)
            self._disk.sync_directory("")

    def _opened(self) -> LocalFile:
        try:
            return self._disk.create(NAME)
        except FileExistsError:
            return self._disk.open(NAME, write=True)


def _parsed(text: bytes) -> list[LostPlace]:
    """What was torn by a power cut in the middle of a line is left out."""
    found: list[LostPlace] = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            body = json.loads(line)
            found.append(LostPlace(str(body["place"]), int(body["at"])))
    return found
