"""What encoding a dataset is really in, from its first element.

Owns: the decision between declared and found. Must never: look further than the first eight bytes. The first element of
a dataset is of a low group (0002 to 0040 in practice), which tells the byte order, and has a VR or has not.
"""

from __future__ import annotations

from radiolith.dicom.element import looks_explicit
from radiolith.dicom.limits import Unparsable
from radiolith.dicom.syntax import Encoding

_FIRST_GROUP_MAX = 0x0070
"""The highest group a dataset was ever seen to begin with is 0040; below 0100 the byte order is unambiguous."""


def actual_encoding(head: bytes, declared: Encoding | None) -> Encoding:
    """The encoding that the first eight bytes of a dataset show; `declared` None means that nothing was said.

    Raises Unparsable when the bytes begin no dataset. The deflated flag is passed through: `head` is inflated.
    """
    little, big = int.from_bytes(head[:2], "little"), int.from_bytes(head[:2], "big")
    explicit = looks_explicit(head, 0)
    deflated = declared is not None and declared.deflated
    if big <= _FIRST_GROUP_MAX < little:
        if not explicit:
            raise Unparsable("the dataset begins with no data element of a known encoding")
        return Encoding(big=True, deflated=deflated)
    if declared is None and (little > _FIRST_GROUP_MAX or (little, head[2:4]) == (0, b"\0\0")):
        raise Unparsable("the data begin with neither a DICOM prefix nor a data element")
    if declared is not None and declared.big and big > _FIRST_GROUP_MAX >= little:
        declared = Encoding(implicit=False, big=False, deflated=deflated)
    if explicit:
        return Encoding(big=declared is not None and declared.big, deflated=deflated)
    if declared is not None and not declared.implicit and _may_be_odd_vr(head):
        return declared
    return Encoding(implicit=True, deflated=deflated)


def _may_be_odd_vr(head: bytes) -> bool:
    """Two printable bytes where a VR stands: an unknown VR of a dataset that was declared explicit."""
    return all(0x20 <= byte <= 0x7E for byte in head[4:6])
