"""The object graph of one process: what is built from what.

Owns: wiring. Must never: decide anything about an object, a person or a request, or be asked for anything later: it
passes values.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from radiolith.archive import commit
from radiolith.archive.accounts import Accounts
from radiolith.archive.associations import Associations
from radiolith.archive.commit import Committer
from radiolith.archive.commitment import Commitment
from radiolith.archive.condition import Condition, Watched
from radiolith.archive.deciding import Deciding
from radiolith.archive.decisions import Decisions, decisions
from radiolith.archive.decoding import Decoding
from radiolith.archive.description import Description
from radiolith.archive.encodings import Encodings
from radiolith.archive.headers import Headers
from radiolith.archive.ingest import Door, Ingest
from radiolith.archive.notes import Notes
from radiolith.archive.operations import Operations
from radiolith.archive.peers import Peers
from radiolith.archive.pixels import Pixelwork
from radiolith.archive.ports import Archive
from radiolith.archive.query import Query
from radiolith.archive.reading import Reading
from radiolith.archive.rebuild import ALIVE, Rebuild
from radiolith.archive.remove import Remove
from radiolith.archive.retrieve import Retrieve
from radiolith.archive.sidelined import Sidelined
from radiolith.archive.versions import Versions
from radiolith.codecs.sandbox import Decoders
from radiolith.config import Settings
from radiolith.index import extras, segments
from radiolith.index.database import Database, open_database
from radiolith.index.extras import Extras
from radiolith.model import BadInput, Damaged, Failure
from radiolith.policies.traffic import Traffic, traffic
from radiolith.storage.backends.steps_file import open_steps
from radiolith.storage.blobs import Log, microseconds
from radiolith.storage.cache import Cache
from radiolith.storage.keyring import Keyring
from radiolith.storage.lost_places import LostPlaces
from radiolith.storage.pool import keep_freed_memory
from radiolith.storage.tiers import open_backend, open_keyring
from radiolith.trust import access
from radiolith.trust.audit import ReadAudit
from radiolith.trust.identity import Identities
from radiolith.trust.keys import Keys, read_root_key

THREADS = 6  # scans, reads and queries of a process; two cores are busy with three, the rest waits for disks


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything one process holds open."""

    settings: Settings
    name: str  # of the process, as the audit shows it
    database: Database
    store: Log
    keyring: Keyring
    keys: Keys
    committer: Committer
    archive: Archive
    identities: Identities
    accounts: Accounts
    condition: Condition
    associations: Associations
    traffic: Traffic
    peers: Peers
    decisions: Decisions
    reads: ReadAudit
    rebuild: Rebuild
    decoding: Decoding
    threads: ThreadPoolExecutor
    also: Extras

    async def close(self) -> None:
        """Everything submitted is settled, the open segment sealed, handles given back."""
        self.decoding.close()
        access.refusals.remove(self.reads.refused)
        await self.committer.stop()
        await self.reads.stop()
        self.store.close()
        self.threads.shutdown(wait=True)
        self.database.close()


def build(
    settings: Settings, name: str, decoders: Callable[[], Decoders], cache: Cache, *, create: bool = False
) -> Graph:
    """All of it, in the process that will use it: after a fork, inside or outside an event loop.

    create: make the tier where it does not exist; else a missing one (a volume that is not mounted) is Unavailable.
    """
    clock = microseconds
    keep_freed_memory()
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")
    database = open_database(settings.database.url)
    steps = open_steps(name)  # one counter for all that this process writes and syncs
    store = Log(open_backend(settings.tiers.hot, steps=steps), pool_bytes=settings.limits.pool_bytes)
    lost = LostPlaces(settings.home, clock)
    noted = _nothing_lost if create else lost.note  # a node that joins has places of its own to make
    keyring = open_keyring(settings.keys.keyring, settings.tiers.hot, steps=steps, lost=noted)
    lost.whole(settings.keys.keyring)
    keys = Keys(read_root_key(Path(settings.keys.root)), keyring)
    keys.follow_from(_named_scopes(database))
    committer = Committer(commit.Parts(keys, store, database), name, settings.limits.pool_bytes, clock)
    reads = ReadAudit(database, name, clock)
    access.refusals.append(reads.refused)
    reading = Reading(store, keys, database, threads)
    decoding = Decoding(decoders)
    headers = Headers(reading, settings.amend.system)
    description, pixels = Description(reading, headers, cache), Pixelwork(reading, headers, decoding, cache)
    encodings = Encodings(database, reading, pixels, committer, clock)
    also = extras.parse(settings.index.attributes)
    door = Door(store, committer, encodings, settings, threads, clock, also)
    deciding = Deciding(database, reading, committer, reads, clock)
    operations = Operations(deciding)
    archive = Archive(
        ingest=Ingest(door),
        query=Query(database, description, reads, threads, also),
        retrieve=Retrieve(database, reading, (headers, description, pixels), reads),
        remove=Remove(operations),
        versions=Versions(operations),
        commitment=Commitment(database, reading, reads, clock),
        quarantine=Sidelined(deciding),
        notes=Notes(operations, description),
    )
    accounts = Accounts(database, reading, committer, reads, clock)
    associations = Associations(settings, deciding)
    condition = Condition(Watched(settings, database, store, accounts, reading, lost, reads, clock))
    peers = Peers(deciding, accounts, archive.ingest, archive.quarantine, associations)
    return Graph(
        settings, name, database, store, keyring, keys, committer, archive, Identities(database, settings, clock, reads),
        accounts, condition, associations,
        traffic(database, reading, description, committer, reads, clock, settings.webhooks),
        peers, decisions(operations, description, archive, peers), reads,
        Rebuild(store, keys, database, clock, also), decoding, threads, also,
    )  # fmt: skip


def _named_scopes(database: Database) -> int:
    """Keyring entries before this position are named by committed rows; 0 where there is no index yet."""
    try:
        with database.read() as read:
            return segments.next_scope(read)
    except Failure:
        return 0


def _nothing_lost(place: str) -> None:
    """A home in the making has no place to lose."""


def no_decoders() -> Decoders:
    """For processes that decode nothing."""
    raise BadInput("this process decodes nothing")


def settled(settings: Settings) -> int:
    """How old a segment must be before recovery rolls it forward: a file's lock tells whether its writer lives."""
    return 0 if settings.tiers.hot.url.startswith("file:") else ALIVE


def prove(settings: Settings) -> None:
    """Log, keyring and root key are there and belong together: before the index, which is all that is left without them,
    is given up. Raises Unavailable, NotFound, Damaged."""
    open_backend(settings.tiers.hot, create=False).close()
    lost = LostPlaces(settings.home, microseconds)
    keyring = open_keyring(settings.keys.keyring, settings.tiers.hot, lost=lost.note)
    if not Keys(read_root_key(Path(settings.keys.root)), keyring).load():
        raise Damaged("the keyring is empty; put a copy of it in one of its places first")
