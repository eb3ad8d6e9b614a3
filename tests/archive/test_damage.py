"""Damaged bytes under a served archive: told, refused, never delivered."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests import campaign
from tests.archive.objects import numbered
from tests.kill.running import Server, dataset_of, made_home, run

FLIPS = campaign.count("flipped bytes under a served archive", 25, 2_000)


@pytest.mark.timeout(0)  # every wait inside has its own end
def test_a_flipped_byte_is_never_delivered(tmp_path: Path) -> None:
    rng = random.Random(4)
    home = tmp_path / "home"
    server = Server(home, made_home(home))
    made = [numbered(5, number, large=0) for number in range(3)]
    server.start()
    assert server.store([one[3] for one in made]).status == 200
    assert server.stop() == 0
    wanted = {one[2]: dataset_of(one[3]) for one in made}
    (segment, start, stop) = _holding(home)
    original = segment.read_bytes()
    refused = 0
    server.start()
    try:
        for _ in range(FLIPS):
            changed = bytearray(original)
            changed[rng.randrange(start, stop)] ^= 1 << rng.randrange(8)
            segment.write_bytes(changed)  # in place: the workers hold the file open
            for study, series, sop, _ in made:
                answer = _ask(server, study, series, sop)
                if answer is None:
                    refused += 1
                else:
                    assert answer == wanted[sop]
        checked = run("check", "--home", str(home), "--read-data", check=False)
        assert checked.returncode == 1 and segment.stem in checked.stdout, checked.stdout
        segment.write_bytes(original)
        for study, series, sop, _ in made:
            assert _ask(server, study, series, sop) == wanted[sop]
        assert run("check", "--home", str(home), "--read-data").returncode == 0
    finally:
        server.kill_group()
    print(f"{FLIPS} bytes flipped, {refused} of {FLIPS * len(made)} retrievals refused, no wrong byte delivered")
    assert refused > FLIPS * 0.7, "most flips hit one of the objects"


def _ask(server: Server, study: str, series: str, sop: str) -> bytes | None:
    """The dataset, or None for an error: a status of its own, or an answer that is cut off for all to see."""
    try:
        answer = server.retrieve(study, series, sop)
    except OSError:
        return None
    except Exception as error:
        assert type(error).__name__ in ("IncompleteRead", "RemoteDisconnected", "BadStatusLine"), error
        return None
    if answer.status != 200:
        assert answer.status in (404, 500, 502, 503), answer
        return None
    return dataset_of(answer.body)


def _holding(home: Path) -> tuple[Path, int, int]:
    """The largest segment, and the range of bytes in it where the records of the objects lie."""
    segment = max((home / "tier" / "segments").rglob("*.seg"), key=lambda path: path.stat().st_size)
    return segment, 4096 + 64, 4096 + sum(len(numbered(5, number, large=0)[3]) for number in range(3))
