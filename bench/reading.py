"""Rows about finding and giving back, in one archive that holds the tiny instances and some real-sized series.

Clients ask for other objects at every call, so that no answer is one the server has just given. What comes back is
looked at before the clock starts: the right number of results, the right frame.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from PIL import Image, ImageStat

import corpus
import processes
from client import DICOM_JSON, DICOM_PARTS, FRAME_PARTS, Address, Client
from corpus import Name
from load import ClientFailed, Numbers, Started, one, repeated, steady
from measure import EXPECTED_FAILURES, Lane, Run, reason
from storing import fill, starts, store, store_large

SPARE = 9_001  # run number of what is stored for reading (its accession numbers are not those of run 0);
# repetition r reads series r + 1, series 0 warms up
CLIENTS = 8


def load(run: Run) -> None:
    """Fill what is not filled yet: the index, a series per repetition and one for warming up, one multi-frame."""
    for lane in run.lanes:
        try:
            if not lane.loaded:
                fill(run, lane, 0)
            for number in range(run.sizes.reps + 1):
                store(lane, "ct", [series(run, number)])
            store_large(lane, large_name(), run.sizes.frames)
            processes.quiet(lane.server.roots)
        except EXPECTED_FAILURES as failure:
            run.record("load", lane, 0, error=reason(failure))


def series(run: Run, number: int) -> list[Name]:
    return corpus.series(SPARE, run.sizes.series, study=number + 1)


def some_study(run: Run, k: int) -> Name:
    """An instance in one of the tiny studies; near numbers are of studies that are far apart."""
    return Name(0, k * 7919 % run.sizes.studies + 1, k % 2 + 1)


def large_name() -> Name:
    return Name(SPARE, 900)


def fetch(address: Address, path: Callable[[int], str], accept: str) -> Callable[[int], int]:
    """A call that gets `path(k)` over one connection and answers how many bytes came."""
    client = Client(address)

    def call(k: int) -> int:
        reply = client.get(path(k), accept)
        if reply.status != 200:
            raise ClientFailed(f"{path(k)} answered {reply.status}")
        return reply.size

    return call


def look(address: Address, path: str, accept: str, mark: bytes, count: int) -> None:
    """Raises ClientFailed unless the answer holds `mark` exactly `count` times."""
    client = Client(address)
    try:
        reply = client.get(path, accept, keep=True)
    finally:
        client.close()
    if reply.status != 200 or reply.body.count(mark) != count:
        raise ClientFailed(
            f"{path} answered {reply.status} with {reply.body.count(mark)} of {count}: {reply.body[:120]!r}"
        )


def seen(address: Address, path: str) -> None:
    """Raises ClientFailed unless the answer is a JPEG of the right size on which there is something to see."""
    client = Client(address)
    try:
        reply = client.get(path, "image/jpeg", keep=True)
    finally:
        client.close()
    if reply.status != 200:
        raise ClientFailed(f"{path} answered {reply.status}")
    picture = Image.open(BytesIO(reply.body))
    contrast = ImageStat.Stat(picture.convert("L")).stddev[0]
    if picture.size != (corpus.SIDE, corpus.SIDE) or picture.format != "JPEG" or contrast < 20:
        raise ClientFailed(f"{path} is a {picture.format} of {picture.size} with a contrast of {contrast:.0f}")


def asked(run: Run, row: str, path: Callable[[int], str], accept: str) -> None:
    """What `path` says, one client call after call, then eight clients for a while."""
    timed(run, row, lambda lane: fetch(lane.server.address(), path, accept))


def timed(run: Run, row: str, make: Callable[[Lane], Callable[[int], int]]) -> None:
    """What `make` makes for a client, its connection included: one client call after call, then eight for a while."""
    sizes = run.sizes

    for rep, lane in run.turns(row):

        def alone(started: Started, lane: Lane = lane, rep: int = rep) -> Numbers:
            call = make(lane)
            for k in range(5):
                call(7_000 + rep * 50 + k)  # connection, caches, plans
            started()
            return repeated(lambda k: call(rep * sizes.calls + k), sizes.calls, sizes.call_seconds)

        run.measured(row, lane, rep, lambda alone=alone: one(alone))

    for rep, lane in run.turns(f"{row}-{CLIENTS}"):
        run.measured(
            f"{row}-{CLIENTS}", lane, rep, lambda lane=lane: steady(lambda: make(lane), CLIENTS, sizes.seconds)
        )


# ---------------------------------------------------------------- steps


def start_loaded(run: Run) -> None:
    starts(run, "start-loaded")


def qido(run: Run) -> None:
    """Queries in a fresh process; the most memory any of them took is the figure of memory while querying."""
    page = min(100, run.sizes.studies)

    kinds: dict[str, tuple[Callable[[int], str], bytes, int]] = {
        "qido-accession": (
            lambda k: f"/studies?AccessionNumber={some_study(run, k).values()['accession']}",
            b'"0020000D"',
            1,
        ),
        "qido-page": (lambda _: f"/studies?limit={page}", b'"0020000D"', page),
        "qido-instances": (lambda k: f"{some_study(run, k).series_path}/instances", b'"00080018"', 5),
    }
    first = len(run.records)
    for lane in run.lanes:
        lane.server.restart()
    for row, (path, mark, count) in kinds.items():
        check(
            run, row, lambda address, path=path, mark=mark, count=count: look(address, path(1), DICOM_JSON, mark, count)
        )
        asked(run, row, path, DICOM_JSON)
    for lane in run.lanes:
        mine = [r for r in run.records[first:] if r["server"] == lane.name and "peak_mb" in r]
        if mine:
            run.record("querying", lane, 0, peak_mb=max(float(r["peak_mb"]) for r in mine))


def frame(run: Run) -> None:
    names = [name for number in range(run.sizes.reps + 1) for name in series(run, number)]
    pixels = corpus.plane(corpus.SIDE, 1).tobytes()
    second = f"{names[1].path}/frames/1"
    check(run, "frame", lambda address: look(address, second, FRAME_PARTS, pixels, 1))
    asked(run, "frame", lambda k: f"{names[k * 37 % len(names)].path}/frames/1", FRAME_PARTS)


def rendered(run: Run) -> None:
    """First: instances nobody has asked for as a picture. Again: the same ones once more."""
    sizes = run.sizes
    count = min(sizes.calls, sizes.series)
    for row in ("rendered", "rendered-again"):
        check(run, row, lambda address: seen(address, f"{series(run, 0)[2].path}/frames/1/rendered"))
    for again in (False, True):
        row = "rendered-again" if again else "rendered"
        for rep, lane in run.turns(row):
            names = [series(run, 0)[0], *series(run, rep + 1)]
            address = lane.server.address()

            def alone(started: Started, address: Address = address, names: list[Name] = names) -> Numbers:
                call = fetch(address, lambda k: f"{names[k].path}/frames/1/rendered", "image/jpeg")
                call(0)  # the decoder is warm
                started()
                return repeated(lambda k: call(k + 1), count, sizes.call_seconds)

            run.measured(row, lane, rep, lambda alone=alone: one(alone))


def wado_series(run: Run) -> None:
    """The whole series three times over one connection; MB/s over all of it, the median first byte."""
    sizes = run.sizes
    least = sizes.series * (corpus.FRAME_BYTES + 2000)
    for rep, lane in run.turns("wado-series"):
        address, path = lane.server.address(), series(run, rep + 1)[0].series_path

        def alone(started: Started, address: Address = address, path: str = path) -> Numbers:
            client = Client(address)
            client.get("/studies?limit=1", DICOM_JSON)
            started()
            replies = [client.get(path, DICOM_PARTS) for _ in range(3)]
            for reply in replies:
                if reply.status != 200 or reply.size < least:
                    raise ClientFailed(f"{path} answered {reply.status} with {reply.size} bytes")
            firsts = sorted(reply.first_byte_s for reply in replies)
            return {
                "n": 3 * sizes.series,
                "bytes": sum(reply.size for reply in replies),
                "first_byte_ms": firsts[1] * 1e3,
            }

        run.measured("wado-series", lane, rep, lambda alone=alone: one(alone))


def metadata(run: Run) -> None:
    sizes = run.sizes
    for rep, lane in run.turns("metadata"):
        address, path = lane.server.address(), f"{series(run, rep + 1)[0].series_path}/metadata"
        for row, calls in (("metadata", 1), ("metadata-again", 5)):

            def alone(started: Started, address: Address = address, path: str = path, calls: int = calls) -> Numbers:
                call = fetch(address, lambda k: path if k >= 0 else "/studies?limit=1", DICOM_JSON)
                call(-1)
                started()
                return repeated(call, calls, 30.0)

            run.measured(row, lane, rep, lambda alone=alone: one(alone))
    first = f"{series(run, 0)[0].series_path}/metadata"
    check(run, "metadata", lambda address: look(address, first, DICOM_JSON, b'"00080018"', sizes.series))


def multiframe_frame(run: Run) -> None:
    frames, path = run.sizes.frames, large_name().path

    def place(k: int) -> str:
        return f"{path}/frames/{k * 101 % frames + 1}"

    for lane in run.lanes:
        lane.server.restart()
    start = corpus.frame_start(8)
    check(run, "multiframe-frame", lambda address: look(address, f"{path}/frames/8", FRAME_PARTS, start, 1))
    asked(run, "multiframe-frame", place, FRAME_PARTS)


def check(run: Run, row: str, looked: Callable[[Address], None]) -> None:
    checked(run, row, lambda lane: looked(lane.server.address()))


def checked(run: Run, row: str, looked: Callable[[Lane], None]) -> None:
    """A server whose answer is wrong has no figure in this row."""
    for lane in run.lanes:
        try:
            looked(lane)
        except EXPECTED_FAILURES as failure:
            lane.given_up |= {row, f"{row}-{CLIENTS}"}
            run.record(row, lane, 0, error=f"WRONG: {reason(failure)}")


STEPS: dict[str, Callable[[Run], None]] = {
    "start-loaded": start_loaded,
    "qido": qido,
    "frame": frame,
    "rendered": rendered,
    "wado-series": wado_series,
    "metadata": metadata,
    "multiframe-frame": multiframe_frame,
}
