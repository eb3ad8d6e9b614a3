"""Labels on the page of studies: shown as text, and searched by."""

from __future__ import annotations

from pathlib import Path

from radiolith.model import Page, Query
from tests.web.world import World


def test_labels_are_shown_escaped_and_searched_by(tmp_path: Path) -> None:
    world = World(tmp_path)
    asked: list[Query] = []

    async def search(principal: object, query: Query) -> Page:
        asked.append(query)
        return Page([{0x0020000D: ("UI", "1.2"), 0x77771002: ("LO", "urgent\\ward=<3>")}], False)

    world.query.search = search  # type: ignore[method-assign]
    answer = world.signed_in().get("/?label=ward%3D*")
    assert answer.status_code == 200
    assert "urgent</span>" in answer.text and "ward=&lt;3&gt;</span>" in answer.text
    (match,) = asked[0].matches
    assert (match.path, match.values) == ((0x77771002,), ("ward=*",))
    assert (0x77771002,) in asked[0].include
