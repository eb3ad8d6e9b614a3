"""Rows about taking objects in by DIMSE: slices, tiny instances, one large object, a hundred devices at once, C-ECHO.

As for STOW-RS in `storing.py`: each step starts on an empty archive, every answer is read, and the archive is asked
afterwards whether it holds what it acknowledged.
"""

from __future__ import annotations

import selectors
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import corpus
from client import Piece, send_pieces
from corpus import Name
from dimse import EXPLICIT_LE, IMPLICIT_LE, VERIFICATION, Association, Node, data_set, fragments, stored
from load import Numbers, Started, one, repeated, together
from measure import Lane, Run
from storing import check_held, empty

SOP_CLASSES = {"ct": corpus.CT_IMAGE, "mr": corpus.MR_IMAGE, "tiny": corpus.CT_IMAGE}
AT_ONCE = 100
UNSENT_BYTES = 1 << 18  # of one association of many: a whole object, so that sending one never holds up the others


# ---------------------------------------------------------------- the client's side


def requests(association: Association, shape: str, names: Sequence[Name]) -> list[bytes]:
    """A C-STORE request for each, numbered from 1 on, in PDUs as large as the server takes."""
    sop_class = SOP_CLASSES[shape]
    context = association.context(sop_class)
    made: list[bytes] = []
    for k, (name, encoded) in enumerate(zip(names, corpus.instances(shape, list(names)), strict=True)):
        data = data_set(encoded)
        command = stored(sop_class, name.uid(1), number(k))
        made.append(b"".join(fragments(context, command, len(data), (data,), association.max_pdu)))
    return made


def number(k: int) -> int:
    """The message ID of request `k`."""
    return k % 0xFFFF + 1


def send(node: Node, shape: str, names: Sequence[Name], started: Started) -> Numbers:
    """One association, one object after the other, everything laid out before the clock starts."""
    with Association(node, [(SOP_CLASSES[shape], EXPLICIT_LE)]) as association:
        made = requests(association, shape, names)
        started()
        for k, request in enumerate(made):
            association.socket.sendall(request)
            association.confirmed(number(k))
    return {"n": len(made), "bytes": sum(map(len, made))}


def send_large(node: Node, name: Name, frames: int, started: Started) -> Numbers:
    """One object, made while it is sent."""
    with Association(node, [(corpus.ENHANCED_CT, EXPLICIT_LE)]) as association:
        size, pieces = corpus.multiframe(name, frames)
        head = next(pieces)
        data = data_set(head)
        size -= len(head) - len(data)

        def all_pieces() -> Iterator[Piece]:
            yield data
            yield from pieces

        command = stored(corpus.ENHANCED_CT, name.uid(1), 1)
        context = association.context(corpus.ENHANCED_CT)
        started()
        begin = time.perf_counter()
        send_pieces(association.socket, fragments(context, command, size, all_pieces(), association.max_pdu))
        association.confirmed(1)
        seconds = time.perf_counter() - begin
    return {"n": 1, "bytes": size, "wall_s": seconds}


@dataclass(slots=True)
class Sender:
    """One of many associations of one client: what it still has to send, and when it sent last."""

    association: Association
    waiting: list[bytes]
    sent: int = 0
    at: float = 0.0
    times: list[float] = field(default_factory=list[float])

    def send(self) -> None:
        self.at = time.perf_counter()
        self.association.socket.sendall(self.waiting[self.sent])
        self.sent += 1

    def answered(self) -> bool:
        """Read the answer that is there, send the next object. False when there is none left."""
        self.association.confirmed(number(self.sent - 1))
        self.times.append(time.perf_counter() - self.at)
        if self.sent == len(self.waiting):
            return False
        self.send()
        return True


def send_at_once(node: Node, studies: Sequence[Sequence[Name]], started: Started) -> Numbers:
    """One client with an association per study, all with an object under way until theirs are sent: the answers' times.

    A rate R with N objects under way is a mean of N / R per answer, so the slowest are told as a multiple of that."""
    senders: list[Sender] = []
    for names in studies:
        association = Association(node, [(corpus.MR_IMAGE, EXPLICIT_LE)], buffer=4096)
        association.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
        senders.append(Sender(association, requests(association, "mr", names)))
    started()
    begin = time.perf_counter()
    _until_answered(senders)
    seconds = time.perf_counter() - begin
    for sender in senders:
        sender.association.release()
    times = sorted(each for sender in senders for each in sender.times)
    p99, mean = times[int(0.99 * (len(times) - 1))], len(senders) * seconds / len(times)
    return {
        "wall_s": seconds,
        "n": len(times),
        "bytes": sum(len(request) for sender in senders for request in sender.waiting),
        "median_ms": statistics.median(times) * 1e3,
        "p99_ms": p99 * 1e3,
        "worst_ms": times[-1] * 1e3,
        "p99_share": p99 / mean,
    }


