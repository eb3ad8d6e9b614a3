"""A sender by C-STORE that trusts nobody: eight associations at once, and a list of what was acknowledged.

    python -m tests.kill.associations HOST:PORT SEED FIRST LIST

Its own process; the list is that of `tests/kill/client.py`, with 'b 0' for an association that broke. It knows no more of
the server's code than how PDUs are written.
"""

from __future__ import annotations

import os
import random
import sys
import threading

from radiolith.dimse.association import Wanted
from radiolith.dimse.pdu import AssociateAccept
from tests.archive.objects import CT, EXPLICIT, numbered
from tests.dimse.speaker import Ended, Speaker, store
from tests.kill.running import dataset_of

ASSOCIATIONS = 8
CONTEXTS = (Wanted(CT, (EXPLICIT,)), Wanted(CT, (EXPLICIT,)))


class Sender:
    def __init__(self, port: int, seed: int, first: int, notes: str):
        self.port, self.seed, self.next = port, seed, first
        self.lock = threading.Lock()
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.stop = threading.Event()

    def note(self, what: str, number: int) -> None:
        os.write(self.notes, f"{what} {number}\n".encode())

    def take(self) -> int:
        with self.lock:
            self.next += 1
            return self.next - 1

    def run(self, thread: int) -> None:
        rng = random.Random(f"{self.seed} {self.next} {thread}")
        while not self.stop.is_set():
            try:
                with Speaker(self.port) as peer:
                    if not isinstance(peer.associate(CONTEXTS), AssociateAccept):
                        self.note("r", 0)
                        continue
                    self.send(peer, rng)
            except (OSError, Ended, AssertionError):  # the last is an A-ABORT where an answer was awaited
                self.note("b", 0)
                self.stop.wait(0.05)

    def send(self, peer: Speaker, rng: random.Random) -> None:
        """Up to 30 objects, some of them before the answers to those before were read."""
        for _ in range(rng.randint(1, 30)):
            if self.stop.is_set():
                break
            numbers = [self.take() for _ in range(rng.choice((1, 1, 1, 4)))]
            for number in numbers:
                _, _, sop, file = numbered(self.seed, number, large=0.02)
                self.note("s", number)
                peer.say(store(dataset_of(file), sop, number % 60_000 + 1, sop_class=CT))
            for _ in numbers:
                answer = peer.answer()
                number = next(n for n in numbers if n % 60_000 + 1 == answer.message_id)
                self.note(*(("a", number) if answer.status == 0 else ("r", answer.status)))
        peer.release()


def main() -> None:
    address, seed, first, notes = sys.argv[1:]
    sender = Sender(int(address.rpartition(":")[2]), int(seed), int(first), notes)
    threads = [threading.Thread(target=sender.run, args=(n,), daemon=True) for n in range(ASSOCIATIONS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    sender.stop.set()
    for thread in threads:
        thread.join(25)


if __name__ == "__main__":
    main()
