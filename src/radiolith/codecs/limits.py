"""The limits of one decoder process and of the set of them. Every one has a unit and a reason."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


def _processes() -> int:
    return max(4, (os.cpu_count() or 1) + 2)


@dataclass(frozen=True, slots=True)
class Limits:
    """Passed to the zygote when it starts (enforced by the kernel) and to clients (enforced by the clock)."""

    processes: int = field(
        default_factory=_processes
    )  # decoders alive at once, all workers together: bounds CPU, memory
    spare: int = (
        1  # decoders forked ahead, so that a request finds a warm one (making one costs 8 ms, keeping one 20 MB)
    )
    memory_bytes: int = 1536 << 20  # address space a decoder may add to what it was forked with (RLIMIT_AS)
    cpu_seconds: int = 120  # processor time of one decoder process (RLIMIT_CPU); clients renew it half way
    request_seconds: float = 20.0  # wall time of one request; then the decoder is killed, by the client and by itself
    queue_seconds: float = 15.0  # wait for a free decoder before the caller is told to come back
    idle_seconds: int = 120  # a decoder whose client asks nothing exits, so that a stuck client frees the slot
    request_bytes: int = 512 << 20  # header and frames of one request
    header_bytes: int = 64 << 20  # dataset bytes before the pixel data
    frame_bytes: int = 256 << 20  # one decoded frame; a 12,000 x 10,000 16-bit mammogram is 229 MiB
    reply_bytes: int = 512 << 20  # what a client accepts from a decoder, which it does not trust


CONTROL_BYTES = 1 << 20  # JSON part of a message: names, numbers and a few text lines
MAX_BLOBS = 1024  # byte strings in one message; a cine rendering sends one a frame
MAX_SIDE = 65_535  # rows and columns are US
MAX_OUTPUT_SIDE = 16_384  # pixels of a rendered image's side: beyond it no browser shows it
MAX_OUTPUT_PIXELS = 1 << 26  # pixels of a rendered image: 192 MiB of RGB
MAX_CINE_FRAMES = 512  # frames of one animated rendering
