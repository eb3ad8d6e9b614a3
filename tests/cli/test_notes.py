"""Rejection notes that wait, from the command line and through /api/v1."""

from __future__ import annotations

import asyncio
from pathlib import Path

from radiolith.dicom import notes
from radiolith.dicom.notes import KEY_OBJECT, SAFETY, Made, Note, Reference
from radiolith.dicom.part10 import file_meta
from radiolith.model import Source
from radiolith.policies.rejections import Rejections
from radiolith.storage.blobs import microseconds
from tests.archive.homes import opened, store
from tests.archive.objects import Made as Object
from tests.cli.test_home import Typed, typed  # noqa: F401  # pyright: ignore[reportUnusedImport]
from tests.cli.test_traffic import site

EXPLICIT = "1.2.840.10008.1.2.1"


async def fill(home: Path, *uids: str) -> None:
    """An image, and notes about it that nobody entitled has sent."""
    async with opened(home) as graph:
        image = Object("1", "1.1", "1.1.1", pixels=bytes(512)).part10()
        await store(graph, image)
        listed = Reference("1", "1.1", "1.1.1", "1.2.840.10008.5.1.4.1.1.2")
        for uid in uids:
            data = notes.write(Note(SAFETY, (listed,)), {}, Made(uid, "1.9", 1_700_000_000_000_000, "CHANGER"))
            sent = file_meta(KEY_OBJECT, uid, EXPLICIT) + data
            await store(graph, sent, source=Source("dimse", "CHANGER", "10.0.0.9"))
        await Rejections(graph.database, graph.archive.notes, microseconds).round()


def test_notes_are_listed_obeyed_and_dismissed(typed: Typed) -> None:  # noqa: F811
    asyncio.run(fill(typed.home, "1.9.1", "1.9.2"))
    assert {one["instance"] for one in typed.json("note", "list")} == {"1.9.1", "1.9.2"}
    assert all(
        one["sender"] == "CHANGER" and "1 instances of study 1" in one["said"] for one in typed.json("note", "list")
    )
    typed.done("note", "dismiss", "1.9.2")
    said = typed.done("note", "obey", "1.9.1")
    assert "2 instances" in said  # the note is hidden with the image
    assert typed.json("note", "list") == []
    assert typed.run("note", "dismiss", "1.9.1").exit_code and typed.run("note", "obey", "1.1.1").exit_code
    typed.done("amend", "undo", said.split()[-1])
    assert "before" in typed.done("note", "obey", "1.9.1")


async def test_the_api_does_the_same_for_those_who_may(tmp_path: Path) -> None:
    await fill(tmp_path / "home", "1.9.1")
    async with opened(tmp_path / "home") as graph:

        def calls() -> None:
            with site(graph) as client:
                (one,) = client.get("/api/v1/notes").json()
                assert one["instance"] == "1.9.1"
                client.headers["authorization"] = "Bearer reader"
                assert client.get("/api/v1/notes").status_code == 403
                assert client.post("/api/v1/notes/1.9.1/obey").status_code == 403
                client.headers["authorization"] = "Bearer archivist"
                assert client.post("/api/v1/notes/1.9.1/obey").json() == {"instances": 2}
                assert client.get("/api/v1/notes").json() == []
                assert client.post("/api/v1/notes/1.9.1/dismiss").status_code == 404
                client.headers["authorization"] = "Bearer admin"
                peer = {
                    "name": "ris",
                    "aet": "RIS",
                    "address": "10.0.0.7",
                    "port": 104,
                    "rejects": True,
                    "notes": "all",
                }
                assert client.post("/api/v1/peers", json=peer).status_code < 300
                (known,) = client.get("/api/v1/peers").json()
                assert known["settings"] == {"rejects": True, "notes": "all"}

        await asyncio.to_thread(calls)
