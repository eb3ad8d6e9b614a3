"""Corrected headers: what changes, what does not, and what is written about it."""

from __future__ import annotations

from pathlib import Path

from radiolith.dicom import syntax
from radiolith.model import Overlay
from tests.dicom import amending
from tests.dicom.amending import apply, edit, expected, history, model, name, overlay, removed, step, without
from tests.dicom.mutations import element
from tests.dicom.test_models import header_of, readable

EXPLICIT, IMPLICIT, BIG = syntax.EXPLICIT_LE, syntax.IMPLICIT_LE, syntax.EXPLICIT_BE

EVERY_CLASS = overlay(
    step(
        name("Doe^Jane"),
        edit(0x00100020, "LO", "NEW1"),
        edit(0x00101000, "LO", "a", "b"),
        removed(0x00101030, "DS"),
        edit(0x00091001, "LO", "private", creator="ACME 1.1"),
        edit(0x00100024, "SQ", {"00400032": {"vr": "UT", "Value": ["1.2.3"]}}),
        edit(0x00080020, "DA", "20260102"),
        edit(0x00080050, "SH"),
        edit(0x00101020, "DS", 1.75),
        edit(0x00200011, "IS", 12),
        edit(0x00189073, "FD", 1.5),
    ),
    step(name("Smith^John"), edit(0x0020000D, "UI", "2.25.1"), number=2, why="COERCE", origin="RIS"),
)
OTHER_LETTERS = overlay(
    step(
        edit(0x00100010, "PN", {"Alphabetic": "Дое^Jane", "Ideographic": "山田^花子"}),
        edit(0x00081030, "LO", "Ünïcode"),
    )
)


def test_every_class_of_attribute_on_the_corpus(corpus_files: list[Path]) -> None:
    _on_the_corpus(corpus_files, EVERY_CLASS)


def test_every_character_set_of_the_corpus(corpus_files: list[Path]) -> None:
    _on_the_corpus(corpus_files, OTHER_LETTERS)


def _on_the_corpus(files: list[Path], over: Overlay) -> None:
    for path, data, found in readable(files):
        header, encoding = header_of(data, found), found.actual_encoding
        once = apply(header, encoding, over)
        assert apply(once, encoding, over) == once, path
        before, after = model(header, encoding), model(once, encoding)
        wanted, got = expected(before, over, after), without(after, "00080005")
        for key in [key for key in got if key[3] in "13579BDF" and got[key]["vr"] == "UN"]:
            wanted[key] = got[key]  # implicit VR: nothing says what a private element is
        assert got == wanted, path
        if found.layout.pixel_tag:
            assert once[-12:] == header[-12:], path


