"""multipart/related (RFC 2046, RFC 2387) both ways: bytes in, parts out; parts in, bytes out.

Owns: the grammar and its limits. Must never: read a socket, hold a part, or know what a part means. Body data come out
as views of what was fed, never joined or copied, except for the few bytes that might begin a delimiter at the end of a
piece. Everything is linear in the bytes fed, whatever they are.

Limits: boundary 70 characters (RFC 2046 5.1.1); HEADER_BYTES_MAX and HEADERS_MAX a part (real parts have three or four
lines); PARTS_MAX a body (about 300 bytes of answer each); OUTSIDE_BYTES_MAX before the first and after the last
delimiter, where RFC 2046 allows prose that nobody sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from radiolith.model import BadInput, LimitExceeded

HEADER_BYTES_MAX = 16 * 1024
HEADERS_MAX = 32
PARTS_MAX = 100_000
OUTSIDE_BYTES_MAX = 64 * 1024
DELIMITER_LINE_MAX = 256  # bytes of padding RFC 2046 permits behind a boundary

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*(.*?)[ \t]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Part:
    """A part begins. Header names are lower case; values are text (RFC 2045 knows nothing else)."""

    headers: dict[str, str]


class End(Enum):
    PART = 1  # the part that began last is complete
    BODY = 2  # the final delimiter was seen


Event = Part | memoryview | bytes | End


class _State(Enum):
    PREAMBLE = 1
    DELIMITER = 2  # behind '--boundary': '--' ends the body, a line end begins a part
    HEADERS = 3
    BLANK = 4  # at the empty line's own line end, which a part without data shares with the delimiter
    BODY = 5
    EPILOGUE = 6


def checked_boundary(text: str | None) -> bytes:
    """The boundary parameter as bytes; raises BadInput if it is absent or not RFC 2046's."""
    if not text or not _BOUNDARY.fullmatch(text):
        raise BadInput("multipart/related needs a boundary parameter of 1 to 70 permitted characters")
    return text.encode("ascii")


