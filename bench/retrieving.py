"""Rows about finding and giving back by DIMSE, in the archive that `reading.py` fills: C-FIND, C-MOVE, C-GET.

What comes back is looked at before or while it is timed: the study that was asked for, every instance of the series.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import corpus
from corpus import Name
from dimse import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    Association,
    Node,
    Tally,
    identifier,
)
from load import ClientFailed, Numbers, Started, one
from measure import Lane, Run
from reading import checked, series, some_study, timed
from sink import Sink

TIMES = 3  # the series is asked for so often over one association, as in the row of WADO-RS

Retrieval = Callable[[], Tally]


def study_query(name: Name) -> bytes:
    """By accession number, with the keys that a worklist of a workstation shows."""
    shown = (0x00080020, 0x00080030, 0x00080061, 0x00080090, 0x00081030, 0x00100010, 0x00100020, 0x00100030, 0x00100040)
    keys = {0x00080052: "STUDY", 0x00080050: name.values()["accession"], 0x0020000D: "", 0x00200010: ""}
    return identifier({**dict.fromkeys(shown, ""), **keys})


def series_query(name: Name) -> bytes:
    return identifier({0x00080052: "SERIES", 0x0020000D: name.uid(3), 0x0020000E: name.uid(2)})


def finder(run: Run, lane: Lane) -> Callable[[int], int]:
    """A call that asks for one study over one association that stays open."""
    association = Association(lane.server.node(), [(STUDY_FIND, IMPLICIT_LE)])

    def call(k: int) -> int:
        found = association.find(study_query(some_study(run, k)))
        if len(found) != 1:
            raise ClientFailed(f"C-FIND by accession number: {len(found)} answers instead of one")
        return len(found[0])

    return call


def found(run: Run, lane: Lane) -> None:
    """Raises ClientFailed unless C-FIND answers with the study that was meant."""
    name = some_study(run, 1)
    with Association(lane.server.node(), [(STUDY_FIND, IMPLICIT_LE)]) as association:
        answers = association.find(study_query(name))
    if len(answers) != 1 or name.uid(3).encode("ascii") not in answers[0]:
        raise ClientFailed(f"C-FIND: {len(answers)} answers, or another study: {answers[:1]!r:.120}")


def moved(node: Node, names: list[Name], started: Started) -> Numbers:
    """C-MOVE of a series to the sink, from the request to the answer that it is all there."""
    with Association(node, [(STUDY_MOVE, IMPLICIT_LE)]) as association, Sink(node.sink_port) as sink:

        def once() -> Tally:
            sink.tallies.clear()
            association.move(series_query(names[0]))
            return sink.total()

        return _timed(once, names, started)


def got(node: Node, names: list[Name], started: Started) -> Numbers:
    contexts = [(STUDY_GET, IMPLICIT_LE), (corpus.CT_IMAGE, EXPLICIT_LE)]
    with Association(node, contexts, provides=[corpus.CT_IMAGE]) as association:
        return _timed(lambda: association.get(series_query(names[0])), names, started)


def _timed(once: Retrieval, names: list[Name], started: Started) -> Numbers:
    """The series TIMES over. Raises ClientFailed unless each time brought every instance, whole."""
    started()
    begin = time.perf_counter()
    tallies = [once() for _ in range(TIMES)]
    seconds = time.perf_counter() - begin
    wanted = {name.uid(1) for name in names}
    for tally in tallies:
        if tally.uids != wanted or tally.objects != len(names) or tally.size < len(names) * corpus.FRAME_BYTES:
            raise ClientFailed(f"{tally.objects} objects, {tally.size} bytes of {len(names)} instances came")
    return {"wall_s": seconds, "n": TIMES * len(names), "bytes": sum(tally.size for tally in tallies)}


# ---------------------------------------------------------------- steps


def cfind(run: Run) -> None:
    checked(run, "cfind", lambda lane: found(run, lane))
    timed(run, "cfind", lambda lane: finder(run, lane))


def cmove(run: Run) -> None:
    _retrieved(run, "cmove", moved)


def cget(run: Run) -> None:
    _retrieved(run, "cget", got)


def _retrieved(run: Run, row: str, retrieve: Callable[[Node, list[Name], Started], Numbers]) -> None:
    for rep, lane in run.turns(row):
        node, names = lane.server.node(), series(run, rep + 1)

        def action(node: Node = node, names: list[Name] = names) -> Numbers:
            return one(lambda started: retrieve(node, names, started))

        run.measured(row, lane, rep, action)


STEPS: dict[str, Callable[[Run], None]] = {"cfind": cfind, "cmove": cmove, "cget": cget}
