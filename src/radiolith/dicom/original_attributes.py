"""The Original Attributes Sequence (0400,0561): who changed what of a header, and what it was before (PS3.3 C.12.1.1.9).

Owns: one item a decision, and how items join those that are there. Must never: change an item that is there already, or
know how values are changed. Prior values stand in the item as they stood in the header, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from radiolith.dicom.elements import Form, NotInCharacterSet, text_in
from radiolith.dicom.encoding import BIG, LITTLE, element_header, padded
from radiolith.dicom.limits import UNDEFINED
from radiolith.dicom.outline import Span
from radiolith.model import Step

ORIGINAL_ATTRIBUTES = 0x04000561
_MODIFIED_ATTRIBUTES = 0x04000550
_STOP_BYTES = 8
_TEXT_MAX = 64  # characters of an LO

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who corrects, and where the header came from; both LO, at most 64 characters are written.

    `system`: Modifying System (0400,0563). `source`: Source of Previous Values (0400,0564) where a step names none.
    """

    system: str = "RADIOLITH"
    source: str = ""


def moment(at: int) -> bytes:
    """Microseconds since 1970 as a DT value in UTC (PS3.5 table 6.2-1)."""
    when = _EPOCH + timedelta(microseconds=at)
    return f"{when:%Y%m%d%H%M%S}.{when.microsecond:06d}+0000".rjust(26, "0").encode()


def item(step: Step, origin: Origin, priors: Mapping[int, bytes], form: Form) -> bytes:
    """The item of one step, of undefined length. `priors`: tag -> element as it was, of no length where it was not."""
    implicit, big, _ = form.encoding
    marks = BIG if big else LITTLE

    def element(tag: int, vr: str, value: bytes) -> bytes:
        even = padded(value, vr)
        return element_header(tag, vr, len(even), implicit=implicit, big=big) + even

    return b"".join(
        (
            marks.item,
            element_header(_MODIFIED_ATTRIBUTES, "SQ", UNDEFINED, implicit=implicit, big=big),
            marks.item,
            *(priors[tag] for tag in sorted(priors)),
            marks.item_stop,
            marks.sequence_stop,
            element(0x04000562, "DT", moment(step.at)),
            element(0x04000563, "LO", _text(origin.system, form)),
            element(0x04000564, "LO", _text(step.origin or origin.source, form)),
            element(0x04000565, "CS", step.why.encode("ascii", "replace")),
            marks.item_stop,
        )
    )


def _text(text: str, form: Form) -> bytes:
    """Names of systems are no reason to change a header's character set: what is not in it becomes '?'."""
    text = "".join(c for c in text.replace("\\", "/") if c.isprintable())[:_TEXT_MAX].strip()
    try:
        return text_in(text, "LO", form.terms)
    except NotInCharacterSet:
        return text.encode("ascii", "replace")


def joined(existing: tuple[bytes, Span] | None, items: list[bytes], form: Form, anew: Callable[[], bytes]) -> bytes:
    """The whole element: items there were, then the new ones.

    `existing`: the element's bytes and its span in the dataset. `anew` gives the same element written anew, closed and of
    undefined length, for one that is not closed or does not say that it is a sequence.
    """
    implicit, big, _ = form.encoding
    marks, new = BIG if big else LITTLE, b"".join(items)
    head = element_header(ORIGINAL_ATTRIBUTES, "SQ", UNDEFINED, implicit=implicit, big=big)
    if existing is None:
        return head + new + marks.sequence_stop
    element, span = existing
    lead = span.value - span.start
    undefined = element[lead - 4 : lead] == b"\xff\xff\xff\xff"
    if not span.closed or (span.vr != "SQ" and not (implicit and not span.vr)):
        element, lead, undefined = anew(), len(head), True
        if not element.startswith(head) or len(element) < lead + _STOP_BYTES:
            return head + new + marks.sequence_stop
    if undefined:
        return element[:-_STOP_BYTES] + new + marks.sequence_stop
    content = element[lead:] + new
    return element_header(ORIGINAL_ATTRIBUTES, "SQ", len(content), implicit=implicit, big=big) + content
