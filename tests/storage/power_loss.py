"""One seeded life of an archive's storage on the simulated disk, and what must be true after it.

A history is several lives of a process: each opens log and keyring, recovers, checks everything, works, and ends by
itself, by a kill or by a power loss at any step; steps fail and writes fall short on the way. The model holds what
was acknowledged. `Index` stands for the database; a test that has a real one plugs it in.
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, field

from radiolith.model import Blob, Failure, Kind, Place, Scope
from radiolith.storage.backends.files import FileBackend
from radiolith.storage.blobs import Log
from radiolith.storage.drafts import Draft
from radiolith.storage.keyring import Keyring
from radiolith.storage.keyring_places import KeyringFile
from tests.storage.simulated_disk import PowerLoss, SimulatedDisk

TENANT = b"tenant-of-16-byt"
SCOPE = Scope(b"scope-of-16-byte", 0)
WRAPPED = bytes(range(40))


class Index:
    """What a database would keep: ends of segments, in one atomic commit."""

    def __init__(self) -> None:
        self.marks: dict[bytes, int] = {}

    def commit(self, places: list[Place]) -> None:
        for place in places:
            end = place.offset + place.length
            self.marks[place.segment] = max(end, self.marks.get(place.segment, 0))


@dataclass
class Model:
    attempted: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)  # object id -> (key, payload)
    acknowledged: dict[bytes, Blob] = field(default_factory=dict)
    discarded: set[bytes] = field(default_factory=set)
    returned: dict[int, bytes] = field(default_factory=dict)  # keyring position -> payload
    proposed: set[bytes] = field(default_factory=set)


class History:
    def __init__(self, seed: int, index: Index | None = None):
        self.rng = random.Random(seed)
        self.disk = SimulatedDisk(self.rng.getrandbits(32))
        self.index = index or Index()
        self.model = Model()
        self.now = 0
        self.errors = False

    def run(self) -> None:
        for _ in range(self.rng.randint(1, 4)):
            self.disk.steps.count = 0
            self.disk.steps.hook = self._plan()
            try:
                self._life()
            except PowerLoss:
                pass
            except Failure:
                pass  # a disk that fails at start: the process gives up
            self.disk.steps.hook = None
            if self.rng.random() < 0.7:
                self.disk.power_loss()
            else:
                self.disk.kill()
        self._last_life()

    # ------------------------------------------------------------ a life

    def _plan(self):
        """Where this life ends, and how often steps fail before."""
        rng = self.rng
        end = rng.randint(1, 90) if rng.random() < 0.8 else 1_000_000
        error, short = rng.choice((0.0, 0.0, 0.02, 0.1)), rng.choice((0.0, 0.1))

        def hook(number: int, name: str) -> int | None:
            if number >= end:
                if name == "write" and number == end and rng.random() < 0.5:
                    return rng.choice((1, 511, 4096, 5000))  # the last write is cut, the next step is the end
                raise PowerLoss
            if rng.random() < error:
                self.errors = True
                raise OSError(rng.choice((errno.EIO, errno.EIO, errno.ENOSPC)), f"injected at {number} {name}")
            if name == "write" and rng.random() < short:
                return rng.choice((1, 100, 4096))
            return None

        return hook

    def open(self) -> tuple[Log, Keyring]:
        rng = self.rng
        backend = FileBackend(
            self.disk,
            clock=self._clock,
            random=rng.randbytes,
            segment_bytes=rng.choice((16384, 65536)),
            reserve_bytes=0,
        )
        places = [KeyringFile(self.disk, "keyring-a"), KeyringFile(self.disk, "keyring-b")]
        keyring = Keyring(places, clock=self._clock, random=rng.randbytes)
        return Log(backend, pool_bytes=1, small=2000, clock=self._clock, random=rng.randbytes), keyring

    def _clock(self) -> int:
        self.now += 1
        return self.now

    def _life(self) -> None:
        log, keyring = self.open()
        self.recover(log)
        waiting: list[Draft] = []
        for _ in range(self.rng.randint(0, 6)):
            action = self.rng.random()
            try:
                if action < 0.65:
                    self._store(log, waiting)
                elif action < 0.85:
                    self._append(keyring)
                elif action < 0.93:
                    log.seal()
                else:
                    self.check(log, keyring)
            except Failure:
                continue
        for draft in waiting:
            draft.discard()
        if self.rng.random() < 0.5:
            log.close()

    def _store(self, log: Log, waiting: list[Draft]) -> None:
        rng = self.rng
        drafts: list[Draft] = []
        try:
            for _ in range(rng.randint(1, 3)):
                payload = rng.randbytes(rng.choice((0, 1, 100, 900, 3000, 9000)))
                draft = log.begin(TENANT, Kind.OBJECT)
                drafts.append(draft)
                self.model.attempted[draft.object_id] = (draft.key, payload)
                draft.write(payload[:50])
                draft.write(payload[50:])
                if rng.random() < 0.1:
                    draft.flush()
                draft.seal(SCOPE, WRAPPED, b'{"original_size":%d}' % len(payload))
            if rng.random() < 0.1:
                gone = drafts.pop()
                self.model.discarded.add(gone.object_id)
                gone.discard()
            places = log.commit(drafts)
        except Failure:
            for draft in drafts:
                draft.discard()
            raise
        done = [(draft, place) for draft, place in zip(drafts, places, strict=True) if place is not None]
        if self.rng.random() < 0.9:  # else the process is slower than its end: durable in the log, unknown to the index
            self.index.commit([place for _, place in done])
            for draft, place in done:
                self.model.acknowledged[draft.object_id] = Blob(
                    place, draft.object_id, TENANT, SCOPE, WRAPPED, draft.size
                )

    def _append(self, keyring: Keyring) -> None:
        payloads = [self.rng.randbytes(self.rng.randint(1, 300)) for _ in range(self.rng.randint(1, 12))]
        self.model.proposed.update(payloads)
        for entry in keyring.append(lambda seen: payloads):
            assert entry.position not in self.model.returned, "a position was given twice"
            self.model.returned[entry.position] = entry.payload

    # ------------------------------------------------------------ what must be true

    def recover(self, log: Log) -> None:
        """Roll forward what is durable beyond the index: from then on it counts as acknowledged."""
        for found in log.recover(self.index.marks.get):
            assert not found.damage or "the disk failed" in str(found.damage), f"damage reported: {found}"
            if found.state not in ("sealed", "recovered"):
                continue
            records = list(log.records(found.segment, found.start))
            for record in records:
                self._intact(log, record.blob)
            self.index.commit([record.place for record in records])
            for record in records:
                self.model.acknowledged.setdefault(record.object_id, record.blob)

    def check(self, log: Log, keyring: Keyring) -> None:
        for blob in self.model.acknowledged.values():
            self._intact(log, blob)
        for position, payload in self.model.returned.items():
            assert keyring.read(position).payload == payload, f"keyring entry {position} is not what was returned"

    def _intact(self, log: Log, blob: Blob) -> None:
        assert blob.object_id in self.model.attempted, "a record nobody wrote"
        assert blob.object_id not in self.model.discarded, "a discarded draft became a record"
        key, payload = self.model.attempted[blob.object_id]
        assert blob.size == len(payload)
        assert log.read(blob, key, 0, blob.size) == payload

    def _last_life(self) -> None:
        log, keyring = self.open()
        self.recover(log)
        self.check(log, keyring)
        for entry in keyring.entries():
            assert entry.payload in self.model.proposed, "a keyring entry nobody proposed"
        if (
            self.errors
        ):  # several failed syncs may leave a mirror with holes below its end; never an entry without a copy
            assert keyring.repair() == 0
        assert not list(keyring.check())
        self._store(log, [])
        log.close()
        for info in log.segments():
            assert info.sealed, "a segment is left unsealed after recovery and a clean end"
            for record in log.records(info.id):
                self._intact(log, record.blob)
        self.disk.kill()
        before = {path: bytes(self.disk.content(path)) for path in self.disk.files()}
        log, keyring = self.open()
        self.recover(log)
        self.check(log, keyring)
        after = {path: bytes(self.disk.content(path)) for path in self.disk.files()}
        assert before == after, "a second recovery changed something"
