"""How many there may be at a time, of all workers of a node together: associations, and connections.

Owns: the counts, in an anonymous mapping made before the fork: a row a worker, in it how many slots it has taken, and for each
a number made of the peer's address. Must never: wait for another process; whoever is stopped or killed holds nobody up.

A worker writes only its own row, and looks through all. It takes a slot first and counts then, so that two at the same moment
are never both let in where there is room for one; then both may be refused, which is an answer that says: try again. The parent
empties the row of a worker that has ended, however it ended (`clear`).

Limits: `most` in all, `most_per_address` of one network address; 8 bytes a slot and worker.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from hashlib import blake2b


class Slots:
    """`workers` is the number of rows; a process writes row 0 until `use_row`."""

    def __init__(self, most: int, most_per_address: int, workers: int = 1):
        self.most, self.most_per_address = most, most_per_address
        self._width = 1 + max(most, 0)  # one worker may hold them all
        count = workers * self._width
        self._rows = memoryview(mmap.mmap(-1, max(8 * count, mmap.PAGESIZE))).cast("Q")[:count]
        self._own = 0  # where our row begins

    def use_row(self, number: int) -> None:
        """After the fork: this process is worker `number`."""
        self._own = number * self._width
        self.clear(number)

    def clear(self, number: int) -> None:
        """Worker `number` is gone, and so is whatever it held."""
        self._rows[number * self._width] = 0

    def full(self, address: str) -> bool:
        """Whether one more is too many."""
        return self._beyond(_key(address), 1)

    def take(self, address: str) -> bool:
        """Take a slot, if there is one: then `give` is to be called once."""
        key = _key(address)
        if self._beyond(key, 1):
            return False
        rows, own = self._rows, self._own
        rows[own + 1 + rows[own]] = key
        rows[own] += 1
        if self._beyond(key, 0):  # another worker was as quick
            rows[own] -= 1
            return False
        return True

    def give(self, address: str) -> None:
        """The last one goes where this one was; for a moment it counts twice, never not at all."""
        rows, own = self._rows, self._own
        rows[own + 1 + self._taken(own).index(_key(address))] = rows[own + rows[own]]
        rows[own] -= 1

    def taken(self) -> int:
        """By all workers."""
        return sum(self._rows[:: self._width].tolist())

    def _taken(self, row: int) -> list[int]:
        return self._rows[row + 1 : row + 1 + self._rows[row]].tolist()

    def _beyond(self, key: int, more: int) -> bool:
        same = sum(self._taken(row).count(key) for row in range(0, len(self._rows), self._width))
        return self.taken() + more > self.most or same + more > self.most_per_address


@dataclass(frozen=True, slots=True)
class Held:
    """What peers hold of a node. Connections are twice as many: those that ask for nothing yet keep no association out."""

    associations: Slots
    connections: Slots

    @staticmethod
    def of(associations: int, associations_per_address: int, workers: int = 1) -> Held:
        return Held(
            Slots(associations, associations_per_address, workers),
            Slots(2 * associations, 2 * associations_per_address, workers),
        )

    def use_row(self, number: int) -> None:
        for each in (self.associations, self.connections):
            each.use_row(number)

    def clear(self, number: int) -> None:
        for each in (self.associations, self.connections):
            each.clear(number)


def _key(address: str) -> int:
    """64 bits of an address."""
    return int.from_bytes(blake2b(address.encode(), digest_size=8).digest())
