"""What waits to go out and what was given up, as status and metrics tell it.

Owns: which of it is somebody's business, and which command that somebody needs. Must never: send, or name a patient or study.
Limits: figures of NAMED destinations each by itself, of the others together under ''.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from radiolith.index import accounts, deliveries, outbox, peer_reports
from radiolith.index.outbox import Lag
from radiolith.index.session import Reader
from radiolith.metrics import Asked

NAMED = 500
"""Peers of this node with time series of their own in the metrics: four numbers each, more than any archive has known."""
SHOWN = 3  # destinations named in one sentence


@dataclass(frozen=True, slots=True)
class Backlog:
    """`peers`: names known here. `waiting`, `given_up`: reports to peers (storage commitment, availability). `untold`: batches of
    events given up, by webhook."""

    peers: frozenset[str]
    lags: tuple[Lag, ...]
    waiting: int
    given_up: int
    untold: Mapping[str, int]

    def reasons(self) -> list[str]:
        """A sentence for each thing that does not go on by itself, with what to do next."""
        found: list[str] = []
        failed = [lag for lag in self.lags if lag.failed and lag.peer in self.peers]
        held = [lag for lag in self.lags if lag.failed and lag.peer not in self.peers]
        if failed:
            found.append(
                f"{_transfers(failed)} to {_names(failed)} given up: see why with radiolith outbox list --state failed, then"
                " radiolith outbox again ID (or --all), or radiolith outbox cancel ID"
            )
        if held:
            found.append(
                f"{_transfers(held)} to {_names(held)}, no peer of this archive, cannot go: add it with radiolith peer add, or"
                " radiolith outbox cancel ID"
            )
        if self.given_up:
            found.append(
                f"{self.given_up} {'report' if self.given_up == 1 else 'reports'} to peers given up: see why with radiolith peer"
                " reports, then radiolith peer again ID, or radiolith peer drop ID"
            )
        if self.untold:
            name, count = max(self.untold.items(), key=lambda one: one[1])
            found.append(
                f"events for webhook '{name}' given up ({count} {'batch' if count == 1 else 'batches'}): see why with radiolith"
                f" webhook deliveries {name}, then radiolith webhook again {name}"
            )
        return found

    def as_status(self, now: int) -> dict[str, dict[str, dict[str, int]] | dict[str, int]]:
        """By destination, those with anything waiting or given up; and the reports."""
        return {"outbox": {lag.peer: _figures(lag, now) for lag in self.lags}, "reports": self._reports()}

    def _reports(self) -> dict[str, int]:
        return {"waiting": self.waiting, "given_up": self.given_up}

    def gauges(self, now: int) -> Asked:
        """Metric name -> (help, value or values by peer). Every known peer has its values, zeros included."""
        named = sorted(self.peers)[:NAMED]
        rows = {name: dict.fromkeys(_FIGURES, 0) for name in [*named, ""]}
        for lag in self.lags:
            row = rows[lag.peer if lag.peer in rows else ""]
            for name, value in _figures(lag, now).items():
                row[name] = max(row[name], value) if name == "oldest_seconds" else row[name] + value
        gauges: dict[str, tuple[str, float | Mapping[str, float]]] = {
            f"radiolith_outbox_{name}": (help, {peer: float(row[name]) for peer, row in rows.items()})
            for name, help in _FIGURES.items()
        }
        for name, value in self._reports().items():
            gauges[f"radiolith_reports_{name}"] = (_REPORTS[name], float(value))
        return gauges


_FIGURES = {
    "transfers": "Transfers that have not ended, by destination ('': no peer of this archive any more).",
    "instances": "Instances of these that are not delivered.",
    "oldest_seconds": "Seconds since the oldest of these was ordered.",
    "failed": "Transfers given up or held, not sent again yet.",
}
_REPORTS = {
    "waiting": "Results of storage commitment and availability notifications that a peer has not taken yet.",
    "given_up": "Those given up, not sent again yet.",
}


def look(read: Reader, tenant_id: int) -> Backlog:
    waiting, given_up = peer_reports.counts(read, tenant_id)
    known = frozenset(peer.name for peer in accounts.peers(read, tenant_id))
    untold = deliveries.given_up(read, tenant_id)
    return Backlog(known, tuple(outbox.lags(read, tenant_id)), waiting, given_up, untold)


def _figures(lag: Lag, now: int) -> dict[str, int]:
    oldest = max(0, now - lag.oldest) // 1_000_000 if lag.transfers else 0
    return {"transfers": lag.transfers, "instances": lag.instances, "oldest_seconds": oldest, "failed": lag.failed}


def _transfers(lags: list[Lag]) -> str:
    count = sum(lag.failed for lag in lags)
    return "1 transfer" if count == 1 else f"{count:,} transfers"


def _names(lags: list[Lag]) -> str:
    names = ", ".join(f"'{lag.peer}'" for lag in lags[:SHOWN])
    return names if len(lags) <= SHOWN else f"{names} and {len(lags) - SHOWN} more"
