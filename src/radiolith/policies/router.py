"""The router: orders transfers by the rules, once for each rule and each time a study is complete.

Owns: the follower's cursor. Must never: judge (routing does) or send (jobs/outbox does). The order, its audit record and the
cursor are one transaction, and the order has a key made of rule and completion: neither a kill nor a replay nor a second node
orders anything twice. A rule that cannot be read any more is told in the log and left out; the others go on.

Limits: INSTANCES of one completion are judged at a time, so that a large study costs no more memory than a small one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import structlog

from radiolith.archive.outbox import ordered
from radiolith.index import accounts, arrivals, changes, registry
from radiolith.index.arrivals import Completion
from radiolith.index.changes import ChangeKind, Cursor
from radiolith.index.database import Database
from radiolith.index.described import described
from radiolith.index.outbox import Why, Wish
from radiolith.index.session import Reader
from radiolith.model import Failure
from radiolith.policies.routing import Rule, Target, chosen, rule

INSTANCES = 1000  # 3 KiB each
BATCH = 500  # changes read at a time
KIND = "route"
NAME = "routing"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ruled:
    """A rule with the peer it points to."""

    rule: Rule
    target: Target


def rules(read: Reader, tenant_id: int) -> list[Ruled]:
    """By name; those that point to no known peer send nothing until there is one by that name."""
    found: list[Ruled] = []
    for entry in registry.entries(read, tenant_id, KIND):
        try:
            made = rule(entry.body, entry.at)
        except Failure as failure:
            log.warning("a routing rule cannot be read", rule=entry.name, reason=str(failure))
            continue
        peer = accounts.peer(read, tenant_id, made.peer)
        if peer is not None:
            found.append(Ruled(made, Target(peer.name, str(peer.more.get("aet") or ""))))
    return found


def decide(read: Reader, done: Completion, ruled: list[Ruled]) -> list[list[int]]:
    """For each rule the instance rows it sends of a completion."""
    found: list[list[int]] = [[] for _ in ruled]
    if not ruled:
        return found
    arrived = described(read, done.study_id, done.first, done.last)
    while page := list(islice(arrived, INSTANCES)):
        for rows, one in zip(found, ruled, strict=True):
            rows += chosen(one.rule, one.target, page, done.at)
    return found


class Router:
    def __init__(self, database: Database, clock: Callable[[], int]):
        self._database, self._clock = database, clock

    def round(self) -> int:
        """Follow the feed to its end; how many transfers were ordered. Blocks."""
        made = 0
        while True:
            with self._database.read() as read:
                before = changes.load_cursor(read, NAME)
                found, after = changes.follow(read, before, BATCH)
            for change in found:
                if change.kind is not ChangeKind.COMPLETE:
                    continue
                cursor = Cursor(after.epoch, change.xid, change.number)
                orders = self._completed(change.instance_id, before, cursor)
                if orders is None:
                    return made  # another node follows too
                made, before = made + orders, cursor
            if before != after:
                with self._database.write() as tx:
                    changes.advance_cursor(tx, NAME, before, after)
            if len(found) < BATCH:
                return made

    def _completed(self, number: int, before: Cursor, after: Cursor) -> int | None:
        """Transfers ordered; None when the completion is somebody else's."""
        wishes: list[tuple[Wish, list[int]]] = []
        with self._database.read() as read:
            done = arrivals.completion(read, number)
            if done is not None:
                study = arrivals.study_uid(read, done.study_id)
                ruled = rules(read, done.tenant_id)
                for one, rows in zip(ruled, decide(read, done, ruled), strict=True):
                    wishes.append((self._wish(one.rule, done, study), rows))
        with self._database.write() as tx:
            if not changes.advance_cursor(tx, NAME, before, after):
                return None
            return sum(len(ordered(tx, wish, wish.study, rows)) for wish, rows in wishes)

    def _wish(self, rule: Rule, done: Completion, study: str) -> Wish:
        return Wish(
            done.tenant_id, rule.peer, study, Why.RULE, rule.name, f"rule {rule.name}", self._clock(),
            priority=rule.priority, syntax=rule.syntax, key=f"rule {rule.name} completion {done.id}",
        )  # fmt: skip
