"""C-GET: what a peer has compressed comes as it is stored, whoever would choose another syntax."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from radiolith.cli.main import app
from radiolith.dimse import asking, asking_kinds
from radiolith.dimse.asking_kinds import USUAL, kinds
from radiolith.dimse.calls import Target
from radiolith.dimse.delivery import send
from radiolith.dimse.scu import connect
from radiolith.dimse.sopclasses import COMPOSITE_STORAGE, KEPT, STUDY_ROOT, UNCOMPRESSED
from radiolith.home import initialise
from tests.archive.homes import opened, store
from tests.archive.objects import BIG, CT, EXPLICIT, IMPLICIT, RAW, ROOT, Made
from tests.dimse.peers import dcmqrscp, serving
from tests.dimse.served import served
from tests.dimse.test_delivery import everything, filled, made, ours, written
from tests.dimse.test_scu import keys
from tests.ports import free_port

JPEG_2000, JPEG_LS, RLE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"
STUDY = f"{ROOT}.1"


def compressed(number: int, syntax: str) -> bytes:
    """One image with a frame that nobody decodes: what is to come untouched need not be read."""
    frame = struct.pack("<I", number) * 64
    pixels = b"".join((
        struct.pack("<HHI", 0xFFFE, 0xE000, 0), struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)), frame,
        struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
    ))  # fmt: skip
    native = made(number).part10(syntax)  # explicit little endian like every compressed syntax
    start = native.rindex(struct.pack("<HH", 0x7FE0, 0x0010) + b"OW")
    return native[:start] + struct.pack("<HH", 0x7FE0, 0x0010) + b"OB\0\0\xff\xff\xff\xff" + pixels


OBJECTS = {
    number: compressed(number, syntax) if syntax in (JPEG_2000, JPEG_LS, RLE) else made(number).part10(syntax)
    for number, syntax in enumerate((JPEG_2000, JPEG_LS, RLE, EXPLICIT, IMPLICIT, BIG, JPEG_2000), 1)
}


def test_a_class_has_a_context_for_each_syntax_there_is_room_for() -> None:
    _, *inward = asking.for_get(STUDY_ROOT.get, [(CT, "")])
    alone = [
        each.transfer_syntaxes[0] for each in inward if each.abstract_syntax == CT and len(each.transfer_syntaxes) == 1
    ]
    assert set(alone) == set(KEPT) and all(each.scp and not each.scu for each in inward)
    assert len(inward) == 127 and {each.abstract_syntax for each in inward} > {CT}


@pytest.mark.parametrize("classes", [0, 1, 2, 5, 40, 63, 64, 127, 140])
def test_any_number_of_classes_fits_into_one_association(classes: int) -> None:
    known = COMPOSITE_STORAGE[:classes]
    _, *inward = asking.for_get(STUDY_ROOT.get, [(each, "") for each in known])
    assert len(inward) <= 127 and {each.abstract_syntax for each in inward} >= set(known[:127])
    for each in known[:127]:
        offered = [one.transfer_syntaxes for one in inward if one.abstract_syntax == each]
        everything = {uid for one in offered for uid in one}
        assert everything >= set(UNCOMPRESSED) and max(map(len, offered)) <= asking.SYNTAXES
        assert len(everything) == sum(map(len, offered)) >= asking.SYNTAXES


def test_what_is_known_to_be_there_comes_first() -> None:
    known = [(each, RLE) for each in COMPOSITE_STORAGE[:30]] + [("1.2.3.4", "9.9"), ("1.2.3.4", JPEG_LS)]
    _, *inward = asking.for_get(STUDY_ROOT.get, known)
    for each in COMPOSITE_STORAGE[:30]:
        assert (RLE,) in [one.transfer_syntaxes for one in inward if one.abstract_syntax == each]
    private = [one.transfer_syntaxes for one in inward if one.abstract_syntax == "1.2.3.4"]
    assert (JPEG_LS,) in private and all("9.9" not in each for each in private)


async def test_from_ourselves_everything_comes_as_it_is_stored(tmp_path: Path) -> None:
    async with (
        filled(tmp_path / "one", *OBJECTS.values()) as graph,
        opened(tmp_path / "two") as other,
        serving(graph) as target,
    ):
        found = await kinds(target, "ME", [STUDY])
        assert found == [(CT, "")]
        async with connect(target, asking.for_get(STUDY_ROOT.get, found), "ME", ours(other)) as association:
            told = [each async for each in asking.get(association, STUDY_ROOT.get, keys(StudyInstanceUID=STUDY))]
            await association.exchange.quiet()
        assert (told[-1].status, told[-1].completed) == (0, len(OBJECTS))
        mine = {held.identity.sop: (held.layout.transfer_syntax, held.sha256) for held in await everything(other)}
        theirs = {held.identity.sop: (held.layout.transfer_syntax, held.sha256) for held in await everything(graph)}
        assert mine == theirs and len({syntax for syntax, _ in mine.values()}) == 6


async def test_a_peer_that_says_no_classes_is_judged_by_its_modalities(tmp_path: Path) -> None:
    """DCMTK's archive knows neither SOP Classes in Study nor SOP Class UID as keys."""
    raw = Made(STUDY, f"{STUDY}.2", f"{STUDY}.2.1", modality="MR")
    objects = [made(number) for number in range(1, 4)]
    files = [*(each.part10() for each in objects), raw.part10()]
    async with filled(tmp_path / "home", *files) as graph, dcmqrscp(tmp_path / "peer") as target:
        assert [r.status async for r in send(target, "ME", ours(graph), await everything(graph))] == [0] * 4
        found = await kinds(target, "ME", [STUDY])
        assert found == [(uid, "") for uid in dict.fromkeys(USUAL["CT"] + USUAL["MR"])]
        async with opened(tmp_path / "other") as other:
            async with connect(
                target, asking.for_get(STUDY_ROOT.get, [*found, (RAW, "")]), "ME", ours(other)
            ) as association:
                told = [each async for each in asking.get(association, STUDY_ROOT.get, keys(StudyInstanceUID=STUDY))]
                await association.exchange.quiet()
            assert (told[-1].status, told[-1].completed) == (0, 4)
            assert {h.identity.sop for h in await everything(other)} == {each.sop for each in (*objects, raw)}
        assert await kinds(target, "ME", [f"{ROOT}.99"]) == []
    assert await kinds(Target("X", "127.0.0.1", free_port()), "ME", [STUDY]) == []


