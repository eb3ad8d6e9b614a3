"""A place of the keyring that was lost is noted before it is made again, and stays noted until somebody says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from radiolith import config
from radiolith import home as homes
from radiolith.index import audit
from radiolith.storage.lost_places import NAME, NOTES, LostPlaces


def test_a_place_is_noted_once_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    lost = LostPlaces(tmp_path, lambda: 7)
    assert lost.known() == []
    for place in ("file:///a", "file:///b", "file:///a"):
        lost.note(place)
    assert [(one.place, one.at) for one in lost.known()] == [("file:///a", 7), ("file:///b", 7)]
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"place": "file:///c')
    assert len(lost.known()) == 2
    lost.seen_to()
    lost.seen_to()
    assert lost.known() == []
    for number in range(NOTES + 5):
        lost.note(f"file:///{number}")
    assert len(lost.known()) == NOTES


def test_a_home_that_cannot_be_written_does_not_keep_the_keyring_closed(tmp_path: Path) -> None:
    LostPlaces(tmp_path / "gone", lambda: 7).note("file:///a")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    homes.initialise(made)
    return made


def places(home: Path) -> list[Path]:
    return [Path(url.removeprefix("file://")) for url in config.load(home).keys.keyring]


def said(home: Path) -> tuple[list[str], list[str]]:
    """What `status` and `check` say of the keyring's places."""
    with homes.open_home(home) as opened:
        status = [reason["text"] for reason in opened.status()["reasons"] if "keyring's place" in reason["text"]]
        report = opened.check()
        assert report.problems == []
        return status, report.notes


def test_a_place_that_is_added_is_not_lost(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with homes.open_home(home):
        pass
    own = places(home)
    monkeypatch.setenv("RADIOLITH_KEYS_KEYRING", ",".join(f"file://{place}" for place in (*own, tmp_path / "third")))
    assert said(home) == ([], [])
    assert (tmp_path / "third").exists()
    (tmp_path / "third").unlink()
    assert "third" in said(home)[0][0]


def test_nothing_is_said_of_a_new_home(home: Path) -> None:
    assert said(home) == ([], [])


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how", ["removed", "overwritten"])
def test_a_lost_place_is_told_until_somebody_confirms(home: Path, number: int, how: str) -> None:
    place = places(home)[number]
    whole = place.read_bytes()
    if how == "removed":
        place.unlink()
    else:
        place.write_bytes(bytes(512) + whole[512:])
    for _ in range(2):  # the first command makes it again, the second one still knows
        status, notes = said(home)
        assert len(status) == 1 and str(place) in status[0] and notes == status
    assert place.read_bytes() == whole
    homes.rebuild(home)
    assert len(said(home)[0]) == 1, "a rebuild forgets nothing of it"
    with homes.open_home(home) as opened:
        opened.confirm_keyring_places()
        with opened.graph.database.read() as read:
            found = [event.action for _, event in audit.events(read, opened.principal.tenant.id)]
        assert "confirm-keyring-places" in found
    assert said(home) == ([], [])


def test_a_rebuild_that_makes_a_place_again_notes_it(home: Path) -> None:
    places(home)[1].unlink()
    homes.rebuild(home)
    assert len(said(home)[0]) == 1
