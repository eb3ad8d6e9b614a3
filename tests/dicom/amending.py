"""What the tests of corrected headers share: edits in few words, and what the JSON of a corrected header has to be."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from typing import Any

import orjson

from radiolith.dicom.amended import Origin, amended
from radiolith.dicom.json import to_json
from radiolith.model import Edit, Overlay, Step, UidMap

ORIGIN = Origin("RADIOLITH", "Elsewhere Clinic")
AT = 1_700_000_000_123_456
ADDED = ("04000561", "00080015")
"""What every corrected header has beside its edits."""


def edit(tag: int, vr: str, *values: Any, creator: str = "") -> Edit:
    """An attribute set to these DICOM JSON values; none: made empty."""
    return Edit(tag, vr, orjson.dumps({"Value": list(values)} if values else {}), creator)


def removed(tag: int, vr: str = "LO", creator: str = "") -> Edit:
    return Edit(tag, vr, None, creator)


def step(*edits: Edit, number: int = 1, why: str = "CORRECT", origin: str = "") -> Step:
    return Step(bytes([number]) * 16, AT + number * 1_000_000, "someone", why, origin, edits)


def overlay(*steps: Step, uids: UidMap | None = None) -> Overlay:
    uids = uids or UidMap()
    return Overlay(blake2b(repr((steps, uids)).encode(), digest_size=16).digest(), steps, uids)


def name(text: str) -> Edit:
    return edit(0x00100010, "PN", {"Alphabetic": text})


def apply(header: bytes, encoding: str, over: Overlay) -> bytes:
    return amended(header, encoding, over, ORIGIN)


def model(header: bytes, encoding: str) -> dict[str, Any]:
    return orjson.loads(to_json(header, encoding, bulk_uri=lambda path: path))


def history(header: bytes, encoding: str) -> list[dict[str, Any]]:
    """The items of the Original Attributes Sequence."""
    return model(header, encoding).get("04000561", {}).get("Value", [])


@cache
def expected_value(one: Edit) -> dict[str, Any] | None:
    if one.value is None:
        return None
    content = orjson.loads(one.value)
    return {"vr": one.vr, **content}


def without(attributes: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if key not in (*keys, *ADDED)}


def expected(before: dict[str, Any], over: Overlay, after: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a header with the edits in it; private ones are looked for in the block that `after` gives them."""
    wanted = dict(before)
    for one in (each for every in over.steps for each in every.edits):
        key = f"{one.tag:08X}"
        if one.creator:
            group = key[:4]
            blocks = [k for k, v in after.items() if k[:6] == f"{group}00" and v.get("Value") == [one.creator]]
            if not blocks:
                continue
            wanted[blocks[0]] = {"vr": "LO", "Value": [one.creator]}
            key = f"{group}{blocks[0][6:]}{key[6:]}"
        value = expected_value(one)
        if value is None:
            wanted.pop(key, None)
        else:
            wanted[key] = value
    return without(wanted, "00080005")
