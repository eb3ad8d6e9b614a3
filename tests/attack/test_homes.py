"""Homes in which something is broken: the commands say what, and what to do, and the way they name works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.dicomweb.objects import ct
from tests.kill.running import Server, made_home, run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made_home(made)
    (tmp_path / "one.dcm").write_bytes(ct())
    run("import", "--home", str(made), str(tmp_path / "one.dcm"))
    return made


@pytest.mark.parametrize("damage", ["noise", "empty", "half", "gone"])
def test_a_damaged_index_is_made_again(home: Path, damage: str) -> None:
    index = home / "index.db"
    whole = index.read_bytes()
    if damage == "gone":
        index.unlink()
    else:
        index.write_bytes({"noise": os.urandom(len(whole)), "empty": b"", "half": whole[: len(whole) // 2]}[damage])
    if damage == "noise":
        refused = run("check", "--home", str(home), check=False)
        assert refused.returncode == 1 and "radiolith check --rebuild" in refused.stderr, refused
    rebuilt = run("check", "--home", str(home), "--rebuild")
    assert "1 objects" in rebuilt.stdout or "1 object" in rebuilt.stdout, rebuilt.stdout
    exported = run("export", "--home", str(home), "--original", str(home.parent / "out"))
    assert [path.read_bytes() for path in (home.parent / "out").rglob("*.dcm")] == [ct()], exported.stdout


@pytest.mark.parametrize("damage", ["cut", "zeros", "gone"])
def test_a_rebuild_tells_what_the_log_has_lost(home: Path, damage: str) -> None:
    """The end of a log that is gone looks like a batch that nobody was answered for; the index still knows better."""
    segments = sorted((home / "tier" / "segments").rglob("*.seg"), key=lambda path: path.stat().st_size)
    if damage == "gone":
        segments[-1].unlink()
    else:
        os.truncate(segments[-1], 4260)  # in the first record, which begins at 4160
        os.truncate(segments[-1], 4260 if damage == "cut" else 1 << 20)
    rebuilt = run("check", "--home", str(home), "--rebuild", check=False)
    assert rebuilt.returncode == 1 and segments[-1].stem in rebuilt.stdout, rebuilt
    assert ("it is gone" if damage == "gone" else "index knows as stored") in rebuilt.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[http", "cannot be read"),
        ("[http]\nprot = 1\n", "Did you mean 'http.port'?"),
        ("[http]\nport = 'x'\n", "'http.port' is a whole number"),
        ("[keys]\nkeyring = ['file:///a']\n", "two places"),
    ],
)
def test_settings_that_are_wrong(home: Path, text: str, said: str) -> None:
    (home / "radiolith.toml").write_text(text)
    refused = run("status", "--home", str(home), check=False)
    assert refused.returncode == 1 and said in refused.stderr and "Traceback" not in refused.stderr


def test_a_running_home_is_not_rebuilt(home: Path) -> None:
    server = Server(home, "")
    server.start(ready=False)
    try:
        import time

        deadline = time.monotonic() + 30
        while b"serving" not in server.log.read_bytes():
            assert time.monotonic() < deadline, server.tail()
            time.sleep(0.02)
        refused = run("check", "--home", str(home), "--rebuild", check=False)
        assert refused.returncode == 1 and "stop `radiolith serve`" in refused.stderr
        second = run("serve", "--home", str(home), "--http", server.address, check=False)
        assert second.returncode == 1 and "another" in second.stderr, second
    finally:
        server.kill_group()
