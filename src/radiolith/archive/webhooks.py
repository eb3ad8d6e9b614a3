"""Webhooks, seen from the edges: make, list and remove them, see what could not be delivered, send it again.

Owns: webhooks as facts, and who may make them. Must never: post (jobs/webhooks does), or show a secret after it was made. Limits:
WEBHOOKS of a tenant; names of 1 to NAME_MAX characters; secrets of SECRET_MIN characters or more.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from radiolith.archive.deciding import Deciding
from radiolith.archive.happenings import VISIBLE, kinds_of
from radiolith.archive.targets import target_of
from radiolith.index import audit, changes, deliveries, registry
from radiolith.index.deliveries import Delivery, State
from radiolith.index.registry import Entry
from radiolith.index.session import Reader, Writer
from radiolith.model import AuditEvent, BadInput, Conflict, LimitExceeded, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import FACTS

KIND = "webhook"
WEBHOOKS = 50  # of a tenant: each looks at every change
NAME_MAX = 64
SECRET_MIN, SECRET_MAX = 24, 256
SECRET_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where events go. `kinds`: names of `happenings.KINDS`, none for all; `role`: as whom it sees."""

    name: str
    url: str
    kinds: tuple[str, ...]
    role: str
    made_at: int  # microseconds
    secret: str  # '' where it is shown


def webhook_of(entry: Entry) -> Webhook:
    body = entry.body
    kinds = tuple(str(kind) for kind in body.get("kinds", ()))
    return Webhook(entry.name, str(body["url"]), kinds, str(body.get("role", "")), entry.at, str(body["secret"]))


class Webhooks:
    def __init__(self, deciding: Deciding, *, allow_private: bool):
        self._deciding, self._allow_private = deciding, allow_private

    async def add(
        self, principal: Principal, name: str, url: str, *, kinds: Sequence[str] = (), role: str = "reader", secret: str = ""
    ) -> str:  # fmt: skip
        """From now on events go to `url`. Returns the secret that signs them: the one given, or a random one, shown this once.

        Raises BadInput, NotAllowed for a target that must not be (targets.py), Conflict for a name there is, LimitExceeded.
        """
        require(principal, Action.WEBHOOKS)
        if not 1 <= len(name) <= NAME_MAX or not name.isprintable() or name != name.strip() or "/" in name:
            raise BadInput(f"a name has 1 to {NAME_MAX} printable characters and no slash")
        if role not in VISIBLE:
            raise BadInput(f"a webhook sees what one of these roles sees: {', '.join(VISIBLE)}")
        kinds_of(kinds)
        target_of(url, allow_private=self._allow_private)
        secret = secret or SECRET_PREFIX + secrets.token_urlsafe(32)
        if not SECRET_MIN <= len(secret) <= SECRET_MAX or not secret.isascii() or not secret.isprintable():
            raise BadInput(f"a secret has {SECRET_MIN} to {SECRET_MAX} printable ASCII characters")

        def begin(tx: Writer) -> None:
            known = registry.entries(tx, principal.tenant.id, KIND)
            if any(entry.name == name for entry in known):
                raise Conflict(f"there is a webhook '{name}' already")
            if len(known) >= WEBHOOKS:
                raise LimitExceeded(f"there are {WEBHOOKS} webhooks, and more are not possible")
            deliveries.drop(tx, (principal.tenant.id, name))  # of one that had this name before
            changes.save_cursor(tx, deliveries.cursor_name(principal.tenant.uid, name), changes.tip(tx))

        await self._deciding.change(begin)
        body = {"name": name, "url": url, "secret": secret, "kinds": list(kinds), "role": role}
        await self._write(principal, "webhook", body, f"{name} to {url}")
        return secret

    async def remove(self, principal: Principal, name: str) -> None:
        """What was not delivered yet is not delivered any more. Raises NotFound."""
        require(principal, Action.WEBHOOKS)
        await self._deciding.look(lambda read: _known(read, principal, name))
        await self._write(principal, "webhook-remove", {"name": name}, name)

    async def list(self, principal: Principal) -> list[tuple[Webhook, int]]:
        """By name, without their secrets, each with the number of batches that were given up."""
        require(principal, Action.WEBHOOKS)

        def question(read: Reader) -> list[tuple[Webhook, int]]:
            lost = deliveries.given_up(read, principal.tenant.id)
            entries = registry.entries(read, principal.tenant.id, KIND)
            return [
                (webhook_of(Entry(one.name, one.at, {**one.body, "secret": ""})), lost.get(one.name, 0)) for one in entries
            ]  # fmt: skip

        found = await self._deciding.look(question)
        await self._deciding.note(principal, "", "webhooks", len(found))
        return found

    async def deliveries(self, principal: Principal, name: str, limit: int = 100, after: int = 0) -> list[Delivery]:
        """What waits to be sent again or was given up, in its order; `after`: the number the answer before ended with. Raises
        NotFound."""
        require(principal, Action.WEBHOOKS)

        def question(read: Reader) -> list[Delivery]:
            _known(read, principal, name)
            return deliveries.listed(read, (principal.tenant.id, name), limit, after)

        found = await self._deciding.look(question)
        await self._deciding.note(principal, "", "webhooks", len(found))
        return found

    async def again(self, principal: Principal, name: str, number: int = 0) -> int:
        """Send what was given up, one batch by its number or all of a webhook, oldest first and before anything new; how many.
        Raises NotFound, Conflict for a batch that waits anyway."""
        require(principal, Action.WEBHOOKS)

        def change(tx: Writer) -> int:
            now, tenant = self._deciding.now(), principal.tenant.id
            _known(tx, principal, name)
            if number:
                found = deliveries.get(tx, tenant, number)
                if found is None or found.webhook != name:
                    raise NotFound(f"webhook '{name}' has no delivery {number}")
                if found.state is not State.GIVEN_UP:
                    raise Conflict(f"delivery {number} was not given up: it is tried again by itself")
            numbers = [number] if number else deliveries.lost(tx, (tenant, name))
            count = sum(deliveries.again(tx, tenant, one, now) for one in numbers)
            event = AuditEvent(now, tenant, principal.name, "webhook again", count=max(1, count), detail=name)
            audit.insert(tx, [event])
            return count

        return await self._deciding.change(change)

    async def _write(self, principal: Principal, kind: str, body: Mapping[str, Any], detail: str) -> None:
        await self._deciding.decide(principal, (kind, dict(body)), (FACTS, ""), (kind, 1, detail))


def _known(read: Reader, principal: Principal, name: str) -> Webhook:
    entry = registry.get(read, principal.tenant.id, KIND, name)
    if entry is None:
        raise NotFound(f"there is no webhook '{name}'")
    return webhook_of(entry)