def _until_answered(senders: Sequence[Sender]) -> None:
    with selectors.DefaultSelector() as selector:
        for sender in senders:
            sender.send()
            selector.register(sender.association.socket, selectors.EVENT_READ, sender)
        left = len(senders)
        while left:
            for key, _ in selector.select():
                sender: Sender = key.data
                if not sender.answered():
                    selector.unregister(key.fileobj)
                    left -= 1


def greeting(node: Node) -> Callable[[int], int]:
    """A call that opens an association, asks C-ECHO and releases it."""

    def call(_: int) -> int:
        with Association(node, [(VERIFICATION, IMPLICIT_LE)], buffer=4096) as association:
            association.echo()
        return 0

    return call


def store(lane: Lane, shape: str, clients: Sequence[Sequence[Name]]) -> Numbers:
    """Every client sends its own instances over an association of its own."""
    node = lane.server.node()
    corpus.templates(shape)  # made once, before the clients are forked
    wall, answers = together(lambda names, started: send(node, shape, names, started), clients)
    return {"wall_s": wall, "n": sum(a["n"] for a in answers), "bytes": sum(a["bytes"] for a in answers)}


# ---------------------------------------------------------------- steps


def cstore_ct(run: Run) -> None:
    _slices(run, "ct", run.sizes.ct)


def cstore_mr(run: Run) -> None:
    _slices(run, "mr", run.sizes.mr)


def _slices(run: Run, shape: str, count: int) -> None:
    empty(run)
    for clients in (1, 4):
        row = f"cstore-{shape}-{clients}"
        for rep, lane in run.turns(row):
            fresh, each = run.fresh(), count // clients
            names = [corpus.series(fresh, each, study=k + 1) for k in range(clients)]
            if run.measured(row, lane, rep, lambda s=lane, n=names: store(s, shape, n), storing=True):
                check_held(run, row, lane, rep, [(part[0], len(part)) for part in names])


def cstore_tiny(run: Run) -> None:
    """As many as the archive holds for the rows about reading, but by C-STORE; each repetition into an empty one."""
    for rep, lane in run.turns("cstore-tiny"):
        lane.server.reset()
        lane.loaded = False
        studies = corpus.studies(0, run.sizes.studies)
        clients = [[name for study in studies[k::4] for name in study] for k in range(4)]
        if run.measured("cstore-tiny", lane, rep, lambda s=lane, c=clients: store(s, "tiny", c), storing=True):
            sample = studies[:: max(1, len(studies) // 20)]
            check_held(run, "cstore-tiny", lane, rep, [(study[0], len(study)) for study in sample])


def cstore_multiframe(run: Run) -> None:
    empty(run)
    row, frames = "cstore-multiframe", run.sizes.frames
    corpus.multiframe(Name(0, 0), frames)  # its frame groups are encoded once, before any clock runs
    for rep, lane in run.turns(row):
        name = Name(run.fresh(), 1)
        lane.server.restart()  # memory that earlier work left behind is not this object's
        node = lane.server.node()

        def action(node: Node = node, name: Name = name) -> Numbers:
            return one(lambda started: send_large(node, name, frames, started))

        if run.measured(row, lane, rep, action, storing=True):
            check_held(run, row, lane, rep, [(name, 1)])


def associations(run: Run) -> None:
    """A hundred devices at once, a study each; every study is asked for afterwards."""
    empty(run)
    row = f"associations-{AT_ONCE}"
    corpus.templates("mr")
    for rep, lane in run.turns(row):
        fresh = run.fresh()
        studies = [corpus.series(fresh, run.sizes.each_of_many, study=k + 1) for k in range(AT_ONCE)]
        node = lane.server.node()

        def action(node: Node = node, studies: list[list[Name]] = studies) -> Numbers:
            return one(lambda started: send_at_once(node, studies, started))

        if run.measured(row, lane, rep, action, storing=True):
            check_held(run, row, lane, rep, [(study[0], len(study)) for study in studies])


def echo(run: Run) -> None:
    empty(run)
    sizes = run.sizes
    for rep, lane in run.turns("echo"):
        node = lane.server.node()

        def alone(started: Started, node: Node = node) -> Numbers:
            call = greeting(node)
            for k in range(10):
                call(k)
            started()
            return repeated(call, 3 * sizes.calls, sizes.call_seconds)

        run.measured("echo", lane, rep, lambda alone=alone: one(alone))


STEPS: dict[str, Callable[[Run], None]] = {
    "cstore-ct": cstore_ct,
    "cstore-mr": cstore_mr,
    "cstore-tiny": cstore_tiny,
    "cstore-multiframe": cstore_multiframe,
    f"associations-{AT_ONCE}": associations,
    "echo": echo,
}
