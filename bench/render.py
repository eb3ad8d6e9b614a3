"""What a rendered frame costs: a 512 x 512 16-bit CT to JPEG, by decoder state and by transfer syntax.

    python -m bench.render [--seconds N]

"fresh decoder": every picture in a session of its own, the spare waiting warm (a viewer asking for one instance after
another). "same object": further pictures of one object. Client and decoder share the machine; run it on a quiet one.
Also prints the proportional memory of the zygote and its waiting decoders.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import struct
import time
from pathlib import Path

import numpy as np
import uvloop

from radiolith.codecs import registry
from radiolith.codecs.sandbox import Decoders, Frame, Opened, Wanted, Zygote, start_zygote

SIDE = 512
TARGETS = (
    registry.RLE, registry.JPEG_LOSSLESS, registry.JPEGLS_LOSSLESS, registry.JPEG2K_LOSSLESS, registry.HTJ2K_RPCL,
)  # fmt: skip


def header(elements: int = 200) -> bytes:
    """A CT header with `elements` further attributes, Explicit VR Little Endian."""

    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        value += b" " * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    word = struct.Struct("<H").pack
    image = {2: word(1), 0x10: word(SIDE), 0x11: word(SIDE), 0x100: word(16), 0x101: word(16), 0x102: word(15),
             0x103: word(1)}  # fmt: skip
    tones = {0x1050: b"40", 0x1051: b"400", 0x1052: b"-1024", 0x1053: b"1"}
    out = element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0")
    out += b"".join(element(0x10, 0x1000 + n, b"LO", b"some text or other") for n in range(elements))
    out += element(0x28, 2, b"US", image.pop(2)) + element(0x28, 4, b"CS", b"MONOCHROME2")
    out += b"".join(element(0x28, n, b"US", v) for n, v in image.items())
    return out + b"".join(element(0x28, n, b"DS", v) for n, v in tones.items())


def slice_of_a_body() -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    """Air, soft tissue with noise, bone."""
    y, x = np.mgrid[:SIDE, :SIDE]
    noise = np.random.default_rng(0).normal(0, 12, (SIDE, SIDE))
    radius = np.hypot(x - SIDE / 2, (y - SIDE / 2) * 1.3)
    tissue = 1040 + 40 * np.sin(x / 30) * np.cos(y / 40) + noise
    return np.where(radius > 230, 24 + noise, np.where(radius < 40, 1900 + noise, tissue)).astype(np.int16)


async def measure(decoders: Decoders, opened: Opened, frame: Frame, want: Wanted, seconds: float) -> tuple[str, str]:
    fresh: list[float] = []
    end = time.perf_counter() + seconds / 2
    while time.perf_counter() < end:
        await asyncio.sleep(0.1)  # a spare gets ready meanwhile
        start = time.perf_counter()
        async with decoders.session(opened) as session:
            await session.render([frame], want)
            fresh.append(time.perf_counter() - start)
    again: list[float] = []
    async with decoders.session(opened) as session:
        await session.render([frame], want)
        end = time.perf_counter() + seconds / 2
        while time.perf_counter() < end:
            start = time.perf_counter()
            await session.render([frame], want)
            again.append(time.perf_counter() - start)
    return _row(fresh), _row(again)


def _row(times: list[float]) -> str:
    return f"{statistics.median(times) * 1e3:6.2f} (best {min(times) * 1e3:5.2f})"


def memory(zygote: Zygote) -> str:
    """Proportional set size of the zygote and its decoders."""
    listed = Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text().split()
    total = 0
    for pid in (str(zygote.pid), *listed):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return f"zygote and {len(listed)} waiting decoders: {total / 1024:.0f} MiB PSS"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="per line")
    seconds = parser.parse_args().seconds
    pixels = slice_of_a_body().tobytes()
    with start_zygote() as zygote:
        decoders = Decoders(zygote.address)
        native = Opened(header(), registry.EXPLICIT_LE)
        frames = {registry.EXPLICIT_LE: Frame(0, pixels)}
        async with decoders.session(native) as session:
            for target in TARGETS:
                frames[target] = Frame(0, (await session.transcode(Frame(0, pixels), target)).data)
        await asyncio.sleep(0.5)
        print(memory(zygote))
        print(f"{'ms per picture, median':58} {'fresh decoder':>20} {'same object':>20}")
        for uid, frame in frames.items():
            fresh, again = await measure(decoders, Opened(header(), uid), frame, Wanted(), seconds)
            print(f"{registry.syntax(uid).name[:50]:50} to JPEG {fresh:>20} {again:>20}")
        small = Wanted(thumbnail=True)
        for uid in (registry.EXPLICIT_LE, registry.HTJ2K_RPCL):
            fresh, again = await measure(decoders, Opened(header(), uid), frames[uid], small, seconds)
            print(f"{registry.syntax(uid).name[:47]:47} thumbnail  {fresh:>20} {again:>20}")
        print(f"{decoders.counts}")


if __name__ == "__main__":
    uvloop.run(main())
