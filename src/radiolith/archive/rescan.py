"""A stored header scanned again: for a rebuild, and for attributes that became searchable later.

Owns: the way from a record's place to a Scan, a piece at a time. Must never: hold more than `Limits` of the scanner allow, or
read past the header of an object with pixel data.
"""

from __future__ import annotations

from radiolith.archive.reading import PIECE, is_deflated
from radiolith.dicom.reader import Scan, Scanner
from radiolith.dicom.wanted import WANTED, Wanted
from radiolith.model import Blob, Layout
from radiolith.storage.blobs import Log
from radiolith.trust.keys import Keys


def rescanned(store: Log, keys: Keys, blob: Blob, layout: Layout, wanted: Wanted = WANTED) -> Scan:
    """What the header says, with the layout that is known. An object without pixel data is all header. Blocks.

    Raises Damaged, NotFound, Unavailable, Unparsable, LimitExceeded.
    """
    end = layout.dataset_end if is_deflated(layout) else layout.header_end
    key, scanner = keys.object_key(blob), Scanner(transfer_syntax=layout.transfer_syntax, wanted=wanted)
    for at in range(layout.dataset_start, end, PIECE):
        scanner.feed(memoryview(store.read(blob, key, at, min(end, at + PIECE))))
    found = scanner.finish()
    found.layout = layout
    return found
