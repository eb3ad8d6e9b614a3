"""The texts of a dataset in UTF-8, where a correction needs characters that its own character set has not.

Owns: which values are in the dataset's character set (PS3.5 6.1.2.2), at every depth, and how they are written anew. Must
never: touch an item that names a character set of its own: what is in there stays as it is, or lose a byte: a value that
its character set cannot explain is read as Latin-1. A sequence without such texts stays verbatim; one with some is written
anew with undefined lengths. Limits: texts longer than a piece (256 KiB) stay as they are; nothing more is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from radiolith.dicom import charset as charsets
from radiolith.dicom.encoding import PIECE, emitted
from radiolith.dicom.limits import LIMITS, Limits
from radiolith.dicom.syntax import Encoding
from radiolith.dicom.tokens import ELEMENT, FRAGMENTS, ITEM_START, ITEM_STOP, PIXELS, SEQUENCE, Token, Tokens
from radiolith.dicom.wanted import SPECIFIC_CHARACTER_SET
from radiolith.dicom.window import Data

MAY_HOLD_TEXTS = charsets.CHARSET_VRS | {"", "SQ", "UN"}
"""VRs of elements with texts in the dataset's character set, or with others inside; '' is one that nothing says."""


def to_utf_8(raw: bytes, vr: str, terms: tuple[str, ...]) -> bytes:
    """A value in UTF-8, its padding kept off. ASCII without escapes is the same in every character set."""
    if _is_plain(raw):
        return raw
    text = charsets.decode(raw, terms, vr)
    if "\ufffd" in text:
        text = raw.decode("latin_1").rstrip(" \0")
    return text.encode("utf_8")


def _is_plain(raw: bytes) -> bool:
    return raw.isascii() and b"\x1b" not in raw


class _Levels:
    """Tokens as they pass, and whether the present one is in the dataset's character set."""

    def __init__(self, tokens: Tokens) -> None:
        self.inherits = True
        self.depth = 0
        self._tokens = iter(tokens)
        self._outer: list[bool] = []

    @property
    def nested(self) -> bool:
        """Whether the present token lies in an item."""
        return bool(self._outer)

    def __iter__(self) -> Iterator[Token]:
        for token in self._tokens:
            kind = token[0]
            if kind == SEQUENCE:
                self.depth += 1
            elif kind == ITEM_START:
                self._outer.append(self.inherits)
            elif kind == ITEM_STOP:
                self.inherits = self._outer.pop()
            elif kind == ELEMENT:
                if token[1] == SPECIFIC_CHARACTER_SET and self._outer and token[4]:
                    self.inherits = False
            elif kind not in (PIXELS, FRAGMENTS):
                self.depth -= 1
            yield token


def recoded(
    data: Data,
    encoding: Encoding,
    terms: tuple[str, ...],
    limits: Limits = LIMITS,
    *,
    creators: Mapping[int, str] | None = None,
) -> Iterator[Rewritten]:
    """Every top-level element that has to be written anew, in order. Walks the dataset twice; `creators` are the private
    ones before it. Raises LimitExceeded."""
    starts = set(_concerned(data, Tokens(data, encoding, limits, creators=creators)))
    if not starts:
        return
    levels = _Levels(Tokens(data, encoding, limits, creators=creators))
    tokens, end = iter(levels), 0

    def changed(tag: int, vr: str, raw: bytes) -> bytes:
        return to_utf_8(raw, vr, terms) if levels.inherits and vr in charsets.CHARSET_VRS else raw

    for token in tokens:
        while data[end : end + 2] in (b"\xfe\xff", b"\xff\xfe") and end + 8 < token[3]:
            end += 8  # a stray delimiter, which belongs to no element
        run = Rewritten(end, token, tokens, levels)
        if token[3] in starts:
            run.pieces = emitted(data, run.tokens, encoding, changed)
            yield run
        for _ in run.tokens:
            pass
        end = run.stop


class Rewritten:
    """A top-level element that begins at `start`, and the pieces to stand for it: to be used up before the next one is
    taken; only then `stop` says where it ends."""

    def __init__(self, start: int, first: Token, rest: Iterator[Token], levels: _Levels) -> None:
        self.start = start
        self.stop = start
        self.tokens = self._run(first, rest, levels)
        self.pieces: Iterator[bytes] = iter(())

    def _run(self, token: Token, rest: Iterator[Token], levels: _Levels) -> Iterator[Token]:
        self.stop = _stop(token)
        yield token
        while levels.depth and (following := next(rest, None)) is not None:
            self.stop = _stop(following)
            yield following


def _stop(token: Token) -> int:
    """Where a top-level element ends whose last token this is."""
    kind, _, _, start, length, _ = token
    return start + length + (8 if kind == FRAGMENTS else 0) if kind in (ELEMENT, FRAGMENTS) else start


def _concerned(data: Data, tokens: Tokens) -> Iterator[int]:
    """The value offset of each top-level element that holds a text to be written anew."""
    levels = _Levels(tokens)
    top, told = 0, False
    for kind, _, vr, start, length, _ in levels:
        if not levels.nested and kind in (ELEMENT, SEQUENCE) and levels.depth == (kind == SEQUENCE):
            top, told = start, False
        text = kind == ELEMENT and vr in charsets.CHARSET_VRS and levels.inherits and 0 < length <= PIECE
        if text and not told and not _is_plain(data[start : start + length]):
            yield top
            told = True
