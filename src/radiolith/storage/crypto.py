"""Sealing and opening the chunks of one record.

Owns: nonces and associated data (docs/format/segment.md, "Chunks"). The only place that encrypts payload. Must
never: keep a key, draw one, or use one for a second record: the nonces count chunks, so they repeat from record to
record.
"""

from __future__ import annotations

from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from radiolith.model import Damaged
from radiolith.storage.format import CHUNK, FORMAT, TAG, Buffer, chunk_count

_NONCE = Struct("<B3xQ")  # domain, index
_ASSOCIATED = Struct("<H16s16sQB")  # format, tenant, object id, index, last flag
_META_NONCE = _NONCE.pack(2, 0)


class ChunkSealer:
    """Encrypts one record's chunks in order. Used by one thread at a time."""

    __slots__ = ("_cipher", "_index", "_object_id", "_tenant")

    def __init__(self, key: bytes, tenant: bytes, object_id: bytes):
        self._cipher = AESGCM(key)
        self._tenant = tenant
        self._object_id = object_id
        self._index = 0

    def seal(self, plain: Buffer, into: memoryview, last: bool) -> None:
        """`into` is len(plain) + TAG bytes. Every chunk but the last is CHUNK bytes long."""
        index = self._index
        associated = _ASSOCIATED.pack(FORMAT, self._tenant, self._object_id, index, last)
        self._cipher.encrypt_into(_NONCE.pack(last, index), plain, associated, into)
        self._index = index + 1

    def seal_meta(self, meta: bytes, trailer: bytes) -> bytes:
        return self._cipher.encrypt(_META_NONCE, meta, trailer)


def open_meta(key: bytes, sealed: bytes, trailer: bytes) -> bytes:
    """The metadata; raises Damaged when it, the clear trailer or the key is not what was sealed."""
    try:
        return AESGCM(key).decrypt(_META_NONCE, sealed, trailer)
    except InvalidTag:
        raise Damaged("The metadata of a record failed authentication") from None


def chunk_span(size: int, start: int, stop: int) -> tuple[int, int, int]:
    """Which chunks hold payload bytes start..stop-1 of `size`: (first chunk, offset of the first chunk's ciphertext
    behind the record header, bytes of ciphertext)."""
    first = start // CHUNK
    behind = min(-(-stop // CHUNK), chunk_count(size)) if stop > start else first + 1
    sealed = CHUNK + TAG
    end = size + TAG * chunk_count(size) if behind == chunk_count(size) else behind * sealed
    return first, first * sealed, end - first * sealed


class ChunkOpener:
    """Decrypts ranges of one record's payload."""

    __slots__ = ("_cipher", "_object_id", "_size", "_tenant")

    def __init__(self, key: bytes, tenant: bytes, object_id: bytes, size: int):
        self._cipher = AESGCM(key)
        self._tenant = tenant
        self._object_id = object_id
        self._size = size

    def open(self, sealed: memoryview, first: int, start: int, into: memoryview) -> None:
        """Payload bytes from `start` on into `into`; `sealed` holds the whole chunks from chunk `first` on, as
        chunk_span says. Raises Damaged, and then `into` holds nothing to be used."""
        last = chunk_count(self._size) - 1
        index, at, done = first, 0, 0
        while at < len(sealed):
            chunk = sealed[at : at + CHUNK + TAG]
            at += len(chunk)
            length = len(chunk) - TAG
            skip = max(0, start - index * CHUNK)
            take = min(length - skip, len(into) - done)
            if take == length:
                self._open_chunk(chunk, index, index == last, into[done : done + length])
            else:
                scratch = bytearray(length)
                self._open_chunk(chunk, index, index == last, memoryview(scratch))
                into[done : done + take] = memoryview(scratch)[skip : skip + take]
            done += take
            index += 1

    def _open_chunk(self, chunk: memoryview, index: int, last: bool, into: memoryview) -> None:
        associated = _ASSOCIATED.pack(FORMAT, self._tenant, self._object_id, index, last)
        try:
            self._cipher.decrypt_into(_NONCE.pack(last, index), chunk, associated, into)
        except InvalidTag:
            raise Damaged(f"Chunk {index} of a stored object failed authentication") from None
