"""How likely two patients are one person, and why: for people who decide, never to decide.

Pure. Owns: what speaks for it and against it, with its weight. Must never: merge or link. Names are compared as searches
compare them (dicom.names): folded, in every script, and by sound. The score is a sum of weights, 0 to 100, and no probability;
reasons are always told beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.dicom import names

SHOWN_FROM = 25  # a score below it is no proposal: a frequent name alone, or a birthday alone
LIKELY = 60  # from here on it is the first thing to look at

CLAIMED, SAME_ID = 50, 20
NAME_SAME, NAME_TURNED, NAME_SOUND, NAME_PART, NAME_OTHER = 35, 28, 20, 8, -25
BORN_SAME, BORN_TURNED, BORN_SLIP, BORN_OTHER = 30, 20, 12, -30
SEX_SAME, SEX_OTHER = 3, -15
SAME_ORIGIN = 7


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of one patient. `ids`: (value, issuer) it is known by; `claimed`: that its objects name besides;
    `birth_date`: 19650131; `origins`: addresses and AE titles its objects came from."""

    ids: frozenset[tuple[str, str]] = frozenset()
    claimed: frozenset[tuple[str, str]] = frozenset()
    name: str = ""
    birth_date: int | None = None
    sex: str = ""
    origins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Likeness:
    score: int
    reasons: tuple[str, ...]  # what speaks for it, then what speaks against it


def likeness(one: Traits, other: Traits) -> Likeness:
    """The same whichever of the two comes first."""
    found = [*_ids(one, other), *_name(one.name, other.name), *_born(one.birth_date, other.birth_date)]
    found += [*_sex(one.sex, other.sex), *_origin(one, other)]
    found.sort(key=lambda reason: (reason[0] < 0, -abs(reason[0])))
    score = sum(weight for weight, _ in found)
    return Likeness(max(0, min(100, score)), tuple(text for _, text in found))


Reason = tuple[int, str]


def _ids(one: Traits, other: Traits) -> list[Reason]:
    if one.claimed & other.ids or other.claimed & one.ids:
        return [(CLAIMED, "the objects of one name the ID of the other")]
    if {value for value, _ in one.claimed} & {value for value, _ in other.ids} or {
        value for value, _ in other.claimed
    } & {value for value, _ in one.ids}:
        return [(SAME_ID + 10, "the objects of one name the ID of the other, with another issuer")]
    if {value for value, _ in one.ids} & {value for value, _ in other.ids}:
        return [(SAME_ID, "the same ID of another issuer")]
    return []


def _name(one: str, other: str) -> list[Reason]:
    mine, yours = names.name_keys(one), names.name_keys(other)
    if not mine or not yours:
        return []
    if set(mine) & set(yours):
        same = one.strip("^= ") == other.strip("^= ")
        return [(NAME_SAME, "the same name" if same else "the same name in another spelling")]
    for a in map(_parts, mine):
        for b in map(_parts, yours):
            if a and b and a[:2] == b[:2] and all(a[:2]):
                return [(NAME_SAME - 5, "the same family and given name")]
            if len(a) > 1 and len(b) > 1 and a[0] == b[1] and a[1] == b[0]:
                return [(NAME_TURNED, "family and given name exchanged")]
            if _sounds(a) == _sounds(b) and any(_sounds(a)):
                return [(NAME_SOUND, "a name that sounds the same")]
    for a in map(_parts, mine):
        for b in map(_parts, yours):
            if a and b and (a[0] == b[0] or (len(a) > 1 and len(b) > 1 and a[1] == b[1])):
                return [(NAME_PART, "one part of the name is the same")]
    return [(NAME_OTHER, "another name")]


def _parts(key: str) -> list[str]:
    return key.split("^")[:2]


def _sounds(parts: list[str]) -> list[str]:
    return [names.phonetic(part) for part in parts]


def _born(one: int | None, other: int | None) -> list[Reason]:
    if not one or not other:
        return []
    if one == other:
        return [(BORN_SAME, "the same birth date")]
    a, b = f"{one:08d}", f"{other:08d}"
    if a[:4] == b[:4] and a[4:6] == b[6:] and a[6:] == b[4:6]:
        return [(BORN_TURNED, "day and month of the birth date exchanged")]
    differ = [number for number in range(8) if a[number] != b[number]]
    neighbours = len(differ) == 2 and differ[1] == differ[0] + 1
    turned = neighbours and (a[differ[0]], a[differ[1]]) == (b[differ[1]], b[differ[0]])
    if len(differ) == 1 or turned:
        return [(BORN_SLIP, "birth dates that differ by one slip of the keys")]
    return [(BORN_OTHER, "another birth date")]


def _sex(one: str, other: str) -> list[Reason]:
    if one not in ("M", "F") or other not in ("M", "F"):
        return []
    return [(SEX_SAME, "the same sex")] if one == other else [(SEX_OTHER, "another sex")]


def _origin(one: Traits, other: Traits) -> list[Reason]:
    return [(SAME_ORIGIN, "objects that came from the same place")] if one.origins & other.origins else []


# ---------------------------------------------------------------- who nobody knows yet

_WORDS = """unknown unbekannt inconnu desconocido emergency notfall urgence trauma polytrauma schockraum schockroom resus doe nn
anonymous anonym patient unidentified namenlos temp temporary"""
EMERGENCY = frozenset(_WORDS.split())
"""Words, folded, that stand for a name where nobody knows one."""


def unidentified(name: str, patient_id: str) -> str:
    """Why this looks like a patient whom nobody had identified when the images were made, '' when it does not."""
    words = {word for key in names.name_keys(name) for part in key.split("^")[:2] for word in part.split()}
    if not patient_id:
        return "no patient ID"
    if not words:
        return "no patient name"
    found = sorted(words & EMERGENCY)
    return f"the name has the word '{found[0]}'" if found else ""
