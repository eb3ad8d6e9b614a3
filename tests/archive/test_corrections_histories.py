"""Random histories of stores, re-sends, corrections, moves, merges, splits, undos, rejections, kills and rebuilds over a whole
archive: every query, header and pixel is what the reference model says, before and after the index is made again."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from radiolith import app, config
from radiolith.archive.tasks import Settled
from radiolith.index import instances
from radiolith.index.database import Database
from radiolith.index.facts import unknown
from radiolith.model import BadInput, Fact, Held, Level, Outcome, Query
from radiolith.storage.blobs import microseconds
from radiolith.storage.cache import Cache
from tests import campaign, postgres
from tests.archive.homes import principal, small_segments, store
from tests.archive.objects import BIG, EXPLICIT, IMPLICIT, Made
from tests.archive.test_histories import difference, lines, lose
from tests.index.test_corrections_model import (
    ALL,
    INSTANCE_TAGS,
    NEW_SERIES,
    NEW_STUDIES,
    SERIES_TAGS,
    STUDY_TAGS,
    expected,
    found_rows,
)  # fmt: skip
from tests.model.reference import LEVELS, Instance, Record, Reference, Said, Shown

HISTORIES = campaign.count("corrections of a whole archive against the reference model", 240, 50_000)
ELSEWHERE = campaign.count("the same on PostgreSQL and an object store", 60, 10_000)
PLANS = 10  # histories one test runs
NAMES = ("Adams^Ann", "Brown^Bob", "Müller^Jörg")
PEOPLE = (("P1", ""), ("P2", "HOSP"), ("P3", ""), ("", ""))
TAGS = {"00100010": "PN", "00080050": "SH", "00081030": "LO", "0008103E": "LO"}


class Life:
    """One history: what was received and said, over one home."""

    def __init__(self, seed: int, home: Path, environ: Mapping[str, str]):
        self.rng = Random(seed)
        self.home, self.settings = home, config.load(home, environ)
        self.made: dict[bytes, Made] = {}  # object id -> what was sent
        self.sent: dict[bytes, tuple[Made, str]] = {}
        self.said: list[Said] = []
        self.graphs: list[app.Graph] = []
        self.killed: list[app.Graph] = []

    def graph(self) -> app.Graph:
        made = app.build(self.settings, f"w{self.rng.randrange(100)}", _nothing, Cache(None, bytes(32)))
        small_segments(made)
        return made

    async def run(self) -> None:
        self.graphs = [self.graph(), self.graph()]
        for _ in range(3):
            await self.receive()
        for _ in range(self.rng.randint(6, 16)):
            step = self.rng.choice(
                (self.receive, self.receive, self.again, self.say, self.say, self.say, self.say, self.kill)
            )
            await step()
        await self.receive()

    async def end(self) -> None:
        for graph in self.graphs + self.killed:
            await graph.close()

    # ------------------------------------------------------------ what happens

    async def receive(self) -> None:
        rng = self.rng
        study = f"1.2.{rng.randrange(3)}"
        series = f"{study}.{rng.randrange(2)}"
        patient, issuer = rng.choice(PEOPLE)
        made = Made(
            study, series, f"{series}.{rng.randrange(3)}", patient=patient, issuer=issuer, name=rng.choice(NAMES),
            accession=rng.choice(("A1", "A2", "")), description=rng.choice(("Alpha", "Beta", "")), pixels=rng.randbytes(512),
        )  # fmt: skip
        await self.send(made, rng.choice((EXPLICIT, IMPLICIT, BIG)))

    async def again(self) -> None:
        await self.send(*self.rng.choice(list(self.sent.values())))

    async def send(self, made: Made, syntax: str) -> None:
        receipt = await store(self.rng.choice(self.graphs), made.part10(syntax))
        if receipt.outcome in (Outcome.STORED, Outcome.VERSION):
            self.made[receipt.object_id], self.sent[receipt.object_id] = made, (made, syntax)

    async def say(self) -> None:
        rng, graph = self.rng, self.rng.choice(self.graphs)
        kind, body = self.words(rng.choice(ALL))
        body["op"] = rng.randbytes(16).hex()
        skew = rng.choice((0, 0, 0, -5_000_000, 5_000_000))  # of the clock of another node
        fact = Fact(kind, microseconds() + skew, "ann", graph.accounts.system("x").tenant.uid, body)
        settled: Settled = await graph.committer.fact(fact)
        self.said.append(Said(kind, fact.at, settled.object_id, body))

    def words(self, kind: str) -> tuple[str, dict[str, Any]]:
        rng, one = self.rng, self.rng.choice(list(self.made.values()))
        home = [one.study, one.series, one.sop]
        study = rng.choice((*(f"1.2.{n}" for n in range(3)), one.study, *NEW_STUDIES))
        person = ["patient", *rng.choice((*PEOPLE[:3], ("P9", "NEW")))]
        match kind:
            case "amend":
                return "amend", self.amendment(one, person)
            case "patient":
                return "place", {"of": [["study", study]], "to": {"patient": person[1:]}}
            case "study":
                return "place", {"of": [["study", one.study]], "to": {"study": study}}
            case "series":
                to = {"study": study, "series": rng.choice((*NEW_SERIES, one.series))}
                return "place", {"of": [["series", *home[:2]]], "to": to}
            case "instance":
                return "place", {"of": [["instance", *home]], "to": {"study": study, "series": rng.choice(NEW_SERIES)}}
            case "into":
                return "into", {
                    "of": [["patient", one.patient or "P3", one.issuer if one.patient else ""]],
                    "to": person,
                }
            case "undo":
                ops = [said.operation for said in self.said if said.kind != "undo"] or ["00" * 16]
                return "undo", {"undoes": rng.choice(ops), "again": rng.random() < 0.3}
            case _:
                return kind, {"items": [home]} | ({"reason": "113001"} if kind == "reject" else {})

    def amendment(self, one: Made, person: list[str]) -> dict[str, Any]:
        tag = self.rng.choice(list(TAGS))
        text = self.rng.choice(("Grün^Ôlga", "Иванов^Иван", "Neu"))
        value: Any = {"Alphabetic": text} if tag == "00100010" else text
        subject = {"patient": person, "study": ["study", one.study], "series": ["series", one.study, one.series]}[
            LEVELS[tag]
        ]
        if self.rng.random() < 0.2:
            return {"of": [subject], "why": "CORRECT", "set": {}, "remove": [tag]}
        return {"of": [subject], "why": "CORRECT", "set": {tag: {"vr": TAGS[tag], "Value": [value]}}, "remove": []}

    async def kill(self) -> None:
        """A worker is gone without a word; the next one recovers."""
        at = self.rng.randrange(2)
        self.killed.append(self.graphs[at])
        lose(self.graphs[at])
        self.graphs[at] = self.graph()
        await asyncio.to_thread(self.graphs[at].rebuild.recover)

    # ------------------------------------------------------------ what must be shown

    def reference(self, database: Database) -> Shown:
        return Reference([self.record(database, *one) for one in self.made.items()], self.said).shown()

    @staticmethod
    def record(database: Database, object_id: bytes, made: Made) -> Record:
        with database.read() as read:
            row = read.one("SELECT received_at FROM instances WHERE object_id = ?", (object_id,))
        assert row is not None, "a record has lost its row"
        values = {"00100010": made.name, "00080050": made.accession, "00081030": made.description}
        patient = (made.patient, made.issuer) if made.patient else None
        return Record(row[0], object_id, (made.study, made.series, made.sop), made.pixels, patient, values)


def _nothing() -> Any:
    raise BadInput("this test decodes nothing")


# ---------------------------------------------------------------- one look at everything


async def agrees(life: Life, seed: int) -> None:
    """Queries, versions, headers and pixels, through a graph of its own."""
    graph = life.graph()
    try:
        with graph.database.read() as read:
            assert unknown(read) == []
        shown = life.reference(graph.database)
        for level, tags, wanted in zip(
            (Level.STUDY, Level.SERIES, Level.INSTANCE),
            (STUDY_TAGS, SERIES_TAGS, INSTANCE_TAGS),
            expected(shown),
            strict=True,
        ):
            query = Query(level, (), tuple((tag,) for tag in tags), limit=1000)
            page = await graph.archive.query.search(principal(graph), query)
            found = found_rows(page.rows, tags)
            assert found == wanted, (seed, level, life.said)
        for instance in shown.instances.values():
            await looks(graph, life, shown, instance)
    finally:
        await graph.close()


async def looks(graph: app.Graph, life: Life, shown: Shown, instance: Instance) -> None:
    with graph.database.read() as read:
        held = list(instances.locate(read, 1, *instance.shown, current_only=False, include_rejected=True))
    assert [one.blob.object_id for one in held] == [one.object_id for one in instance.versions], instance
    (current,) = [one for one in held if one.current]
    assert instance.current is not None and current.blob.object_id == instance.current.object_id, instance
    assert current.rejected == instance.rejected, instance
    for one in held:
        await is_right(graph, life, one)
    if not instance.rejected:
        await says(graph, shown, instance, current)


async def is_right(graph: app.Graph, life: Life, held: Held) -> None:
    """Pixels as received, and the received bytes themselves."""
    made = life.made[held.blob.object_id]
    stream = await graph.archive.retrieve.part10(held)
    data = b"".join([bytes(piece) async for piece in stream.chunks()])
    assert stream.size is None or stream.size == len(data)
    pixels = made.pixels
    if held.layout.transfer_syntax == BIG:
        pixels = b"".join(pixels[at : at + 2][::-1] for at in range(0, len(pixels), 2))
    assert data.endswith(pixels), "pixels are as they came"
    original = graph.archive.retrieve.original(held)
    received = b"".join([bytes(piece) async for piece in original.chunks()])
    assert hashlib.sha256(received[held.layout.dataset_start :]).digest() == held.sha256
    if held.overlay is None:
        assert data.endswith(received[held.layout.dataset_start :])


async def says(graph: app.Graph, shown: Shown, instance: Instance, held: Held) -> None:
    """The header of what is current says what the rows say, in all that was corrected."""
    header = orjson.loads(await graph.archive.retrieve.metadata(held, ""))
    record = instance.current
    assert record is not None
    study, series, sop = instance.shown
    said = tuple(_value(header, tag) for tag in ("0020000D", "0020000E", "00080018"))
    assert said == (study, series, sop)
    person, values = shown.patients[study], shown.studies[study] | shown.series[study, series]
    another = person != shown.received[record.home[0]]  # than the study it was received in is of
    if another:
        who = (_value(header, "00100020"), _value(header, "00100021"))
        assert who == (person[1:] if person[0] == "patient" else ("", "")), (who, person, record)
    for tag in TAGS:
        corrected = values[tag] != record.values.get(tag, "")
        moved = another if LEVELS[tag] == "patient" else study != record.home[0]
        if tag in shown.edited(instance) or (corrected and moved and LEVELS[tag] != "series"):
            assert _value(header, tag) == values[tag], (tag, header, record)


def _value(header: Mapping[str, Any], tag: str) -> str:
    first = (header.get(tag, {}).get("Value") or [""])[0]
    return str(first.get("Alphabetic", "") if isinstance(first, dict) else first)


# ---------------------------------------------------------------- histories


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template") / "home"
    asyncio.run(app.initialised(home, {}))
    return home


async def lived(life: Life, seed: int) -> None:
    try:
        await life.run()
        await agrees(life, seed)
    finally:
        if life.rng.random() < 0.3:
            for graph in life.graphs:
                lose(graph)
        await life.end()


@pytest.mark.parametrize("first", range(0, HISTORIES, PLANS))
async def test_a_whole_archive_shows_what_the_model_says(first: int, template: Path, tmp_path: Path) -> None:
    for seed in range(first, min(first + PLANS, HISTORIES)):
        home = tmp_path / str(seed)
        shutil.copytree(template, home)
        life = Life(seed, home, {})
        await lived(life, seed)
        url = life.settings.database.url
        before = lines(url)
        for path in home.glob("index.db*"):
            path.unlink()
        report = await asyncio.to_thread(app.rebuild, home)
        assert not report.damaged
        after = lines(url)
        assert after == before, f"seed {seed}: {difference(before, after)}"
        if seed % 5 == 0:
            await agrees(life, seed)
        shutil.rmtree(home)


@pytest.mark.parametrize("first", range(0, ELSEWHERE, PLANS))
async def test_on_postgresql_and_an_object_store(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := postgres.why_not():
        pytest.skip(reason)
    for seed in range(first, min(first + PLANS, ELSEWHERE)):
        url, home = postgres.shared().fresh(), tmp_path / str(seed)
        environ = {"RADIOLITH_DATABASE_URL": url, "RADIOLITH_TIERS_HOT_URL": f"memory://{url[-40:]}c{seed}"}
        await app.initialised(home, environ)
        life = Life(seed, home, environ)
        await lived(life, seed)
        before = lines(url)
        for key, value in environ.items():
            monkeypatch.setenv(key, value)
        assert not (await asyncio.to_thread(app.rebuild, home)).damaged
        after = lines(url)
        assert after == before, f"seed {seed}: {difference(before, after)}"
        if seed % 5 == 0:
            await agrees(life, seed)
