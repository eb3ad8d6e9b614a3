"""UIDs in half the space: two characters a byte, and still in the order of the text.

Owns: the packing of UIDs in index columns. Must never: be used for anything that leaves the index.
Digits and dots take a nibble each (end < '.' < '0' … '9'), so that comparing packed bytes is comparing text. Anything else
(UIDs with letters exist) is kept as UTF-8 behind a marker byte that no packed UID begins with. '' is b''.
"""

from __future__ import annotations

from functools import lru_cache

_TEXT = b"\xff"  # a packed UID begins with a nibble of at most 11
_NIBBLES = str.maketrans(".0123456789", "123456789ab")
_CHARACTERS = bytes.maketrans(b"123456789ab", b".0123456789")


@lru_cache(maxsize=8192)
def pack_uid(uid: str) -> bytes:
    """Order-preserving bytes of a UID; never raises."""
    if not uid:
        return b""
    if not uid.isascii() or uid.strip(".0123456789"):
        return _TEXT + uid.encode("utf-8", "replace")
    packed = uid.translate(_NIBBLES)
    return bytes.fromhex(packed if len(packed) % 2 == 0 else packed + "0")


@lru_cache(maxsize=8192)
def unpack_uid(packed: bytes) -> str:
    """The text that `pack_uid` was given."""
    if packed[:1] == _TEXT:
        return packed[1:].decode()
    return packed.hex().rstrip("0").encode().translate(_CHARACTERS).decode()
