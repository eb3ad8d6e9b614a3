"""What is shown of a header: the bytes received, with the corrections that hold for its series.

Owns: the name of that state, which caches and entity tags use. Must never: know what a correction is for.
"""

from __future__ import annotations

from radiolith.model import Held


def tag_of(held: Held) -> bytes:
    """Names what is shown of an object: its bytes are random enough for their id, an overlay for its digest. The same on
    every node; an undo brings the name back that was there before."""
    return held.blob.object_id + (held.overlay.digest if held.overlay is not None else b"")
