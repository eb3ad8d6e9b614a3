"""Bodies that were right once."""

from __future__ import annotations

import random


def mutated(rng: random.Random, good: bytes) -> list[bytes]:
    """A body that was right once, cut into pieces."""
    body = bytearray(good)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(body) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            body[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del body[at : at + rng.randrange(200)]
        elif kind == 2:
            body[at:at] = rng.choice(
                [b"\r\n--b0", b"\r\n--b0--", b"--", b"\r\n\r\n", b"\0" * 50, b"Content-Type: x\r\n"]
            )
        elif kind == 3:
            body[at:at] = body[: rng.randrange(500)]
        elif kind == 4:
            body = body[:at]
        elif kind == 5:
            body[at:at] = b"X: " + b"y" * rng.randrange(20_000) + b"\r\n"
        else:
            body[at:at] = b"\r\n".join(b"h%d: v" % n for n in range(rng.randrange(60)))
    size = rng.choice([1, 13, 1000, 10**6])
    if size == 1 and len(body) > 3000:
        size = 50
    return [bytes(body[at : at + size]) for at in range(0, len(body), size)] or [b""]
