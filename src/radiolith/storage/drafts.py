"""One record being written: encrypted as its bytes arrive.

Owns: the cutting into chunks and the way from the pool to a segment of its own. Must never: keep plaintext beyond
one chunk, or be used by two threads at once. What a draft holds is garbage until Log.commit has returned its place.
"""

from __future__ import annotations

from collections.abc import Callable

from isal.isal_zlib import crc32

from radiolith.model import Failure, Kind, Place, Scope
from radiolith.storage.backends import Sealed, Stream
from radiolith.storage.crypto import ChunkSealer
from radiolith.storage.format import CHUNK, MAX_META, TAG, Buffer, Trailer, pack_end, pack_record_header, record_length
from radiolith.storage.pool import Pool

SMALL = 1024 * 1024  # bytes of payload up to which a draft waits in the pool: four CT images' worth; beyond, it streams


class Draft:
    """`object_id` and `key` are drawn for this record alone; `size` counts the payload written so far.

    write()* , seal(), then Log.commit; or discard() at any time, also after a failure. `streaming` says that writes
    go to the disk and block there. `failure` is set when a streamed draft was refused at commit, `place` once it is
    durable.
    """

    def __init__(
        self,
        tenant: bytes,
        kind: Kind,
        *,
        pool: Pool,
        open_stream: Callable[[], Stream],
        random: Callable[[int], bytes],
        small: int = SMALL,
    ):
        self.tenant = tenant
        self.kind = kind
        self.object_id = random(16)
        self.key = random(32)
        self.size = 0
        self.place: Place | None = None
        self.failure: Failure | None = None
        self._pool = pool
        self._small = small
        self._open_stream = open_stream
        self._sealer = ChunkSealer(self.key, tenant, self.object_id)
        self._plain: bytearray | None = (
            None  # the last chunk so far: sealed when more comes, since the last one is marked
        )
        self._fill = 0
        self._held: list[tuple[bytearray, int]] = []  # sealed chunks that wait: slab, bytes
        self._stream: Stream | None = None
        self._crc = 0
        self._trailer = b""

    @property
    def streaming(self) -> bool:
        return self._stream is not None

    @property
    def sealed(self) -> bool:
        return bool(self._trailer)

    def write(self, data: Buffer) -> None:
        """Append to the payload. The caller may reuse `data`. Raises NoSpace or Unavailable; then discard."""
        if self._trailer:
            raise ValueError("a sealed draft takes no more bytes")
        view = memoryview(data)
        if view.itemsize != 1 or view.ndim != 1:
            view = view.cast("B")
        at, stop = 0, len(view)
        self.size += stop
        while at < stop:
            if self._fill == CHUNK:
                assert self._plain is not None
                self._seal_chunk(memoryview(self._plain)[:CHUNK], last=False)
                self._fill = 0
            if not self._fill and stop - at > CHUNK:
                self._seal_chunk(view[at : at + CHUNK], last=False)
                at += CHUNK
                continue
            if self._plain is None:
                self._plain = self._pool.take()
            take = min(stop - at, CHUNK - self._fill)
            self._plain[self._fill : self._fill + take] = view[at : at + take]
            self._fill += take
            at += take

    def flush(self) -> None:
        """For a streaming draft: make what is written durable already, in the caller's thread, so that the commit
        which others wait for has little left to sync."""
        if self._stream is not None:
            self._stream.flush()

    def seal(self, scope: Scope, wrapped_key: bytes, meta: bytes) -> None:
        """End the payload and add the trailer. `wrapped_key` is `key` under the scope's key (40 bytes)."""
        if self._trailer:
            raise ValueError("a draft is sealed once")
        if len(wrapped_key) != 40 or len(scope.id) != 16 or len(meta) > MAX_META:
            raise ValueError("wrapped key of 40 bytes, scope id of 16 bytes, metadata up to MAX_META")
        self._seal_chunk(memoryview(self._plain)[: self._fill] if self._plain else b"", last=True)
        if self._plain is not None:
            self._pool.give(self._plain)
            self._plain = None
        clear = Trailer(
            self.kind.value, self.object_id, self.tenant, scope.id, scope.position, wrapped_key, self.size, len(meta)
        ).pack()
        body = clear + self._sealer.seal_meta(meta, clear)
        self._trailer = body + pack_end(record_length(self.size, len(meta)), len(meta), crc32(body, self._crc))
        self._meta_size = len(meta)

    def discard(self) -> None:
        """Give everything back; what was streamed is removed. Harmless after a commit, and twice. Never raises."""
        if self._plain is not None:
            self._pool.give(self._plain)
            self._plain = None
        for slab, _ in self._held:
            self._pool.give(slab)
        self._held = []
        if self._stream is not None and self.place is None:
            self._stream.discard()

    def record(self) -> Sealed:
        """The sealed record, for a backend: buffers in order for a pooled draft, none for a streamed one."""
        if not self._trailer:
            raise ValueError("only a sealed draft can be committed")
        length = record_length(self.size, self._meta_size)
        if self._stream is not None:
            return Sealed(self.object_id, self.kind.value, length, ())
        header = pack_record_header(self.kind.value, length, self.object_id, self.tenant)
        chunks = [memoryview(slab)[:used] for slab, used in self._held]
        return Sealed(self.object_id, self.kind.value, length, [header, *chunks, self._trailer])

    def commit_stream(self) -> Place:
        assert self._stream is not None
        return self._stream.commit(self._trailer, self.record())

    def _seal_chunk(self, plain: Buffer, *, last: bool) -> None:
        used = len(plain) + TAG
        slab = None
        if self._stream is None and self.size <= self._small:
            slab = self._pool.take_to_hold()
        if slab is None:
            self._to_stream()
            slab = self._pool.take()
        sealed = memoryview(slab)[:used]
        self._sealer.seal(plain, sealed, last)
        self._crc = crc32(sealed, self._crc)
        if self._stream is None:
            self._held.append((slab, used))
            return
        try:
            self._stream.write(sealed)
        finally:
            self._pool.give(slab)

    def _to_stream(self) -> None:
        if self._stream is not None:
            return
        self._stream = self._open_stream()
        self._stream.write(pack_record_header(self.kind.value, 0, self.object_id, self.tenant))
        for slab, used in self._held:
            self._stream.write(memoryview(slab)[:used])
        for slab, _ in self._held:
            self._pool.give(slab)
        self._held = []
