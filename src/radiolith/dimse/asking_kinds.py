"""What kinds of objects a peer has of some studies: asked by C-FIND before a C-GET, so that each can come as it is stored.

Owns: the queries, from the cheapest on. Must never: fail because a peer does not say it: then the kinds are not known.

Limits: LOOKED instances whose SOP class is asked for one by one; what is behind them may be of kinds that are not known.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress

from radiolith.dicom.limits import Limits, Unparsable
from radiolith.dicom.reader import Scan, scan
from radiolith.dicom.wanted import Wanted as Kept
from radiolith.dimse import asking
from radiolith.dimse.calls import Target
from radiolith.dimse.operation import DATA_SET_MAX
from radiolith.dimse.scu import Association, connect
from radiolith.dimse.sopclasses import STUDY_ROOT
from radiolith.model import Unavailable

LOOKED = 5_000
"""A study of the largest scanners; a peer answers some thousand a second."""
_STUDY, _SERIES, _INSTANCE = (0x0020000D,), (0x0020000E,), (0x00080018,)
_CLASS, _SYNTAX, _CLASSES, _MODALITY = (0x00080016,), (0x00083002,), (0x00080062,), (0x00080060,)
_KEPT = Kept({path[0]: "UI" for path in (_STUDY, _SERIES, _CLASS, _SYNTAX, _CLASSES)} | {_MODALITY[0]: "CS"})
_LIMITS = Limits(depth=8, kept_bytes=DATA_SET_MAX)

USUAL: Mapping[str, tuple[str, ...]] = {
    modality: tuple(f"1.2.840.10008.5.1.4.1.1.{stem}" for stem in stems.split())
    for modality, stems in {
        "CR": "1 1.1", "CT": "2 2.1 7", "DX": "1.1 1", "ES": "77.1.1 77.1.1.1 7", "GM": "77.1.2 77.1.2.1", "IO": "1.3 1.1",
        "MG": "1.2 1.1 13.1.3", "MR": "4 4.1 7", "NM": "20", "OP": "77.1.5.1 77.1.5.2", "OT": "7 7.1 7.2 7.3 7.4",
        "PT": "128 130 7", "PX": "1.1 1", "RF": "12.2 12.1", "RTIMAGE": "481.1", "SC": "7 7.1 7.2 7.3 7.4", "SM": "77.1.6",
        "US": "6.1 3.1 6.2", "XA": "12.1 12.1.1 13.1.1", "XC": "77.1.4 77.1.4.1 7",
    }.items()
}  # fmt: skip
"""Modality -> the SOP classes of its images (PS3.3 C.7.3.1.1.1), the commonest first."""

Kind = tuple[str, str]
"""SOP class; transfer syntax in which it is stored, '' where that is not known."""


async def kinds(target: Target, calling: str, studies: Sequence[str]) -> list[Kind]:
    """What there is under Study Instance UIDs, as far as the peer says it; [] where it does not answer such queries.

    SOP Classes in Study first (PS3.4 table C.6-5: optional), then series by series what the instances are.
    """
    found: dict[Kind, None] = {}
    with suppress(Unavailable):
        async with connect(target, asking.for_query(STUDY_ROOT.find), calling) as association:
            for study in studies:
                asked = {_STUDY: study, _CLASSES: ""}
                classes = [_uids(match, _CLASSES) async for match in _matches(association, "STUDY", asked)]
                if all(classes):
                    found |= {(uid, ""): None for each in classes for uid in each}
                else:
                    found |= dict.fromkeys(await _looked_at(association, study))
    return list(found)


async def _looked_at(association: Association, study: str) -> list[Kind]:
    """The kinds of a study's instances; from a peer that says no SOP class of an instance, what the modalities usually make."""
    found: dict[Kind, None] = {}
    asked = {_STUDY: study, _SERIES: "", _MODALITY: ""}
    all_series = [match async for match in _matches(association, "SERIES", asked)]
    left = LOOKED
    for one in all_series:
        asked = {_STUDY: study, _SERIES: one.uid(_SERIES[0]), _INSTANCE: "", _CLASS: "", _SYNTAX: ""}
        classes = 0
        async with aclosing(_matches(association, "IMAGE", asked)) as matches:
            async for match in matches:
                syntaxes = _uids(match, _SYNTAX) or [""]
                found |= {(sop_class, syntax): None for sop_class in _uids(match, _CLASS) for syntax in syntaxes}
                classes, left = classes + bool(_uids(match, _CLASS)), left - 1
                if not classes or left <= 0:
                    break
        if not classes:
            found |= {(uid, ""): None for uid in USUAL.get(one.uid(_MODALITY[0]), ())}
        if left <= 0:
            break
    return list(found)


async def _matches(association: Association, level: str, keys: Mapping[asking.Path, str]) -> AsyncGenerator[Scan]:
    """The matches that can be read. Raises Declined, Lost, NoAnswer."""
    syntax = association.context(STUDY_ROOT.find).transfer_syntax
    answers = asking.find(association, STUDY_ROOT.find, lambda syntax: asking.identifier(level, keys, syntax))
    async with aclosing(answers) as found:
        async for _, identifier in found:
            with suppress(Unparsable):
                yield scan(identifier, transfer_syntax=syntax, limits=_LIMITS, wanted=_KEPT)


def _uids(match: Scan, path: asking.Path) -> list[str]:
    return [uid.strip("\0 ") for uid in match.uid(path[0]).split("\\") if uid.strip("\0 ")]
