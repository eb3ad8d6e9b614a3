"""Every metric, declared in one place, and shared by all processes of one `serve`.

Owns: the counters and histograms below, and their text for Prometheus. Must never: have a label whose values come from
a request (patients, UIDs, paths): every series is known when the program starts, so memory and answer size are fixed
(`Asked` apart: the names of this node's peers).

The values lie in one anonymous shared mapping of float64, one row per process. The parent calls `share` before it
forks, each worker calls `use_row` after it; a worker writes only its own row and a scrape adds the rows up, so it does
not matter which worker answers, and a worker that is replaced goes on where its predecessor stopped. A process that
shares with nobody (a command, a test) has a mapping of one row.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Bucket bounds for durations: from one index read to the slowest request a client waits for."""
BATCH = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Bucket bounds for the objects of one group commit."""

_declared: list[Counter | Gauge | Histogram] = []
_lock = threading.Lock()


class _Rows:
    """The shared mapping: `rows` processes of `width` values."""

    def __init__(self, rows: int, width: int) -> None:
        self.rows, self.width = rows, width
        self.map = mmap.mmap(-1, max(rows * width * 8, mmap.PAGESIZE))
        self.values = memoryview(self.map).cast("d")
        self.start = 0

    def sum(self, slot: int) -> float:
        return sum(self.values[row * self.width + slot] for row in range(self.rows))


class Counter:
    """A number that only grows, one per known label value ('' where there is no label).

    Several labels, and the values of several, are joined by commas: "service,status" and "C-ECHO,success".
    """

    def __init__(self, name: str, help: str, label: str = "", values: Sequence[str] = ("",)) -> None:
        self.name, self.help, self.label = name, help, label
        self._slots = {value: _reserve(1) for value in values}
        _declared.append(self)

    def add(self, value: str = "", amount: float = 1.0) -> None:
        """Count `amount` for the label `value`; a value that was not declared raises KeyError."""
        slot = self._slots[value]
        with _lock:
            _state.values[_state.start + slot] += amount

    def total(self, value: str = "") -> float:
        return _state.sum(self._slots[value])

    def family(self) -> Metric:
        family = CounterMetricFamily(self.name, self.help, labels=self.label.split(",") if self.label else [])
        for value, slot in self._slots.items():
            family.add_metric(value.split(",") if self.label else [], _state.sum(slot))
        return family


class Gauge:
    """How many there are now, over all processes, one number per known label value. A process that takes over a row begins
    at zero: what its predecessor held open is gone."""

    def __init__(self, name: str, help: str, label: str = "", values: Sequence[str] = ("",)) -> None:
        self.name, self.help, self.label = name, help, label
        self._slots = {value: _reserve(1) for value in values}
        _declared.append(self)

    def add(self, amount: float, value: str = "") -> None:
        slot = self._slots[value]
        with _lock:
            _state.values[_state.start + slot] += amount

    def reset(self) -> None:
        """Of this process."""
        with _lock:
            for slot in self._slots.values():
                _state.values[_state.start + slot] = 0.0

    def total(self, value: str = "") -> float:
        return _state.sum(self._slots[value])

    def family(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.help, labels=[self.label] if self.label else [])
        for value, slot in self._slots.items():
            family.add_metric([value] if self.label else [], _state.sum(slot))
        return family


class Histogram:
    """How often, how much in all, and how it is spread over `bounds`, per known label value; several labels as in `Counter`."""

    def __init__(
        self, name: str, help: str, bounds: Sequence[float], label: str = "", values: Sequence[str] = ("",)
    ) -> None:
        self.name, self.help, self.bounds, self.label = name, help, tuple(bounds), label
        self._slots = {value: _reserve(len(bounds) + 2) for value in values}  # buckets, the one beyond, the sum
        _declared.append(self)

    def observe(self, amount: float, value: str = "") -> None:
        slot, bucket = self._slots[value], bisect_left(self.bounds, amount)
        with _lock:
            start = _state.start + slot
            _state.values[start + bucket] += 1.0
            _state.values[start + len(self.bounds) + 1] += amount

    def count(self, value: str = "") -> float:
        slot = self._slots[value]
        return sum(_state.sum(slot + bucket) for bucket in range(len(self.bounds) + 1))

    def family(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.help, labels=self.label.split(",") if self.label else [])
        names = [*map(repr, self.bounds), "+Inf"]
        for value, slot in self._slots.items():
            below, buckets = 0.0, list[tuple[str, float]]()
            for number, name in enumerate(names):
                below += _state.sum(slot + number)
                buckets.append((name, below))
            family.add_metric(value.split(",") if self.label else [], buckets, _state.sum(slot + len(names)))
        return family


_width = 0


def _reserve(slots: int) -> int:
    global _width
    first, _width = _width, _width + slots
    return first


# ---------------------------------------------------------------- the metrics

ROUTES = ("store", "search", "metadata", "frames", "rendered", "bulkdata", "retrieve", "pages", "api", "other")

http_requests = Counter("radiolith_http_requests", "HTTP requests answered.", "status", ("2xx", "3xx", "4xx", "5xx"))
http_seconds = Histogram(
    "radiolith_http_seconds", "Seconds from the request to the last byte of its answer.", SECONDS, "route", ROUTES
)
sign_ins = Counter("radiolith_sign_ins", "Sign-ins and bearer tokens checked.", "outcome", ("allowed", "refused"))

objects_received = Counter(
    "radiolith_objects_received",
    "Objects acknowledged, by what became of them.",
    "outcome",
    ("stored", "duplicate", "version", "encoding", "quarantined"),
)
bytes_received = Counter("radiolith_received_bytes", "Bytes of objects acknowledged.")
objects_refused = Counter(
    "radiolith_objects_refused",
    "Objects not acknowledged, by reason.",
    "reason",
    ("not_allowed", "no_space", "unavailable", "limit", "other"),
)
commit_objects = Histogram("radiolith_commit_objects", "Objects of one group commit.", BATCH)
commit_seconds = Histogram("radiolith_commit_seconds", "Seconds of one group commit, sync and transaction.", SECONDS)
bytes_sent = Counter("radiolith_sent_bytes", "Bytes of objects, frames and bulk data sent.")
decodes = Counter(
    "radiolith_decodes", "Pixel decoding in a sandboxed process.", "outcome", ("done", "unsupported", "failed")
)
DIMSE_DIRECTIONS = ("incoming", "outgoing")
"""Who opened the association: a peer, or we."""
DIMSE_OUTCOMES = (
    "accepted",
    "calling-AE-title-not-recognized",
    "called-AE-title-not-recognized",
    "temporary-congestion",
    "local-limit-exceeded",
    "no-reason-given",
    "other",
)
"""Of a request for an association: accepted, or the reason of its rejection as PS3.8 table 9-21 has it."""
DIMSE_SILENT = ("no-connection", "no-answer")
"""More outcomes of a request of ours: it could not be made, or the peer did not answer it."""
DIMSE_SERVICES = (
    "C-ECHO", "C-STORE", "C-FIND", "C-MOVE", "C-GET", "N-ACTION", "N-EVENT-REPORT", "N-CREATE", "other",
)  # fmt: skip
DIMSE_STATUSES = ("success", "warning", "cancel", "failure", "unanswered")
"""The classes of PS3.7 annex C; 'unanswered' where the association ended first."""

dimse_open = Gauge("radiolith_dimse_open_associations", "Associations that are open.", "direction", DIMSE_DIRECTIONS)
dimse_associations = Counter(
    "radiolith_dimse_associations",
    "Requests for an association, by who opened it and their answer.",
    "direction,outcome",
    [f"{direction},{outcome}" for direction in DIMSE_DIRECTIONS for outcome in DIMSE_OUTCOMES]
    + [f"outgoing,{outcome}" for outcome in DIMSE_SILENT],
)
dimse_operations = Counter(
    "radiolith_dimse_operations",
    "DIMSE requests on associations of either direction, by service and class of the last status.",
    "direction,service,status",
    [
        f"{direction},{service},{status}"
        for direction in DIMSE_DIRECTIONS
        for service in DIMSE_SERVICES
        for status in DIMSE_STATUSES
    ],
)
dimse_seconds = Histogram(
    "radiolith_dimse_seconds",
    "Seconds from a DIMSE request's command to its last response.",
    SECONDS,
    "direction,service",
    [f"{direction},{service}" for direction in DIMSE_DIRECTIONS for service in DIMSE_SERVICES],
)
webhook_deliveries = Counter(
    "radiolith_webhook_deliveries",
    "Batches of events posted to webhooks, by what became of the attempt.",
    "outcome",
    ("delivered", "failed", "given_up"),
)
damaged_reads = Counter("radiolith_damaged_reads", "Reads of a tier that failed authentication.")


# ---------------------------------------------------------------- sharing and reading

_state = _Rows(1, _width)


def share(processes: int) -> None:
    """Before the fork: one row for each of `processes` (numbered 0 to processes - 1). Counts start at zero."""
    global _state
    _state = _Rows(processes, _width)


def use_row(number: int) -> None:
    """After the fork: this process writes row `number`, from now on."""
    if not 0 <= number < _state.rows:
        raise IndexError(f"row {number} of {_state.rows}")
    _state.start = number * _state.width
    for metric in _declared:
        if isinstance(metric, Gauge):
            metric.reset()


Asked = Mapping[str, tuple[str, float | Mapping[str, float]]]
"""Gauges known at the moment of asking: name -> (help, value, or values by the name of a peer). Peers have the names an
administrator gave them, and whoever asks bounds their number."""


def text(gauges: Asked | None = None) -> bytes:
    """All metrics in the Prometheus text format, and `gauges`."""
    registry = CollectorRegistry()
    registry.register(_Everything(gauges or {}))
    return generate_latest(registry)


class _Everything:
    """What prometheus-client calls a collector."""

    def __init__(self, gauges: Asked) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        yield from (metric.family() for metric in _declared)
        for name, (help, value) in self._gauges.items():
            if isinstance(value, Mapping):
                family = GaugeMetricFamily(name, help, labels=["peer"])
                for peer, one in value.items():
                    family.add_metric([peer], one)
                yield family
            else:
                yield GaugeMetricFamily(name, help, value)

    def describe(self) -> Iterable[Metric]:
        return ()
