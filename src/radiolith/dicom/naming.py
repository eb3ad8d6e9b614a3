"""UIDs as names: what may stand in an address or a file name for a UID as it came.

Owns: one reversible spelling. Nothing is refused because an identity looks wrong, so objects are held whose UIDs have
slashes, spaces, quotes or dots alone; each must be found by the address that the archive gave for it. Must never: make
two UIDs one.

A UID of letters, digits, dots, hyphens and underscores stands for itself. Any other is an underscore and its UTF-8 with
`~` where a URL has `%`: made of unreserved characters (RFC 3986 2.3), it survives every proxy, browser and file system.
Limits: NAME_MAX characters of a name that is read.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

NAME_MAX = 512  # three characters for each of the 128 that are kept, and some

_PLAIN = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")
_LENIENT = re.compile(r"[0-9A-Za-z.-][0-9A-Za-z._-]{0,127}")
_SPELLED = re.compile(r"_[0-9A-Za-z._~-]+")


def name_of(uid: str) -> str:
    """A UID as a segment of an address or a file name: nothing in it can end a header or climb a path. '' is ''."""
    if not uid or _PLAIN.fullmatch(uid):
        return uid
    return "_" + quote(uid, safe="").replace("~", "%7E").replace("%", "~")


def uid_of(name: str) -> str | None:
    """The UID that `name_of` gave this name to, or that stands for itself; None for what is no name of any."""
    if _LENIENT.fullmatch(name):
        return name
    if len(name) > NAME_MAX or not _SPELLED.fullmatch(name):
        return None
    try:
        uid = unquote_to_bytes(name[1:].replace("~", "%")).decode()
    except UnicodeDecodeError:
        return None
    return uid if uid.isprintable() else None