def test_what_is_written_about_two_steps() -> None:
    header = (
        element(0x00100010, "PN", b"Old^Name") + element(0x00100020, "LO", b"1 ") + element(0x00100021, "LO", b"H ")
    )
    first = step(name("Doe^Jane"), edit(0x00100020, "LO", "2"))
    second = step(name("Smith^John"), edit(0x00100040, "CS", "F"), number=2, why="COERCE", origin="RIS")
    one, two = history(apply(header, EXPLICIT, overlay(first, second)), EXPLICIT)
    assert one == {
        "04000550": {
            "vr": "SQ",
            "Value": [
                {
                    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Old^Name"}]},
                    "00100020": {"vr": "LO", "Value": ["1"]},
                    "00100021": {"vr": "LO", "Value": ["H"]},
                }
            ],
        },
        "04000562": {"vr": "DT", "Value": ["20231114221321.123456+0000"]},
        "04000563": {"vr": "LO", "Value": ["RADIOLITH"]},
        "04000564": {"vr": "LO", "Value": ["Elsewhere Clinic"]},
        "04000565": {"vr": "CS", "Value": ["CORRECT"]},
    }
    assert two["04000550"]["Value"] == [
        {
            "00080015": {"vr": "DT", "Value": ["20231114221321.123456+0000"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
            "00100040": {"vr": "CS"},
        }
    ]
    assert two["04000564"]["Value"] == ["RIS"] and two["04000565"]["Value"] == ["COERCE"]


def test_a_header_that_shows_it_already_comes_back_as_it_is() -> None:
    header = element(0x00100000, "UL", b"\x0a\0\0\0") + element(0x00100010, "PN", b"Doe^Jane ")
    assert apply(header, EXPLICIT, overlay(step(name("Other")), step(name("Doe^Jane"), number=2))) == header
    assert apply(header, EXPLICIT, overlay(step(removed(0x00100030, "DA")))) == header
    assert apply(header, EXPLICIT, overlay()) == header


def test_group_lengths_of_changed_groups_go_and_others_stay() -> None:
    other = element(0x00080000, "UL", b"\x10\0\0\0") + element(0x00200000, "UL", b"\x10\0\0\0")
    header = other[:12] + element(0x00100000, "UL", b"\x0a\0\0\0") + element(0x00100010, "PN", b"A^") + other[12:]
    after = apply(header, EXPLICIT, overlay(step(name("B"))))
    assert other[12:] in after and other[:12] not in after and b"\x10\0\0\0UL" not in after


def test_items_that_are_there_stay_byte_for_byte() -> None:
    items = b"\xfe\xff\x00\xe0\x10\0\0\0" + element(0x04000564, "LO", b"elsewher")
    for length in (len(items), 0xFFFFFFFF):
        ending = b"" if length == len(items) else b"\xfe\xff\xdd\xe0\0\0\0\0"
        header = element(0x00100010, "PN", b"A^") + element(0x04000561, "SQ", items, length) + ending
        after = apply(header, EXPLICIT, overlay(step(name("B"))))
        assert items in after
        assert [item.get("04000564", {}).get("Value") for item in history(after, EXPLICIT)] == [
            ["elsewher"],
            [amending.ORIGIN.source],
        ]


def test_the_old_character_set_stands_beside_the_old_values() -> None:
    header = element(0x00080005, "CS", b"ISO_IR 100") + element(0x00081030, "LO", "Schädel ".encode("latin_1"))
    header += element(0x00100010, "PN", "Müller^J".encode("latin_1"))
    after = apply(header, EXPLICIT, overlay(step(name("Дое")), step(edit(0x00081030, "LO", "Ж"), number=2)))
    read = model(after, EXPLICIT)
    assert read["00080005"]["Value"] == ["ISO_IR 192"] and read["00081030"]["Value"] == ["Ж"]
    one, two = history(after, EXPLICIT)
    prior = one["04000550"]["Value"][0]
    assert prior["00080005"]["Value"] == ["ISO_IR 100"]
    assert prior["00100010"]["Value"] == [{"Alphabetic": "Müller^J"}] and b"M\xfcller" in after
    assert two["04000550"]["Value"][0]["00081030"]["Value"] == ["Schädel"] and "Schädel".encode() in after


def test_letters_of_the_own_character_set_change_nothing_else() -> None:
    header = element(0x00080005, "CS", b"ISO_IR 100") + element(0x00100010, "PN", "Müller^J".encode("latin_1"))
    after = apply(header, EXPLICIT, overlay(step(name("Möller"))))
    assert model(after, EXPLICIT)["00080005"]["Value"] == ["ISO_IR 100"] and b"M\xf6ller" in after


def test_an_item_with_a_character_set_of_its_own_stays_byte_for_byte() -> None:
    text = "Ünïcode ".encode("latin_1")
    own = element(0x00080005, "CS", b"ISO_IR 100") + element(0x00080104, "LO", text)
    inherits = element(0x00080104, "LO", "Ж  ".encode("iso8859_5"))
    header = element(0x00080005, "CS", b"ISO_IR 144")
    header += element(0x00081032, "SQ", b"".join(element_item(item) for item in (own, inherits)))
    after = apply(header, EXPLICIT, overlay(step(edit(0x00100010, "PN", {"Alphabetic": "山田"}))))
    assert own in after and inherits not in after
    first, second = model(after, EXPLICIT)["00081032"]["Value"]
    assert first["00080104"]["Value"] == ["Ünïcode"] and second["00080104"]["Value"] == ["Ж"]


def element_item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content
