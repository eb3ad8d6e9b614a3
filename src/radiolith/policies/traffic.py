"""What comes and what goes, as one value: the verbs of the outbox, of routing rules, of devices, of the change feed and of
webhooks, and the followers.

Owns: their wiring. Must never: do anything by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from radiolith.archive.commit import Committer
from radiolith.archive.deciding import Deciding
from radiolith.archive.description import Description
from radiolith.archive.devices import Devices, product
from radiolith.archive.follow import Follow
from radiolith.archive.outbox import Outbox
from radiolith.archive.reading import Reading
from radiolith.archive.webhooks import Webhooks
from radiolith.config import Webhooks as Allowed
from radiolith.index.database import Database
from radiolith.jobs.arrivals import ArrivalWatch
from radiolith.jobs.devices import DeviceWatch
from radiolith.policies.following import Following
from radiolith.policies.router import Router
from radiolith.policies.routes import Routes
from radiolith.trust.audit import ReadAudit


@dataclass(frozen=True, slots=True)
class Traffic:
    outbox: Outbox
    devices: Devices
    routes: Routes
    follow: Follow
    webhooks: Webhooks
    following: Following  # run by the jobs process alone


def traffic(
    database: Database,
    reading: Reading,
    description: Description,
    committer: Committer,
    trail: ReadAudit,
    clock: Callable[[], int],
    allowed: Allowed,
) -> Traffic:
    watch = DeviceWatch(database, clock, partial(product, description))
    return Traffic(
        Outbox(database, reading, trail, clock),
        Devices(reading, trail),
        Routes(reading, committer, trail, clock),
        Follow(reading, trail),
        Webhooks(Deciding(database, reading, committer, trail, clock), allow_private=allowed.allow_private),
        Following(ArrivalWatch(database, clock), watch, Router(database, clock)),
    )
