"""The keyring: a totally ordered log of opaque entries in two places or more.

Owns: the order of entries and their durability in every place (docs/format/keyring.md, "Order of writing"). Must never:
know what a payload means, drop an entry that was returned, or deliver one whose checksum differs.

Threads: any. Processes: any number on one host, and with an object store as place 0 on any number of hosts. Opened
after a fork.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from radiolith.model import Damaged, NotFound, Unavailable
from radiolith.storage.backends import Problem
from radiolith.storage.format import Malformed
from radiolith.storage.keyring_places import KeyringPlace, lockable
from radiolith.storage.slots import SLOT, Entry, pack_header, pack_slot, parse_header, parse_slot

_WINDOW = 2048  # slots read at a time: 1 MiB
_TRIES = 50  # appends lost to other nodes before giving up; each loss is another's success

Propose = Callable[[Sequence[Entry]], Sequence[bytes]]


class Keyring:
    """`seen` is the position up to which `propose` was shown everything; a caller that has read all entries may set
    it. `lost` is told the name of a place that is missing or damaged, before it is made again from the others."""

    def __init__(
        self,
        places: Sequence[KeyringPlace],
        *,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        lost: Callable[[str], None] = lambda _: None,
    ):
        if len(places) < 2:
            raise ValueError("a keyring lies in two places or more")
        self._places = list(places)
        self._near = sorted(self._places, key=lambda place: place.shared)  # files answer faster
        self._random = random
        self._lock = threading.Lock()
        self._end = -1  # entries durable in every place, as far as this process knows; -1: look again
        self._suspect: int | None = None  # from here on a sync failed: what reads back may be absent on the disk
        self.seen = 0
        self.id = self._open(clock, random, lost)
        with self._locked():
            self._settle()

    # ------------------------------------------------------------ opening

    def _open(self, clock: Callable[[], int], random: Callable[[int], bytes], lost: Callable[[str], None]) -> bytes:
        """Make missing places, mend damaged headers, and agree on one id."""
        headers = [place.header() for place in self._places]
        valid = {identity: header for header in headers if header and (identity := _identity(header))}
        if len(valid) > 1:
            raise Damaged("The places given belong to different keyrings")
        if not valid and any(place.count() for place, header in zip(self._places, headers, strict=True) if header):
            raise Damaged("No place of the keyring has a valid header")
        wanted = next(iter(valid.values()), None) or pack_header(random(16), clock())
        for place, header in zip(self._places, headers, strict=True):
            if header == wanted:
                continue
            if valid:
                lost(place.name)
            there = place.create(wanted)
            if _identity(there) is None:
                place.replace_header(wanted)
            elif there != wanted:  # another process made the keyring at this moment: its header holds
                return self._open(clock, random, lost)
        identity = _identity(wanted)
        assert identity is not None
        return identity

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        place = lockable(self._places)
        with self._lock:
            if place is not None:
                place.lock()
            try:
                yield
            finally:
                if place is not None:
                    place.unlock()

    # ------------------------------------------------------------ appending

    def append(self, propose: Propose) -> list[Entry]:
        """Show `propose` the entries it has not seen and append the payloads it answers; durable in every place on
        return.

        `propose` is called again, with what came in between, when another node was first. Raises NoSpace or
        Unavailable: then the payloads may still appear later. Entries of up to MAX_PAYLOAD bytes.
        """
        with self._locked():
            for _ in range(_TRIES):
                self._settle(look=self._end < 0)
                unseen = list(self._range(self.seen, self._end, None))
                payloads = propose(unseen)
                start = self.seen = self._end
                if not payloads:
                    return []
                entries = [Entry(start + index, payload) for index, payload in enumerate(payloads)]
                append = self._random(8)
                slots = b"".join(pack_slot(self.id, entry, start, append) for entry in entries)
                if self._write(start, slots):
                    self._end = self.seen = start + len(entries)
                    return entries
        raise Unavailable("The keyring is being written by too many nodes at once", retry_after=1)

    def _write(self, start: int, slots: bytes) -> bool:
        self._doubt(start)  # until every place has it
        if not self._places[0].append(start, slots):
            return False
        for place in self._places[1:]:
            if not place.append(start, slots):
                self._settle()  # another node has just mended this place
        self._suspect = None
        return True

    def _doubt(self, start: int) -> None:
        self._end = -1  # the next append looks again
        self._suspect = start if self._suspect is None else min(start, self._suspect)

    def _settle(self, *, look: bool = True) -> None:
        """Bring every place to the same end. Under the lock. Raises NoSpace or Unavailable."""
        counts = [place.count(look=look) for place in self._places]
        if all(count == self._end for count in counts):
            return
        for _ in range(_TRIES):
            for place in self._places:
                place.sync()
            counts = [place.count() for place in self._places]
            tails = [self._valid_end(place, count) for place, count in zip(self._places, counts, strict=True)]
            start, end = min(min(tail) for tail in tails), max(stop for _, stop in tails)
            failed = self._suspect is not None and self._suspect < end
            self._doubt(start)
            if self._mend(min(start, self._suspect or 0), end, again=failed):
                self._end, self._suspect = end, None
                return
        raise Unavailable("The keyring's places could not be brought together", retry_after=1)

    def _valid_end(self, place: KeyringPlace, count: int) -> tuple[int, int]:
        """(entries known to have been durable, end of the valid ones behind them) in one place."""
        last, durable = count - 1, 0
        while last >= 0:
            try:
                durable, _ = parse_slot(self.id, last, place.slots(last, last + 1))
                break
            except Malformed:
                last -= 1
        if last < 0:
            return 0, 0
        end = durable
        while end <= last and _valid(self.id, end, place.slots(end, end + 1)):
            end += 1
        return durable, end

    def _mend(self, start: int, end: int, *, again: bool = False) -> bool:
        """Write entries start..end-1 to every place that lacks one, from one that has it, place 0 first; cut what is
        behind. Entries that are not in every place come from a process that died: they are written again even where
        they are valid, since it may not have come to its sync."""
        for at in range(start, end, _WINDOW):
            stop = min(end, at + _WINDOW)
            raw = [place.slots(at, stop) for place in self._places]
            raw = [slots[: len(slots) // SLOT * SLOT] for slots in raw]  # a file may end inside a slot
            best = b"".join(self._best(position, at, raw) for position in range(at, stop))
            everywhere = all(mine == best for mine in raw)
            for place, mine in zip(self._places, raw, strict=True):
                if place.shared:
                    if not self._mend_shared(place, at, mine, best):
                        return False
                elif again or not everywhere:
                    if again or mine != best[: len(mine)] or place is self._places[0]:
                        place.replace(at, best[: len(mine)])
                    if len(mine) < len(best):
                        place.append(at + len(mine) // SLOT, best[len(mine) :])
        for place in self._places:
            if place.count() > end:
                place.cut(end)
            place.sync()
        return True

    def _mend_shared(self, place: KeyringPlace, at: int, mine: bytes, best: bytes) -> bool:
        if mine != best[: len(mine)]:
            place.replace(at, best[: len(mine)])
        return len(mine) == len(best) or place.append(at + len(mine) // SLOT, best[len(mine) :])

    def _best(self, position: int, start: int, raw: Sequence[bytes]) -> bytes:
        """The valid slot of a position; what is there when no place has a valid one: damage is kept, and reported."""
        at = (position - start) * SLOT
        found = [slots[at : at + SLOT] for slots in raw]
        for slot in found:
            if _valid(self.id, position, slot):
                return slot
        return next((slot for slot in found if len(slot) == SLOT), bytes(SLOT))

    # ------------------------------------------------------------ reading

    def read(self, position: int) -> Entry:
        """Raises NotFound, or Damaged when no place has it whole."""
        return self._first_valid(position, b"")

    def entries(self, start: int = 0, on_problem: Callable[[Problem], None] | None = None) -> Iterator[Entry]:
        """Entries from a position on, in order, as they are when asked. One that no place has whole goes to
        `on_problem`, or is raised as Damaged without it."""
        with self._locked():
            self._settle()
            end = self._end
        yield from self._range(start, end, on_problem)

    def _range(self, start: int, end: int, on_problem: Callable[[Problem], None] | None) -> Iterator[Entry]:
        for at in range(start, end, _WINDOW):
            stop = min(end, at + _WINDOW)
            slots = self._near[0].slots(at, stop)
            for position in range(at, stop):
                mine = slots[(position - at) * SLOT : (position - at + 1) * SLOT]
                try:
                    yield self._first_valid(position, mine)
                except (Damaged, NotFound) as failure:
                    if on_problem is None:
                        raise
                    on_problem(Problem(self.id, (position + 1) * SLOT, str(failure)))

    def _first_valid(self, position: int, slot: bytes) -> Entry:
        try:
            return parse_slot(self.id, position, slot)[1]
        except Malformed:
            pass
        if position < 0:
            raise NotFound("No such keyring entry")
        found = False
        for place in self._near:
            if position >= place.count(look=False) and position >= place.count():
                continue
            found = True
            try:
                return parse_slot(self.id, position, place.slots(position, position + 1))[1]
            except Malformed:
                continue
        if found:
            raise Damaged(f"Keyring entry {position} is damaged in every place")
        raise NotFound("No such keyring entry")

    # ------------------------------------------------------------ checking

    def check(self) -> Iterator[tuple[str, Problem]]:
        """Every byte of every place: (name of the place, problem). Changes nothing. What is appended meanwhile is not
        looked at; a file that mirrors an object store may lack what another node has appended there."""
        with self._locked():  # an append goes from place to place
            counts = [place.count() for place in self._places]
        longest = max(counts)
        if any(place.shared for place in self._places) and self._end >= 0:
            longest = min(longest, self._end)
        for place, count in zip(self._places, counts, strict=True):
            header = place.header()
            if header is None or _identity(header) != self.id:
                yield place.name, Problem(self.id, 0, "keyring header: no magic, or the checksum differs")
            if count < longest:
                yield place.name, Problem(self.id, (count + 1) * SLOT, f"{longest - count} entries are missing")
            for at in range(0, count, _WINDOW):
                slots = place.slots(at, min(count, at + _WINDOW))
                for position in range(at, min(count, at + _WINDOW)):
                    try:
                        parse_slot(self.id, position, slots[(position - at) * SLOT : (position - at + 1) * SLOT])
                    except Malformed as problem:
                        yield place.name, Problem(self.id, (position + 1) * SLOT, str(problem))

    def repair(self) -> int:
        """Make every place whole from the others. Returns the number of entries that no place has whole."""
        with self._locked():
            for place in self._places:
                header = place.header()
                if header is None or _identity(header) != self.id:
                    place.replace_header(self._any_header())
            self._settle()
            end = self._end
            self._doubt(0)
            if self._mend(0, end):
                self._end, self._suspect = end, None
            lost: list[Problem] = []
            for _ in self._range(0, end, lost.append):
                pass
            return len(lost)

    def _any_header(self) -> bytes:
        headers = (place.header() for place in self._places)
        return next(header for header in headers if header and _identity(header) == self.id)

    def __len__(self) -> int:
        """Entries this process knows to be durable."""
        return max(self._end, 0)


def _identity(header: bytes) -> bytes | None:
    try:
        return parse_header(header)
    except Malformed:
        return None


def _valid(keyring: bytes, position: int, slot: bytes) -> bool:
    try:
        parse_slot(keyring, position, slot)
    except Malformed:
        return False
    return True


__all__ = ["Entry", "Keyring"]