async def test_without_classes_of_a_study_the_instances_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of our own server say their transfer syntax as well."""
    monkeypatch.setattr(asking_kinds, "_CLASSES", asking_kinds._MODALITY)  # asks for something that is no list of UIDs
    monkeypatch.setattr(asking_kinds, "_uids", _but_modalities(asking_kinds._uids))
    raw = Made(STUDY, f"{STUDY}.2", f"{STUDY}.2.1")
    async with filled(tmp_path / "home", *OBJECTS.values(), raw.part10()) as graph, serving(graph) as target:
        found = await kinds(target, "ME", [STUDY])
        assert set(found) == {
            (RAW, EXPLICIT), *((CT, syntax) for syntax in (JPEG_2000, JPEG_LS, RLE, EXPLICIT, IMPLICIT, BIG))
        }  # fmt: skip
        monkeypatch.setattr(asking_kinds, "LOOKED", 1)
        assert len(await kinds(target, "ME", [STUDY])) == 1


def _but_modalities(really: Any) -> Any:
    return lambda match, path: [] if path == asking_kinds._MODALITY else really(match, path)


def test_the_command_writes_files_as_they_are_stored(tmp_path: Path) -> None:
    initialise(tmp_path / "mine")
    with served(tmp_path / "home") as found:
        for data in OBJECTS.values():
            found.ask(lambda data=data: store(found.graph, data))
        words = ["get", "--home", str(tmp_path / "mine"), f"RADIOLITH@127.0.0.1:{found.port}", "--study", STUDY]
        done = CliRunner().invoke(app, [*words, "--to", str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
    came = written(tmp_path / "out")
    assert {made(number).sop: data[-200:] for number, data in OBJECTS.items()} == {
        sop: body[-200:] for sop, (_, body) in came.items()
    }
    assert {syntax for syntax, _ in came.values()} == {JPEG_2000, JPEG_LS, RLE, EXPLICIT, IMPLICIT, BIG}
