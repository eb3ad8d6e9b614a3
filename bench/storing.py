"""Rows about taking objects in: STOW-RS of slices and large objects, a folder, an index full of tiny instances.

Each step starts on an empty archive. Every acknowledgement is counted, and the archive is asked afterwards whether it
holds what it acknowledged; a server that lost something has no figure in that row.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import corpus
import processes
from client import BODY_END, PART_START, Address, Client, Piece, store_body, store_type
from corpus import Name
from load import ClientFailed, Numbers, Started, one, together
from measure import EXPECTED_FAILURES, Lane, Run, expect_held, reason
from radiolith_server import Radiolith

PER_REQUEST = 50


# ---------------------------------------------------------------- the client's side


def send(address: Address, shape: str, batches: Sequence[Sequence[Name]], started: Started) -> Numbers:
    """One client: a request per batch, the bodies made before the clock starts."""
    corpus.templates(shape)
    bodies = [store_body(corpus.instances(shape, list(batch))) for batch in batches]
    client = Client(address)
    started()
    for body, batch in zip(bodies, batches, strict=True):
        reply = client.post("/studies", store_type(), len(body), (body,))
        _acknowledged(reply.status, reply.body, len(batch))
    return {"n": sum(map(len, batches)), "bytes": sum(map(len, bodies))}


def send_large(address: Address, name: Name, frames: int, started: Started) -> Numbers:
    """One client: one object, made while it is sent."""
    size, pieces = corpus.multiframe(name, frames)
    client = Client(address)

    def body() -> Iterator[Piece]:
        yield PART_START
        yield from pieces
        yield b"\r\n" + BODY_END

    total = len(PART_START) + size + 2 + len(BODY_END)
    started()
    begin = time.perf_counter()
    reply = client.post("/studies", store_type(), total, body())
    seconds = time.perf_counter() - begin
    _acknowledged(reply.status, reply.body, 1)
    return {"n": 1, "bytes": size, "wall_s": seconds}


def _acknowledged(status: int, body: bytes, count: int) -> None:
    said = body.count(b'"00081155"')  # referenced instances; a failed one would come with a reason, 00081197
    if status != 200 or said != count or b'"00081197"' in body:
        raise ClientFailed(f"STOW answered {status} for {said} of {count} instances: {body[:200]!r}")


def store(lane: Lane, shape: str, clients: Sequence[Sequence[Name]], per_request: int = PER_REQUEST) -> Numbers:
    """Every client sends its own instances, `per_request` in a request."""
    address = lane.server.address()
    batches = [[names[k : k + per_request] for k in range(0, len(names), per_request)] for names in clients]
    corpus.templates(shape)  # made once, before the clients are forked
    wall, answers = together(lambda work, started: send(address, shape, work, started), batches)
    return {"wall_s": wall, "n": sum(a["n"] for a in answers), "bytes": sum(a["bytes"] for a in answers)}


def store_large(lane: Lane, name: Name, frames: int) -> Numbers:
    address = lane.server.address()
    return one(lambda started: send_large(address, name, frames, started))


# ---------------------------------------------------------------- steps


def start(run: Run) -> None:
    """Start to ready on an empty archive, and memory when nothing happens."""
    empty(run)
    starts(run, "start")


def starts(run: Run, row: str) -> None:
    for rep, lane in run.turns(row):
        try:
            seconds = lane.server.restart()
            time.sleep(2.0)  # what starting left behind has settled
            used = processes.cpu_seconds(lane.server.roots())
            time.sleep(2.0)
            used = processes.cpu_seconds(lane.server.roots()) - used
            run.record(
                row, lane, rep, start_s=seconds, idle_mb=processes.memory_mb(lane.server.roots()), idle_cpu=used * 50
            )
        except EXPECTED_FAILURES as failure:
            lane.given_up.add(row)
            run.record(row, lane, rep, error=reason(failure))


def stow_ct(run: Run) -> None:
    _slices(run, "ct", run.sizes.ct)


def stow_mr(run: Run) -> None:
    _slices(run, "mr", run.sizes.mr)


def _slices(run: Run, shape: str, count: int) -> None:
    empty(run)
    for clients in (1, 4):
        row = f"stow-{shape}-{clients}"
        for rep, lane in run.turns(row):
            number, each = run.fresh(), count // clients
            names = [corpus.series(number, each, study=k + 1) for k in range(clients)]

            def action(lane: Lane = lane, names: list[list[Name]] = names, shape: str = shape) -> Numbers:
                return store(lane, shape, names)

            if run.measured(row, lane, rep, action, storing=True):
                check_held(run, row, lane, rep, [(part[0], len(part)) for part in names])


def multiframe(run: Run) -> None:
    _objects(run, "multiframe", run.sizes.frames, run.sizes.reps)


def large(run: Run) -> None:
    _objects(run, "large", run.sizes.large_frames, run.sizes.large_reps)


def _objects(run: Run, row: str, frames: int, reps: int) -> None:
    empty(run)
    corpus.multiframe(Name(0, 0), frames)  # thousands of frame groups are encoded once, before any clock runs
    for rep, lane in run.turns(row, reps):
        name = Name(run.fresh(), 1)
        lane.server.restart()  # memory that earlier work left behind is not this object's
        numbers = run.measured(
            row, lane, rep, lambda lane=lane, name=name: store_large(lane, name, frames), storing=True
        )
        if numbers:
            check_held(run, row, lane, rep, [(name, 1)])


def tiny(run: Run) -> None:
    """Each repetition fills an empty archive; the last one stays for the rows about reading."""
    for rep, lane in run.turns("tiny"):
        fill(run, lane, rep)


def fill(run: Run, lane: Lane, rep: int) -> None:
    lane.server.reset()
    lane.loaded = False
    lane.server.stop()
    before = lane.server.index_bytes()
    lane.server.start()
    studies = corpus.studies(0, run.sizes.studies)
    clients = [[name for study in studies[k::4] for name in study] for k in range(4)]

    numbers = run.measured("tiny", lane, rep, lambda: store(lane, "tiny", clients, per_request=10), storing=True)
    if not numbers:
        return
    sample = studies[:: max(1, len(studies) // 20)]
    check_held(run, "tiny", lane, rep, [(study[0], len(study)) for study in sample])
    lane.loaded = "tiny" not in lane.given_up
    lane.server.stop()
    run.record("tiny-index", lane, rep, index_bytes=(lane.server.index_bytes() - before) / numbers["n"])
    lane.server.start()


def folder(run: Run) -> None:
    """A folder of CT: Radiolith imports it, stopped and running; Orthanc gets the same files by STOW."""
    empty(run)
    for rep in range(run.sizes.reps):
        for row in ("import", "import-beside"):
            number = run.fresh()
            names = corpus.series(number, run.sizes.folder)
            place = run.lanes[0].server.work.parent / f"folder-{number}"
            try:
                _write(place, names)
                for lane in run.lanes:
                    _take(run, row, rep, lane, place, names)
            finally:
                shutil.rmtree(place, ignore_errors=True)


def _write(place: Path, names: Sequence[Name]) -> None:
    place.mkdir()
    for k, data in enumerate(corpus.instances("ct", list(names))):
        (place / f"IM{k:06d}.dcm").write_bytes(data)


def _take(run: Run, row: str, rep: int, lane: Lane, place: Path, names: list[Name]) -> None:
    server = lane.server
    if not isinstance(server, Radiolith):
        if row == "import" and "folder" not in lane.given_up:
            run.measured("folder", lane, rep, lambda: store(lane, "ct", [names]), storing=True)
        return
    if row in lane.given_up:
        return
    size = sum(path.stat().st_size for path in place.iterdir())

    def action() -> Numbers:
        before = processes.own_seconds()
        done = server.import_folder(place)
        return {
            "wall_s": done.seconds,
            "n": len(names),
            "bytes": size,
            "command_cpu_s": processes.own_seconds() - before,
            "peak_mb": done.peak_mb,
        }

    if run.measured(row, lane, rep, action, storing=True, serving=row != "import"):
        if not server.alive():
            server.start()
        check_held(run, row, lane, rep, [(names[0], len(names))])


def empty(run: Run) -> None:
    for lane in run.lanes:
        lane.server.reset()
        lane.loaded = False


def check_held(run: Run, row: str, lane: Lane, rep: int, expected: Sequence[tuple[Name, int]]) -> None:
    try:
        for name, count in expected:
            expect_held(lane, name, count)
    except EXPECTED_FAILURES as failure:
        lane.given_up.add(row)
        run.record(row, lane, rep, error=f"LOST: {reason(failure)}")


STEPS = {
    "start": start,
    "stow-ct": stow_ct,
    "stow-mr": stow_mr,
    "multiframe": multiframe,
    "large": large,
    "import": folder,
    "tiny": tiny,
}
