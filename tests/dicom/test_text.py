"""Character sets, names and the dictionary."""

from __future__ import annotations

import warnings
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiolith.dicom import charset, dictionary
from radiolith.dicom.names import fold, groups, name_keys, parts, phonetic
from radiolith.dicom.reader import scan, text
from tests.dicom import tables
from tests.dicom.test_reader import is_unreadable, pydicom_read

# ---------------------------------------------------------------- character sets

# The examples of PS3.5 annexes H, I, J and K as the standard prints them
STANDARD = [
    ((), b"Yamada^Tarou", "Yamada^Tarou"),
    (("ISO_IR 100",), b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    (("ISO_IR 144",), "Люксембург".encode("iso8859_5"), "Люксембург"),
    (("ISO_IR 126",), b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    (("ISO_IR 192",), "Wang^XiaoDong=王^小東=".encode(), "Wang^XiaoDong=王^小東="),
    (("GB18030",), "Wang^XiaoDong=王^小东=".encode("gb18030"), "Wang^XiaoDong=王^小东="),
    (("GBK",), "Wang^XiaoDong=王^小东=".encode("gbk"), "Wang^XiaoDong=王^小东="),
    (
        ("", "ISO 2022 IR 87"),
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        ("ISO 2022 IR 13", "ISO 2022 IR 87"),
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        ("", "ISO 2022 IR 149"),
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        ("", "ISO 2022 IR 58"),
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    (("ISO 2022 IR 100", "ISO 2022 IR 144"), b"\xc4\x1b-L\xd0\x1b-A\xe4", "Äаä"),
    (("", "ISO 2022 IR 159"), b"\x1b$(D\x30\x21\x1b(B", "丂"),
    (("ISO_IR 166",), b"\xa1\xa2", "กข"),
    (("ISO_IR 203",), b"\xa4", "€"),
]


@pytest.mark.parametrize(("terms", "raw", "expected"), STANDARD)
def test_the_examples_of_the_standard(terms: tuple[str, ...], raw: bytes, expected: str) -> None:
    assert charset.decode(raw, terms, "PN") == expected


@pytest.mark.parametrize(
    ("terms", "raw", "expected"),
    [
        (("ISO-IR 100",), b"M\xfcller", "Müller"),
        (("iso_ir 100",), b"M\xfcller", "Müller"),
        (("UTF-8",), "Müller".encode(), "Müller"),
        (("nonsense",), b"M\xfcller", "Müller"),
        ((), "Müller".encode(), "Müller"),
        ((), b"M\xfcller", "Müller"),
        (("", "ISO 2022 IR 149"), b"\x1b$)C\xfb\xf3^\xd1\xce\xd4\xd7", "洪^吉洞"),
        (("ISO_IR 192",), b"M\xfcller", "M\ufffdller"),
    ],
)
def test_what_the_field_writes_instead(terms: tuple[str, ...], raw: bytes, expected: str) -> None:
    assert charset.decode(raw, terms, "PN") == expected


def test_names_of_the_corpus_are_pydicoms(corpus_files: list[Path]) -> None:
    compared = 0
    for path in corpus_files:
        if is_unreadable(path) or path.stat().st_size > 300_000:
            continue
        data = path.read_bytes()
        if data[128:132] != b"DICM":
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom_read(data)
            if not dataset.get("PatientName"):
                continue
            expected = str(dataset.PatientName).strip()
        if path.name in ("bad_sequence.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm"):
            continue  # pydicom loses the header
        assert text(scan(data), 0x00100010).rstrip("= ") == expected.rstrip("= "), path
        compared += 1
    assert compared > 20


TERMS = st.sampled_from(
    [f"ISO_IR {number}" for number in (6, 13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 192, 203)]
    + [f"ISO 2022 IR {number}" for number in (6, 13, 58, 87, 100, 149, 159)]
    + ["", "GB18030", "GBK", "x", "ISO 2022 IR 999999999999"]
)


@given(
    st.lists(TERMS, max_size=4),
    st.lists(
        st.sampled_from([b"\x1b", b"\x1b$B", b"\x1b$)C", b"\x1b(J", b"^", b"="]) | st.binary(max_size=6), max_size=20
    ),
)
def test_decoding_never_raises_and_is_bounded(terms: list[str], pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    decoded = charset.decode(raw, tuple(terms), "PN")
    assert len(decoded) <= len(raw) * 3
    decoded.encode("utf-8")


def test_what_has_no_character_set_is_left_alone() -> None:
    assert charset.decode(b"1.2.3\0", ("ISO_IR 192",), "UI") == "1.2.3"
    assert charset.decode(b"  text  ", (), "LT") == "  text"
    assert charset.decode(b"  text  ", (), "LO") == "text"
    assert charset.terms(b"ISO_IR 100 ") == ("ISO_IR 100",)
    assert charset.terms(b"\\ISO 2022 IR 87") == ("", "ISO 2022 IR 87")
    assert charset.terms(b"") == ()


# ---------------------------------------------------------------- names

SAME = [
    "Müller/Mueller/Muller/MÜLLER/Mu\u0308ller",
    "Lefèvre/Lefevre/LEFÈVRE",
    "Jean-Pierre/Jean Pierre/jean  pierre/Jean‐Pierre",
    "Groß/Gross/GROSS/Groẞ",
    "Иванов/Ivanov/ИВАНОВ",
    "Щербаков/Shcherbakov",
    "Παπαδόπουλος/Papadopoulos/ΠΑΠΑΔΟΠΟΥΛΟΣ",
    "O'Brien/O’Brien/OBrien",
    "Ångström/Aangstroem/Angstrom",
    "Sørensen/Soerensen/Sorensen",
    "Łukasz/Lukasz",
    "Nuñez/Nunez",
    "ﾔﾏﾀﾞ/ヤマダ/やまだ",
    "高橋/髙橋",
    "Ｙａｍａｄａ/Yamada",
    "أحمد/احمد",
    "Müller^Hans-Peter/Mueller ^ Hans Peter",
    "Nguyễn/Nguyen",
]
DIFFERENT = [
    "Bauer/Bar",
    "Miller/Muller",
    "Meier/Meyer",
    "山田/山口",
    "김/이",
    "Jean/Jan",
    "Neuer/Neur",
    "か/が",
    "Müller^Hans/Müller Hans",
    "Иванов/Иванова",
]


@pytest.mark.parametrize("names", SAME)
def test_spellings_fold_to_one(names: str) -> None:
    assert len({fold(name) for name in names.split("/")}) == 1, [fold(name) for name in names.split("/")]


@pytest.mark.parametrize("names", DIFFERENT)
def test_other_names_stay_apart(names: str) -> None:
    first, second = names.split("/")
    assert fold(first) != fold(second)


@given(st.text(max_size=40))
def test_folding_twice_is_folding_once(name: str) -> None:
    folded = fold(name)
    assert fold(folded) == folded


@given(st.text(alphabet="abcäöüß*?^=\\- é", max_size=20))
def test_separators_and_wildcards_survive(name: str) -> None:
    folded = fold(name)
    for mark in "*?^=\\":
        assert folded.count(mark) == name.count(mark)


def test_parts_and_keys() -> None:
    assert groups("Yamada^Tarou=山田^太郎=やまだ^たろう") == ["Yamada^Tarou", "山田^太郎", "やまだ^たろう"]
    assert parts("Adams^John Robert Quincy^^Rev.^B.A. M.Div.") == [
        "Adams",
        "John Robert Quincy",
        "",
        "Rev.",
        "B.A. M.Div.",
    ]
    assert parts("Müller^^^^") == ["Müller"]
    assert name_keys("Müller^Jörg^^=山田=") == ["muller^jorg", "山田"]
    assert name_keys("") == []
    assert name_keys("a=A=b") == ["a", "b"]


ALIKE = [
    "Meier/Mayer/Maier/Meyer/Mair",
    "Schmidt/Schmitt/Schmid/Schmied",
    "Petrow/Petrov/Petroff/Петров",
    "Renault/Renaud/Renaux",
    "Lefebvre/Lefèvre/Lefevre",
    "Tschaikowski/Tchaikovsky/Чайковский",
    "Yuri/Juri/Iouri/Юрий",
    "Becker/Bäcker",
    "Schultz/Schulze/Schulz/Schultze",
    "Joseph/Josef/Yosef/Jozef",
    "Stefan/Stephan/Stephen/Stéphane",
    "Chruschtschow/Khrushchev/Хрущёв",
    "Philipp/Filip/Philippe",
    "Christian/Kristian",
    "Michael/Mikhail/Михаил",
    "Thomas/Tomas",
    "Pfeiffer/Feifer",
    "Moreau/Moreaux/Morault",
    "Catherine/Katharina",
]
UNLIKE = ["Meier/Bauer", "Schmidt/Schulz", "Martin/Marten^X", "Dupont/Durand", "Weber/Fischer", "Ivanov/Petrov"]


@pytest.mark.parametrize("names", ALIKE)
def test_names_that_sound_alike(names: str) -> None:
    assert len({phonetic(name) for name in names.split("/")}) == 1, [phonetic(name) for name in names.split("/")]


@pytest.mark.parametrize("names", UNLIKE)
def test_names_that_sound_unlike(names: str) -> None:
    first, second = names.split("/")
    assert phonetic(first) != phonetic(second)


def test_sound_is_by_word() -> None:
    assert phonetic("Meier^Hans-Peter") == f"{phonetic('Mayer')} {phonetic('Hans')} {phonetic('Peter')}"
    assert phonetic("山田^太郎") == "山田 太郎"
    assert phonetic("") == ""


# ---------------------------------------------------------------- dictionary


@pytest.mark.parametrize("name", list(tables.FILES))
def test_the_tables_are_pydicoms(name: str) -> None:
    assert (tables.FOLDER / name).read_text(encoding="utf-8") == tables.FILES[name]()


def test_look_ups_are_pydicoms() -> None:
    from pydicom import datadict

    rng = Random(3)
    tags: list[Any] = rng.sample(sorted(dictionary.VR), 300)
    tags += [0x60020010, 0x60FE3000, 0x50000005, 0x002031AB]
    for tag in tags:
        assert dictionary.vr(tag) == datadict.dictionary_VR(tag)
        assert dictionary.keyword(tag) == datadict.dictionary_keyword(tag)
        assert dictionary.name(tag) == datadict.dictionary_description(tag)
        if tag in dictionary.VR and dictionary.keyword(tag):
            assert dictionary.tag(dictionary.keyword(tag)) == tag


def test_tags_that_no_dictionary_has() -> None:
    assert dictionary.vr(0x00091001) == "UN"
    assert dictionary.vr(0x00090010) == "LO"
    assert dictionary.vr(0x00090000) == "UL"
    assert dictionary.vr(0x00091002, "GEMS_IDEN_01") == "SH"
    assert dictionary.vr(0x00091002, "SOMEBODY") == "UN"
    assert dictionary.tag("00100020") == 0x00100020
    assert dictionary.tag("PatientID") == 0x00100020
    assert dictionary.tag("0010002") is None
    assert dictionary.tag("Nothing") is None
    assert dictionary.uid_name("1.2.840.10008.1.2") == "Implicit VR Little Endian"
    assert dictionary.uid_name("1.2.3") == "1.2.3"
    assert dictionary.creator_tag(0x00291134) == 0x00290011
    assert dictionary.text(0x0010ABCD) == "(0010,ABCD)"
