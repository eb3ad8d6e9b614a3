"""References by study and series follow what was moved."""

from __future__ import annotations

from typing import Any

import orjson

from radiolith.dicom import compose, syntax
from radiolith.model import UidMap
from tests.dicom.amending import ORIGIN, apply, history, model, overlay, removed, step

EXPLICIT = syntax.EXPLICIT_LE
S, T, U = "1.2.1", "1.2.2", "1.2.3"


def ui(text: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [text]}


def sq(*items: dict[str, Any]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(items)}


def sops(*names: str) -> list[dict[str, Any]]:
    return [{"00081150": ui("1.2.840.10008.5.1.4.1.1.2"), "00081155": ui(name)} for name in names]


def series(uid: str, *names: str, tag: str = "0008114A") -> dict[str, Any]:
    return {"0020000E": ui(uid), tag: sq(*sops(*names))}


def header(study: str = S, own_series: str = "1.3.9", **attributes: dict[str, Any]) -> bytes:
    document = {"00080018": ui("1.4.99"), "0020000D": ui(study), "0020000E": ui(own_series)}
    document.update({key[1:]: value for key, value in attributes.items()})
    return b"".join(compose.encode(compose.from_json(orjson.dumps(document))[0], lambda uri: compose.Bulk(0, ())))


def amended(data: bytes, uids: UidMap) -> dict[str, Any]:
    over = overlay(step(why="COERCE"), uids=uids)
    once = apply(data, EXPLICIT, over)
    assert apply(once, EXPLICIT, over) == once
    return model(once, EXPLICIT)


def without_class(item: Any) -> Any:
    """UIDs alone, for reading."""
    if isinstance(item, dict) and "Value" in item:
        return [without_class(value) for value in item["Value"]]
    if isinstance(item, dict):
        return {key: without_class(value) for key, value in item.items() if key != "00081150"}
    return item


def test_what_left_the_study_goes_to_other_studies() -> None:
    data = header(_00081115=sq(series("1.3.1", "1.4.1", "1.4.2"), series("1.3.2", "1.4.3")))
    read = amended(data, UidMap(series=(((S, "1.3.2"), (T, "1.3.8")),)))
    assert read["00081115"] == sq(series("1.3.1", "1.4.1", "1.4.2"))
    assert read["00081200"] == sq({"00081115": sq(series("1.3.8", "1.4.3")), "0020000D": ui(T)})


def test_a_series_item_whose_instances_were_split_becomes_two() -> None:
    data = header(_00081115=sq(series("1.3.1", "1.4.1", "1.4.2", "1.4.3")))
    read = amended(data, UidMap(instances=(((S, "1.3.1", "1.4.2"), (S, "1.3.7")),)))
    assert read["00081115"] == sq(series("1.3.1", "1.4.1", "1.4.3"), series("1.3.7", "1.4.2"))
    assert "00081200" not in read


def test_the_object_moved_and_what_it_refers_to_stayed() -> None:
    data = header(_00081115=sq(series("1.3.1", "1.4.1")))
    read = amended(data, UidMap(series=(((S, "1.3.9"), (T, "1.3.9")),)))
    assert read["0020000D"] == ui(T)
    assert "00081115" not in read
    assert read["00081200"] == sq({"00081115": sq(series("1.3.1", "1.4.1")), "0020000D": ui(S)})
    assert read["04000561"]["Value"][0]["04000550"]["Value"][0].keys() == {"0020000D", "00081115", "00081200"}


def test_merged_studies_come_together_again() -> None:
    data = header(
        _00081115=sq(series("1.3.1", "1.4.1")),
        _00081200=sq({"00081115": sq(series("1.3.2", "1.4.2")), "0020000D": ui(U)}),
    )
    read = amended(data, UidMap(studies=((U, S),)))
    assert read["00081115"] == sq(series("1.3.1", "1.4.1"), series("1.3.2", "1.4.2"))
    assert "00081200" not in read


def test_evidence_of_a_report_or_a_note() -> None:
    evidence = sq({"00081115": sq(series("1.3.1", "1.4.1", "1.4.2", tag="00081199")), "0020000D": ui(S)})
    for tag in ("_0040A375", "_0040A385", "_0040A525"):
        read = amended(header(**{tag: evidence}), UidMap(instances=(((S, "1.3.1", "1.4.2"), (T, "1.3.5")),)))
        assert read[tag[1:]] == sq(
            {"00081115": sq(series("1.3.1", "1.4.1", tag="00081199")), "0020000D": ui(S)},
            {"00081115": sq(series("1.3.5", "1.4.2", tag="00081199")), "0020000D": ui(T)},
        )


def test_images_of_a_presentation_state_stay_with_it() -> None:
    data = header(_00081115=sq(series("1.3.1", "1.4.1", tag="00081140")))
    read = amended(data, UidMap(series=(((S, "1.3.1"), (T, "1.3.6")),)))
    assert read["00081115"] == sq(series("1.3.6", "1.4.1", tag="00081140")) and "00081200" not in read


def test_structures_and_requests_name_the_study_too() -> None:
    structure = {"0020000E": ui("1.3.1"), "30060016": sq(*sops("1.4.1"))}
    data = header(
        _30060010=sq({"00200052": ui("1.5"), "30060012": sq({"00081155": ui(S), "30060014": sq(structure)})}),
        _00081110=sq({"00081155": ui(S)}),
        _0040A370=sq({"0020000D": ui(S)}),
    )
    read = amended(data, UidMap(studies=((S, T),)))
    moved = {"00081155": ui(T), "30060014": sq(structure)}
    assert read["30060010"] == sq({"00200052": ui("1.5"), "30060012": sq(moved)})
    assert read["00081110"] == sq({"00081155": ui(T)}) and read["0040A370"] == sq({"0020000D": ui(T)})
    assert read["0020000D"] == ui(T)


def test_references_to_what_did_not_move_stay_byte_for_byte() -> None:
    data = header(_00081115=sq(series("1.3.1", "1.4.1")), _0040A375=sq({"0020000D": ui(U)}))
    over = overlay(step(removed(0x00100030, "DA")), uids=UidMap(series=((("9", "9.1"), ("9", "9.2")),)))
    assert apply(data, EXPLICIT, over) == data
    assert history(data, EXPLICIT) == [] and ORIGIN.system == "RADIOLITH"
