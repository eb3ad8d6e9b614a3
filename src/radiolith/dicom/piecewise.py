"""Metadata of a header of any size, made and handed on piece by piece: JSON, XML, and the paths of bulk data.

Owns: how much is made before it is handed on. Must never: give anything else than `json.to_json` and `xml.to_xml`
would, or hold more than a batch. Limits: BATCH_BYTES of values at a time; JSON of a header that repeats elements or
has them out of order has to be sorted, so it is made whole, up to the limit of `json`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain

from radiolith.dicom import json, syntax, xml
from radiolith.dicom.json import TEXT_THRESHOLD
from radiolith.dicom.limits import LIMITS, Limits
from radiolith.dicom.tokens import ELEMENT, ITEM_START, ITEM_STOP, SEQUENCE, SEQUENCE_STOP, Token, Tokens
from radiolith.dicom.window import Data

BATCH_BYTES = 256 * 1024
"""Of values that are written before the text is handed on."""

_TOKENS = 4000  # that are looked at in one go: about 50 ms
_TOKEN_BYTES = 100  # what an element costs beside its value

Parts = Sequence[Data]
"""The dataset up to and with the pixel data element's header, and what follows the pixel data (may be empty)."""


def json_pieces(
    parts: Parts, transfer_syntax: str, *, bulk_uri: Callable[[str], str], limits: Limits = LIMITS
) -> Iterator[bytes]:
    """`json.to_json` in pieces of a few 100 KiB. Raises LimitExceeded.

    Pieces may be empty: before the first one the header is walked once, and whoever takes the pieces gets his turn.
    """
    ordered = yield from _is_ordered(parts, transfer_syntax, limits)
    writer = json.Writer(bulk_uri, json.BULK_THRESHOLD)
    for part, batch in _batches(parts, transfer_syntax, limits):
        writer.write(part, batch)
        if ordered:
            yield writer.drain()
        else:
            writer.check()
    yield writer.result()


def xml_pieces(
    parts: Parts, transfer_syntax: str, *, bulk_uri: Callable[[str], str], limits: Limits = LIMITS
) -> Iterator[bytes]:
    """`xml.to_xml` in pieces of a few 100 KiB. Raises LimitExceeded."""
    writer = xml.Writer(bulk_uri, json.BULK_THRESHOLD)
    for part, batch in _batches(parts, transfer_syntax, limits):
        writer.write(part, batch)
        yield writer.drain()
    yield writer.result()


def bulk_paths(parts: Parts, transfer_syntax: str, limits: Limits = LIMITS) -> Iterator[list[str]]:
    """The paths for which `json_pieces` asks `bulk_uri`, in the order of the elements, a batch at a time."""
    paths: list[str] = []
    writer = json.Writer(lambda path: paths.append(path) or "", json.BULK_THRESHOLD)
    for part, batch in _batches(parts, transfer_syntax, limits):
        writer.write(part, batch)
        writer.drain()
        yield paths.copy()
        paths.clear()


def _batches(parts: Parts, transfer_syntax: str, limits: Limits) -> Iterator[tuple[Data, Iterator[Token]]]:
    """Each part with its tokens, some at a time; a batch must be used up before the next one is taken."""
    for part in parts:
        tokens = iter(Tokens(part, syntax.encoding(transfer_syntax), limits))
        for first in tokens:
            yield part, _batch(first, tokens)


def _batch(first: Token, rest: Iterator[Token]) -> Iterator[Token]:
    """Tokens up to BATCH_BYTES; a sequence is not parted from what follows it: a writer looks back there."""
    size = 0
    for token in chain((first,), rest):
        yield token
        size += _TOKEN_BYTES + min(token[4], TEXT_THRESHOLD)
        if size > BATCH_BYTES and token[0] != SEQUENCE:
            return


def _is_ordered(parts: Parts, transfer_syntax: str, limits: Limits) -> Generator[bytes, None, bool]:
    """Whether the elements of every level ascend, so that their JSON needs no sorting; b"" once in a while."""
    last, outer = -1, list[int]()
    for part in parts:
        for number, (kind, tag, *_) in enumerate(Tokens(part, syntax.encoding(transfer_syntax), limits), 1):
            if not number % _TOKENS:
                yield b""
            if kind == ITEM_START:
                outer.append(last)
                last = -1
            elif kind == ITEM_STOP:
                last = outer.pop()
            elif kind == SEQUENCE_STOP or (kind == ELEMENT and not tag & 0xFFFF):
                continue
            elif tag <= last:
                return False
            else:
                last = tag
    return True
