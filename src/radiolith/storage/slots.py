"""The bytes of a keyring: slots of one size.

Owns: docs/format/keyring.md, "Slots". Must never: do I/O, or look into a payload.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from radiolith.storage.format import CRC, FORMAT, Buffer, Malformed

SLOT = 512  # bytes; a sector: entries are found by arithmetic and damaged one by one
MAX_PAYLOAD = SLOT - 36
_HEADER = Struct("<8sHH4x16sQ468x")  # magic, format, slot size, keyring, created | crc
_ENTRY = Struct("<4sHHQQ8s476s")  # magic, format, payload size, position, durable, append, payload | crc
_HEADER_MAGIC, _ENTRY_MAGIC = b"RLKEYRNG", b"RLKE"


@dataclass(frozen=True, slots=True)
class Entry:
    position: int
    payload: bytes


def pack_header(keyring: bytes, created: int) -> bytes:
    head = _HEADER.pack(_HEADER_MAGIC, FORMAT, SLOT, keyring, created)
    return head + CRC.pack(crc32(head))


def parse_header(data: Buffer) -> bytes:
    """The keyring's id; raises Malformed."""
    if len(data) != SLOT or bytes(data[:8]) != _HEADER_MAGIC or _crc(data) != crc32(data[:-4]):
        raise Malformed("keyring header: no magic, or the checksum differs")
    magic, number, size, keyring, created = _HEADER.unpack_from(data)
    if number != FORMAT or size != SLOT or _HEADER.pack(magic, number, size, keyring, created) != bytes(data[:-4]):
        raise Malformed("keyring header: another format")
    return keyring


def pack_slot(keyring: bytes, entry: Entry, durable: int, append: bytes) -> bytes:
    """`append`: 8 random bytes of the append this entry belongs to, so that no two appends ever write the same
    bytes."""
    position, payload = entry.position, entry.payload
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a keyring payload is up to {MAX_PAYLOAD} bytes, this one {len(payload)}")
    slot = _ENTRY.pack(_ENTRY_MAGIC, FORMAT, len(payload), position, durable, append, payload)
    return slot + CRC.pack(crc32(slot, crc32(keyring)))


def parse_slot(keyring: bytes, position: int, data: Buffer) -> tuple[int, Entry]:
    """(durable, entry); raises Malformed."""
    if len(data) != SLOT:
        raise Malformed("keyring entry cut short")
    if _crc(data) != crc32(data[:-4], crc32(keyring)):
        raise Malformed("keyring entry: checksum differs")
    magic, number, size, at, durable, _, payload = _ENTRY.unpack_from(data)
    if magic != _ENTRY_MAGIC or number != FORMAT or size > MAX_PAYLOAD or at != position or durable > position:
        raise Malformed("keyring entry: not the one that belongs here")
    if any(payload[size:]):
        raise Malformed("keyring entry: padding is not zero")
    return durable, Entry(position, payload[:size])


def _crc(data: Buffer) -> int:
    return CRC.unpack_from(data, SLOT - 4)[0]
