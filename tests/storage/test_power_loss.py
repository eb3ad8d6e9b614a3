"""Power loss, kills, failing and short steps, in seeded histories: 5,000 in every run, 1,000,000 in the long one.

The same writer, recovery and keyring as in production, on a disk that drops, reorders and tears what was not synced.
A failing seed replays alone: `History(seed).run()`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

import pytest

from radiolith.storage.backends import files, segment_file
from radiolith.storage.backends.disk import File
from radiolith.storage.backends.segment_file import Writer
from radiolith.storage.format import Buffer
from radiolith.storage.survey import _Surveyor
from tests.campaign import count
from tests.storage.power_loss import History
from tests.storage.simulated_disk import SimulatedDisk
from tests.storage.test_damage import damage_in_the_middle

PARTS = 10  # so that several test processes share the campaign
SEEDS = count("storage: power losses", 5_000, 1_000_000)


def run(seeds: range) -> None:
    for seed in seeds:
        try:
            History(seed).run()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_acknowledged_is_lost(part: int) -> None:
    run(range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS))


def test_a_lying_disk_is_noticed_by_the_model() -> None:
    """The campaign can fail: on a disk whose syncs do nothing, acknowledged objects are lost."""

    def lied(seed: int) -> None:
        history = History(seed)
        history.disk.lying = True
        history.run()

    assert caught(lied, 60)


# ---------------------------------------------------------------- planted bugs


def caught(run_one: Callable[[int], None], seeds: int) -> bool:
    for seed in range(seeds):
        try:
            run_one(seed)
        except Exception:
            return True
    return False


def one(seed: int) -> None:
    History(seed).run()


def test_the_bugs_below_are_not_there_by_themselves() -> None:
    assert not caught(one, 50)


def test_planted_answer_before_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsynced:
        def __init__(self, file: File):
            self._file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def sync(self) -> None:
            pass

    real = Writer.append

    def append(self: Writer, batch: object) -> object:
        file, self.file = self.file, Unsynced(self.file)  # type: ignore[assignment]
        try:
            return real(self, batch)  # type: ignore[arg-type]
        finally:
            self.file = file

    monkeypatch.setattr(Writer, "append", append)
    assert caught(one, 300)


def test_planted_missing_directory_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedDisk, "sync_directory", lambda self, path: None)
    assert caught(one, 300)


def test_planted_retried_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second sync of the same file succeeds, since the kernel has marked the lost pages clean."""
    from tests.storage.simulated_disk import SimulatedFile

    real = SimulatedFile.sync

    def stubborn(self: SimulatedFile) -> None:
        try:
            real(self)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            real(self)

    monkeypatch.setattr(SimulatedFile, "sync", stubborn)
    assert caught(one, 1000)


def test_planted_ignored_short_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(file: File, buffers: Sequence[Buffer], offset: int) -> int:
        file.write(buffers, offset)
        return offset + sum(len(buffer) for buffer in buffers)

    monkeypatch.setattr(segment_file, "write_all", once)
    monkeypatch.setattr(files, "write_all", once)
    assert caught(one, 300)


def test_planted_truncation_at_a_bad_record(monkeypatch: pytest.MonkeyPatch) -> None:
    damage_in_the_middle(known=False)
    monkeypatch.setattr(_Surveyor, "_later_batch", lambda self, start, number: None)
    with pytest.raises(AssertionError):
        damage_in_the_middle(known=False)
