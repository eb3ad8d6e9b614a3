"""The whole archive loses power at any step: segments and keyring on the simulated disk, the database in real files whose
write-ahead log is torn.

A history runs to its end; at random steps of it the machine "stops": the disk as it stands is set aside with the
database's files and the list of what was acknowledged by then. Each such moment is then brought up again.
"""

from __future__ import annotations

import asyncio
import copy
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from radiolith import app, config, graph
from radiolith.model import Failure, NotFound
from radiolith.storage.backends.files import FileBackend
from radiolith.storage.cache import Cache
from radiolith.storage.keyring import Keyring
from radiolith.storage.keyring_places import KeyringFile
from tests import campaign
from tests.archive.homes import principal, store
from tests.archive.objects import Made, numbered
from tests.archive.test_histories import difference, lines
from tests.storage.simulated_disk import SimulatedDisk

HISTORIES = campaign.count("power losses of the whole archive: histories", 12, 2_000)
MOMENTS = 6  # power losses of one history


class Machine:
    """The disk that this test's graphs open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.disk = SimulatedDisk()
        for module in (graph,):
            monkeypatch.setattr(module, "open_backend", self.open_backend)
            monkeypatch.setattr(module, "open_keyring", self.open_keyring)

    def open_backend(self, _tier: Any, **_: Any) -> FileBackend:
        return FileBackend(
            self.disk, clock=_clock, random=os.urandom, segment_bytes=1 << 18, reserve_bytes=0, tier="file:///t"
        )

    def open_keyring(self, _places: Any, _tier: Any, **_: Any) -> Keyring:
        places = [KeyringFile(self.disk, "keyring-a"), KeyringFile(self.disk, "keyring-b")]
        return Keyring(places, clock=_clock, random=os.urandom)


def _clock() -> int:
    return 0


@dataclass
class Moment:
    number: int
    disk: SimulatedDisk
    home: Path
    acknowledged: dict[tuple[str, str, str], bytes]
    rejected: set[str]


class History:
    def __init__(self, seed: int, machine: Machine, folder: Path):
        self.rng = random.Random(seed)
        self.machine, self.folder = machine, folder
        self.home = folder / "home"
        self.acknowledged: dict[tuple[str, str, str], bytes] = {}
        self.rejected: set[str] = set()
        self.moments: list[Moment] = []
        self.seed = seed

    async def run(self) -> None:
        self.machine.disk = SimulatedDisk(self.seed)
        await app.initialised(self.home, {})
        opened = self.open()
        every = self.rng.randint(9, 17)
        self.machine.disk.steps.hook = lambda number, name: (
            self.stop(number) if number % every == 0 else self.fail(name)
        )
        try:
            for number in range(24):
                await self.act(opened, number)
        finally:
            self.machine.disk.steps.hook = None
            await opened.close()

    def open(self) -> app.Graph:
        return app.build(config.load(self.home, {}), "w", _nothing, Cache(None, bytes(32)))

    async def act(self, opened: app.Graph, number: int) -> None:
        rng, who = self.rng, principal(opened)
        try:
            if number % 7 == 6:
                victim = rng.choice(list(self.acknowledged))
                await opened.archive.remove.reject(who, *victim, reason="113001")
                self.rejected.add(victim[2])
                return
            if number % 5 == 4:
                study, series, sop, data = numbered(self.seed, number, large=1)
            else:
                made = Made(
                    f"1.2.{number % 4}",
                    f"1.2.{number % 4}.1",
                    f"1.2.{number % 4}.1.{number}",
                    private=rng.randbytes(900),
                )
                study, series, sop, data = made.study, made.series, made.sop, made.part10()
            await store(opened, data)
            self.acknowledged[study, series, sop] = data
        except Failure:
            return

    def fail(self, name: str) -> int | None:
        """Now and then a step fails or a write is short."""
        if self.rng.random() < 0.01:
            raise OSError(5, "injected")
        return 700 if name == "write" and self.rng.random() < 0.05 else None

    def stop(self, number: int) -> None:
        """In whatever thread takes the step: the archive goes on, but a copy of this moment is kept."""
        if len(self.moments) >= MOMENTS:
            return
        acknowledged, rejected = (
            dict(self.acknowledged),
            set(self.rejected),
        )  # before the copies: these hold at least that
        hook, self.machine.disk.steps.hook = self.machine.disk.steps.hook, None
        disk = copy.deepcopy(self.machine.disk)
        self.machine.disk.steps.hook = hook
        copied = self.folder / f"moment {number}"
        shutil.copytree(self.home, copied)
        (copied / "index.db-shm").unlink(missing_ok=True)
        self.moments.append(Moment(number, disk, copied, acknowledged, rejected))


async def brought_up(moment: Moment, machine: Machine, rng: random.Random) -> None:
    machine.disk = moment.disk
    if rng.random() < 0.8:
        machine.disk.power_loss()
        _tear(moment.home / "index.db-wal", rng)
    else:
        machine.disk.kill()
    opened = app.build(config.load(moment.home, {}), "w", _nothing, Cache(None, bytes(32)))
    try:
        report = opened.rebuild.recover()
        assert not report.damaged, report.damaged
        await verify(moment, opened)
        assert (await store(opened, Made("1.3", "1.3.1", "1.3.1.1").part10())).outcome.value == "stored"
    finally:
        await opened.close()
    url = f"sqlite:///{moment.home}/index.db"
    before = lines(url)
    await asyncio.to_thread(app.rebuild, moment.home)
    assert lines(url) == before, difference(before, lines(url))


async def verify(moment: Moment, opened: app.Graph) -> None:
    who = principal(opened)
    for identity, data in moment.acknowledged.items():
        try:
            held = (await opened.archive.retrieve.locate(who, *identity))[0]
        except NotFound:
            assert await opened.archive.remove.restore(who, *identity) == 1, f"{identity} is lost"
            held = (await opened.archive.retrieve.locate(who, *identity))[0]
        else:
            assert identity[2] not in moment.rejected, "a rejection was forgotten"
        stream = opened.archive.retrieve.original(held)
        assert b"".join([bytes(piece) async for piece in stream.chunks()]) == data


def _tear(wal: Path, rng: random.Random) -> None:
    """Batches do not sync the write-ahead log: any sector of it may be missing. All that was acknowledged is in the log
    of segments, so even what was synced here may go."""
    if not wal.exists():
        return
    data = bytearray(wal.read_bytes())
    start = rng.randrange(len(data) + 1) // 512 * 512
    if rng.random() < 0.5:
        del data[start:]
    else:
        for at in range(start, len(data), 512):
            if rng.random() < 0.5:
                data[at : at + 512] = bytes(len(data[at : at + 512]))
    wal.write_bytes(data)


def _nothing() -> Any:
    raise AssertionError("this test decodes nothing")


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_a_power_loss_at_any_step(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    history = History(seed, machine, tmp_path)
    await history.run()
    assert history.moments
    rng = random.Random(seed)
    for moment in history.moments:
        try:
            await brought_up(moment, machine, rng)
        except Exception as error:
            raise AssertionError(f"seed {seed}, stopped at step {moment.number}: {error}") from error
    print(f"seed {seed}: {len(history.moments)} power losses, {len(history.acknowledged)} objects acknowledged")
