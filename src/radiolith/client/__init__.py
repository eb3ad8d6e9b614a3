"""A small client of a Radiolith archive, for scripts: follow what happens, find, read, store.

Only the standard library, and nothing else of this package: the folder works alone.

    archive = Client("http://127.0.0.1:8050", token)
    for event in archive.changes(kinds=["study.complete"]):
        print(event.study, len(archive.metadata(event.study)))
"""

from __future__ import annotations

from radiolith.client.archive import Client
from radiolith.client.events import Event
from radiolith.client.receiver import Forged, Receiver
from radiolith.client.transport import ArchiveError

__all__ = ["ArchiveError", "Client", "Event", "Forged", "Receiver"]
