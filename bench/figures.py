"""The table of figures: what is reported of each row, in which unit, and what it has to reach.

A row is one piece of work (`stow-ct-1`); it gives a record per server and repetition, and a record holds several
numbers. A figure is one of them. Targets are those of the project's design, given for a quiet machine of two
processors: `ratio` against Orthanc in the same run, or `limit` as an absolute value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

REFERENCE = "orthanc"


@dataclass(frozen=True, slots=True)
class Figure:
    row: str
    number: str
    title: str
    unit: str
    better: Literal["more", "less"]
    ratio: float | None = None
    limit: float | None = None
    note: str = ""
    against: str = ""  # the row whose number Orthanc is taken from, when it is another one

    def reached(self, value: float, reference: float | None) -> bool | None:
        """Whether `value` meets the target; None when there is none, or nothing to compare with."""
        if self.limit is not None:
            return value >= self.limit if self.better == "more" else value <= self.limit
        if self.ratio is not None and reference:
            return self.times(value, reference) >= self.ratio
        return None

    def times(self, value: float, reference: float) -> float:
        """How many times better than the reference; above one is better, whatever the direction."""
        worse, better = (reference, value) if self.better == "more" else (value, reference)
        return better / worse if worse else float("inf")

    def target(self) -> str:
        sign = "≥" if self.better == "more" else "≤"
        if self.limit is not None:
            text = f"{sign} {self.limit:,.10g} {self.unit}"
        elif self.ratio is not None:
            text = f"≥ {self.ratio:g}×"
        else:
            return self.note
        return f"{text} {self.note}".strip()


def _store(row: str, title: str, ratio: float | None, cpu: float | None) -> tuple[Figure, ...]:
    return (
        Figure(row, "per_s", title, "/s", "more", ratio=ratio),
        Figure(row, "cpu_ms", f"{title}: server CPU per instance", "ms", "less", limit=cpu),
        Figure(row, "peak_mb", f"{title}: peak memory", "MB", "less", limit=300),
    )


_CSTORE: tuple[Figure, ...] = (
    *_store("cstore-ct-1", "C-STORE CT, 1 association", 1.8, 2.0),
    *_store("cstore-ct-4", "C-STORE CT, 4 associations", 1.8, 2.0),
    *_store("cstore-mr-1", "C-STORE MR, 1 association", 3.0, 0.5),
    *_store("cstore-mr-4", "C-STORE MR, 4 associations", 3.0, 0.5),
    *_store("cstore-tiny", "C-STORE of tiny instances, 4 associations", 2.0, None),
    Figure("cstore-multiframe", "wall_s", "C-STORE of a 268 MB multi-frame", "s", "less", limit=1.3),
    Figure("cstore-multiframe", "peak_mb", "C-STORE of a 268 MB multi-frame: peak memory", "MB", "less", limit=250),
    Figure("associations-100", "per_s", "C-STORE MR, 100 associations at once", "/s", "more"),
    Figure("associations-100", "median_ms", "100 associations: answer", "ms", "less"),
    Figure("associations-100", "p99_ms", "100 associations: answer, 99th percentile", "ms", "less"),
    Figure("associations-100", "p99_share", "100 associations: the same, of 100 / throughput", "×", "less", limit=3),
    Figure("associations-100", "peak_mb", "100 associations: peak memory", "MB", "less", limit=300),
    Figure("echo", "median_ms", "association, C-ECHO, release", "ms", "less", limit=1),
    Figure("echo", "p95_ms", "association, C-ECHO, release: 95th percentile", "ms", "less"),
)


def _asked(row: str, title: str, limit: float | None, many: float | None) -> tuple[Figure, ...]:
    return (
        Figure(row, "median_ms", title, "ms", "less", limit=limit),
        Figure(row, "p95_ms", f"{title}: 95th percentile", "ms", "less"),
        Figure(f"{row}-8", "per_s", f"{title}, 8 clients", "/s", "more", limit=many),
    )


FIGURES: tuple[Figure, ...] = (
    Figure("start", "start_s", "start to ready, empty", "s", "less", limit=1.5),
    Figure("start", "idle_mb", "memory idle", "MB", "less", limit=200),
    Figure("start", "idle_cpu", "processor idle", "% of a core", "less"),
    *_CSTORE,
    *_store("stow-ct-1", "STOW CT, 50 a request, 1 client", 2.0, 2.0),
    *_store("stow-ct-4", "STOW CT, 50 a request, 4 clients", 1.5, 2.0),
    *_store("stow-mr-1", "STOW MR, 50 a request, 1 client", None, 0.5),
    *_store("stow-mr-4", "STOW MR, 50 a request, 4 clients", None, 0.5),
    Figure("multiframe", "wall_s", "STOW of a 268 MB multi-frame", "s", "less"),
    Figure("multiframe", "peak_mb", "STOW of a 268 MB multi-frame: peak memory", "MB", "less", limit=250),
    Figure("large", "wall_s", "STOW of a 2.1 GB object", "s", "less"),
    Figure("large", "peak_mb", "STOW of a 2.1 GB object: peak memory", "MB", "less", limit=300),
    Figure("import", "per_s", "import of a CT folder, server stopped", "/s", "more", ratio=2.0, against="folder"),
    Figure(
        "import-beside", "per_s", "import of a CT folder, server running", "/s", "more", ratio=2.0, against="folder"
    ),
    Figure("folder", "per_s", "the same folder by STOW, 1 client", "/s", "more"),
    Figure("tiny", "per_s", "tiny instances, 10 a request, 4 clients", "/s", "more", ratio=2.0),
    Figure("tiny", "cpu_ms", "tiny instances: server CPU per instance", "ms", "less"),
    Figure("tiny-index", "index_bytes", "tiny instances: bytes of all tables per instance", "B", "less", limit=600),
    Figure("start-loaded", "start_s", "start to ready, loaded", "s", "less", limit=1.5),
    *_asked("qido-accession", "QIDO by accession number", 1.0, 2000),
    *_asked("qido-page", "QIDO page of 100 studies", 8.0, None),
    *_asked("qido-instances", "QIDO instances of a series", 3.0, None),
    *_asked("cfind", "C-FIND by accession number, open association", 0.7, None),
    Figure("querying", "peak_mb", "memory querying", "MB", "less", limit=400),
    *_asked("frame", "one CT frame", 1.5, 1500),
    Figure("rendered", "median_ms", "rendered frame, first", "ms", "less", limit=3.0),
    Figure("rendered-again", "median_ms", "rendered frame, again", "ms", "less", limit=1.0),
    Figure("wado-series", "mb_s", "WADO-RS series of 200 CT, 1 client", "MB/s", "more", ratio=1.0),
    Figure("wado-series", "first_byte_ms", "WADO-RS series: first byte", "ms", "less"),
    Figure("cmove", "mb_s", "C-MOVE of a series of 200 CT", "MB/s", "more", ratio=1.0),
    Figure("cget", "mb_s", "C-GET of a series of 200 CT", "MB/s", "more", ratio=1.0),
    Figure("metadata", "median_ms", "metadata of 200 CT, first", "ms", "less", limit=60),
    Figure("metadata-again", "median_ms", "metadata of 200 CT, again", "ms", "less", limit=5),
    Figure("multiframe-frame", "median_ms", "one frame of the 268 MB multi-frame", "ms", "less", limit=5),
    Figure("multiframe-frame-8", "per_s", "the same, 8 clients", "/s", "more", limit=500),
    Figure("multiframe-frame-8", "peak_mb", "the same, 8 clients: peak memory", "MB", "less", limit=300),
)