class Parser:
    """Feed it the body in any pieces; the events are the same however it was cut, but for how data are cut.

    A view among the events is valid as long as the piece it was cut from. Errors are BadInput or LimitExceeded, and
    nothing may be fed after one.
    """

    def __init__(self, boundary: bytes, *, header_bytes_max: int = HEADER_BYTES_MAX, parts_max: int = PARTS_MAX):
        self._delimiter = b"\r\n--" + boundary
        self._header_bytes_max = header_bytes_max
        self._parts_max = parts_max
        self._state = _State.PREAMBLE
        self._held = b"\r\n"  # a delimiter at the very start has no line end of its own
        self._outside = 0
        self._parts = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events of the next piece. Consume the iterator before feeding again."""
        if self._held:
            data = self._held + data
            self._held = b""
        view = memoryview(data)
        position = 0
        while position < len(data):
            state = self._state
            if state is _State.BODY:
                start = position
                position, found = self._find(data, start)
                if position > start:
                    yield view[start:position]
                if not found:
                    return
                yield End.PART
                position += len(self._delimiter)
                self._state = _State.DELIMITER
            elif state is _State.HEADERS:
                if not data.startswith(b"\r\n", position):  # else there is no header at all
                    end = self._headers_end(data, position)
                    if end < 0:
                        return
                    yield self._part(data[position:end])
                    position = end + 2
                else:
                    yield self._part(b"")
                self._state = _State.BLANK
            elif state is _State.BLANK:
                rest = data[position : position + len(self._delimiter)]
                if len(rest) < len(self._delimiter) and self._delimiter.startswith(rest):
                    self._held = rest
                    return
                position += 0 if rest == self._delimiter else 2
                self._state = _State.BODY
            elif state is _State.DELIMITER:
                position = self._line(data, position)
                if position < 0:
                    return
                if self._state is _State.EPILOGUE:
                    yield End.BODY
            else:
                position = self._skip(data, position)

    def finish(self) -> None:
        """Raises BadInput unless the final delimiter was seen: what is unfinished was never sent."""
        if self._state is not _State.EPILOGUE:
            raise BadInput("the multipart body ends without its final boundary")

    def _find(self, data: bytes, start: int) -> tuple[int, bool]:
        """(where the delimiter begins or data safely end, whether it was found). Keeps what may be its beginning."""
        at = data.find(self._delimiter, start)
        if at >= 0:
            return at, True
        size = len(self._delimiter)
        at = max(start, len(data) - size + 1)
        while (at := data.find(b"\r", at)) >= 0:
            if self._delimiter.startswith(data[at:]):
                self._held = data[at:]
                return at, False
            at += 1
        return len(data), False

    def _headers_end(self, data: bytes, position: int) -> int:
        """Index of the last header line's end, or -1 when more is needed (kept)."""
        end = data.find(b"\r\n\r\n", position, position + self._header_bytes_max + 4)
        if end < 0:
            if len(data) - position > self._header_bytes_max:
                raise LimitExceeded(f"the header of a part is longer than {self._header_bytes_max} bytes")
            self._held = data[position:]
        return end

    def _part(self, block: bytes) -> Part:
        self._parts += 1
        if self._parts > self._parts_max:
            raise LimitExceeded(f"the body has more than {self._parts_max} parts")
        headers: dict[str, str] = {}
        lines = block.split(b"\r\n") if block else []
        if len(lines) > HEADERS_MAX:
            raise LimitExceeded(f"a part has more than {HEADERS_MAX} header lines")
        for line in lines:
            field = _FIELD.fullmatch(line)
            if field is None or b"\0" in line or b"\n" in line or b"\r" in line:
                raise BadInput("a part has a header line that is not 'name: value'")
            name = field[1].decode("ascii").lower()
            if name in headers:
                raise BadInput(f"a part has the header {name} twice")
            headers[name] = field[2].decode("utf-8", "replace")
        return Part(headers)

    def _line(self, data: bytes, position: int) -> int:
        """What stands behind a boundary. Returns where to go on, or -1 when more is needed (kept)."""
        if len(data) - position < 2:
            self._held = data[position:]
            return -1
        if data.startswith(b"--", position):
            self._state = _State.EPILOGUE
            self._outside = 0
            return position + 2
        end = data.find(b"\r\n", position, position + DELIMITER_LINE_MAX)
        if end < 0:
            if len(data) - position >= DELIMITER_LINE_MAX:
                raise BadInput("a boundary is not followed by a line end")
            self._held = data[position:]
            return -1
        if data[position:end].strip(b" \t"):
            raise BadInput("a boundary is followed by something else than a line end")
        self._state = _State.HEADERS
        return end + 2

    def _skip(self, data: bytes, position: int) -> int:
        """Preamble and epilogue mean nothing, but they are not without end either."""
        end, found = len(data), False
        if self._state is _State.PREAMBLE:
            end, found = self._find(data, position)
        self._outside += end - position
        if self._outside > OUTSIDE_BYTES_MAX:
            raise LimitExceeded(f"more than {OUTSIDE_BYTES_MAX} bytes outside of all parts")
        if found:
            self._state = _State.DELIMITER
            return end + len(self._delimiter)
        return len(data)


# ---------------------------------------------------------------- out


def content_type(media: str, boundary: str, extra: str = "") -> str:
    """The Content-Type of a multipart/related answer; `extra` goes into the type's parameters, e.g. a syntax."""
    return f'multipart/related; type="{media}"{extra}; boundary={boundary}'


class Writer:
    """Delimiters and part headers of a body; the caller sends the data between them."""

    def __init__(self, boundary: str):
        self._delimiter = f"\r\n--{boundary}".encode("ascii")
        self._first = True

    def part(self, media: str, location: str = "", size: int | None = None) -> bytes:
        """What goes before a part's data. RFC 2046 wants no line end before the first delimiter; none is sent."""
        head = self._delimiter[2:] if self._first else self._delimiter
        self._first = False
        lines = f"\r\nContent-Type: {media}"
        if location:
            lines += f"\r\nContent-Location: {location}"
        if size is not None:
            lines += f"\r\nContent-Length: {size}"
        return head + lines.encode("ascii", "replace") + b"\r\n\r\n"

    def end(self) -> bytes:
        return (self._delimiter[2:] if self._first else self._delimiter) + b"--\r\n"
