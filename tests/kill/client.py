"""A sender that trusts nobody: stores numbered objects and writes down which ones were acknowledged.

    python -m tests.kill.client HOST:PORT TOKEN SEED FIRST LIST

Its own process, standard library only. LIST gets one line per event, in one write each: 's N' before object N is sent,
'a N' after an answer named it as stored, 'r STATUS' for an answer that refused. Runs until its standard input ends. What
was sent and not acknowledged may be in the archive or not, but only whole.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import threading
import time

from tests.archive.objects import numbered

THREADS = 3
BOUNDARY = "kill-test"


class Sender:
    def __init__(self, address: str, token: str, seed: int, first: int, notes: str):
        self.address, self.token, self.seed = address, token, seed
        self.next = first
        self.lock = threading.Lock()
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.stop = threading.Event()
        self.done: list[int] = []

    def note(self, what: str, numbers: list[int]) -> None:
        os.write(self.notes, "".join(f"{what} {number}\n" for number in numbers).encode())

    def take(self, rng: random.Random) -> list[int]:
        """Fresh numbers; now and then one that was acknowledged already goes along again."""
        count = rng.choice((1, 1, 2, 3, 6))
        with self.lock:
            numbers = list(range(self.next, self.next + count))
            self.next += count
            if self.done and rng.random() < 0.1:
                numbers.append(rng.choice(self.done))
        return numbers

    def run(self, thread: int) -> None:
        rng = random.Random(f"{self.seed} {self.next} {thread}")
        connection: http.client.HTTPConnection | None = None
        numbers: list[int] = []
        while not self.stop.is_set():
            numbers = numbers or self.take(rng)
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self.address, timeout=20)
                acknowledged = self.send(connection, numbers)
            except (OSError, http.client.HTTPException):
                if connection is not None:
                    connection.close()
                connection = None
                self.stop.wait(0.05)
                if rng.random() < 0.5:
                    numbers = []  # nobody will ever know: in doubt for good
                continue
            if acknowledged:
                self.note("a", acknowledged)
                with self.lock:
                    self.done += acknowledged
            else:
                time.sleep(0.05)  # refused for now
            numbers = []
            if rng.random() < 0.2:  # another worker's turn, perhaps
                connection.close()
                connection = None

    def send(self, connection: http.client.HTTPConnection, numbers: list[int]) -> list[int]:
        made = {number: numbered(self.seed, number) for number in numbers}
        self.note("s", numbers)
        parts = [
            b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (BOUNDARY.encode(), one[3])
            for one in made.values()
        ]
        body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
            "Accept": "application/dicom+json",
        }
        connection.request("POST", "/dicom-web/studies", body, headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status not in (200, 202):
            self.note("r", [answer.status])
            return []
        items = json.loads(data).get("00081199", {}).get("Value", [])
        stored = {item["00081155"]["Value"][0] for item in items}
        return [number for number, one in made.items() if one[2] in stored]


def main() -> None:
    address, token, seed, first, notes = sys.argv[1:]
    sender = Sender(address, token, int(seed), int(first), notes)
    threads = [threading.Thread(target=sender.run, args=(n,), daemon=True) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    sender.stop.set()
    for thread in threads:
        thread.join(25)


if __name__ == "__main__":
    main()
