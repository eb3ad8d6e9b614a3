"""Same content in another syntax, or other content? Asked only when an identity is held with different bytes.

Owns: the comparison of two stored objects and the fact that follows from it. Both are durable before they are compared,
so a crash in between leaves a further version, never a lost one. Must never: run for objects of one syntax (other bytes
in the same syntax are other content), or decode outside the sandbox. Limits: FRAMES frames and SECONDS are compared;
what is longer stays a version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson
import structlog

from radiolith.archive.commit import Committer
from radiolith.archive.pixels import Pixelwork
from radiolith.archive.reading import Reading, described_by, is_deflated
from radiolith.archive.tasks import Settled
from radiolith.dicom.json import to_json
from radiolith.index import instances
from radiolith.index.database import Database
from radiolith.model import Fact, Failure, Held, Identity, Outcome, Pixels, Principal
from radiolith.trust.keys import NONPATIENT, STUDY

FRAMES = 2_000  # a cine of a minute; decoding both sides takes some 10 s
SECONDS = 30.0
_HEADER_BYTES = 16 << 20  # larger headers, with what follows the pixel data, are not compared
log = structlog.get_logger()

_OF_THE_ENCODING = frozenset({
    "00080005",  # Specific Character Set: the texts themselves are compared, decoded
    "00280002", "00280004", "00280006",  # samples, photometric interpretation, planar configuration
    "00020010",
})  # fmt: skip


class Encodings:
    def __init__(
        self,
        database: Database,
        reading: Reading,
        pixels: Pixelwork,
        committer: Committer,
        clock: Callable[[], int],
    ):
        self._database, self._reading, self._pixels = database, reading, pixels
        self._committer, self._clock = committer, clock

    async def settle(self, settled: Settled, principal: Principal) -> Settled:
        """A fresh version: if it is a held one in another syntax, say so by a fact and answer ENCODING."""
        fresh = settled.held
        assert fresh is not None
        others = await self._reading.run(self._versions, principal.tenant.id, fresh.identity)
        rivals = [o for o in others if o.layout.transfer_syntax != fresh.layout.transfer_syntax]
        twin = await self._twin(fresh, rivals)
        if twin is None:
            return settled
        original = twin.encoding_of or twin.blob.object_id
        identity = instances.home_of(fresh)
        body: dict[str, object] = {
            "identity": [identity.study, identity.series, identity.sop],
            "object": fresh.blob.object_id.hex(),
            "encoding_of": original.hex(),
        }
        fact = Fact("encoding", self._clock(), principal.name, principal.tenant.uid, body)
        label = (principal.tenant.uid, STUDY if identity.study else NONPATIENT, identity.study)
        await self._committer.fact(fact, label)
        return replace(settled, outcome=Outcome.ENCODING)

    def _versions(self, tenant: int, identity: Identity) -> list[Held]:
        with self._database.read() as read:
            return instances.versions(read, tenant, identity)

    async def _twin(self, fresh: Held, rivals: Sequence[Held]) -> Held | None:
        for rival in rivals:
            try:
                async with asyncio.timeout(SECONDS):
                    if await self._same(fresh, rival):
                        return rival
            except (Failure, TimeoutError) as error:
                log.info("versions could not be compared", reason=str(error) or "time")
        return None

    async def _same(self, a: Held, b: Held) -> bool:
        if described_by(a.layout) > _HEADER_BYTES or described_by(b.layout) > _HEADER_BYTES:
            return False  # longer values would be compared by their paths
        if await self._reading.run(self._unseen_now, a) or await self._reading.run(self._unseen_now, b):
            return False
        if a.layout.frames != b.layout.frames or a.layout.frames > FRAMES:
            return False
        if await self._elements(a) != await self._elements(b):
            return False
        if Pixels.VIDEO in (a.layout.pixels, b.layout.pixels):
            return False
        if Pixels.NONE in (a.layout.pixels, b.layout.pixels):
            return a.layout.pixels is b.layout.pixels
        for number in range(1, a.layout.frames + 1):
            if await self._pixels.decoded(a, number) != await self._pixels.decoded(b, number):
                return False
        return a.layout.frames > 0

    def _unseen_now(self, held: Held) -> bool:
        """Whether elements follow the pixel data that `_elements` does not show: those of a deflated object."""
        layout = held.layout
        if not is_deflated(layout) or layout.pixels is Pixels.NONE:
            return False
        end = layout.pixel_start + layout.pixel_length
        return layout.pixels is not Pixels.NATIVE or bool(self._reading.value_now(held, end, end + 1))

    async def _elements(self, held: Held) -> dict[str, object]:
        return await self._reading.run(self._elements_now, held)

    def _elements_now(self, held: Held) -> dict[str, object]:
        header, encoding, tail = self._reading.description_now(held)
        made = to_json(header, encoding, bulk_uri=str, bulk_threshold=_HEADER_BYTES, tail=tail)
        body = orjson.loads(made)
        return {tag: value for tag, value in body.items() if tag not in _OF_THE_ENCODING and not tag.startswith("7FE0")}
