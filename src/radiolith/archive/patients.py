"""The verb `patients`: who is held, who might be the same person, and what a person says about that.

Owns: search, candidates with their reasons, links and states. Must never: link, merge or verify by itself, or rewrite a header
for a link: two identifiers of one person under two issuers stay what they are (docs/decisions/105). Limits: FOUND patients looked
at for one search, CANDIDATES proposed, LINKED identifiers of one person.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from radiolith.archive.affected import held_patient
from radiolith.archive.likeness import SHOWN_FROM, Likeness, Traits, likeness
from radiolith.archive.operations import NOTHING_ASKED, Asked, Deed, Operation, Operations, Plan
from radiolith.archive.subjects import PatientKey, checked, of_patient
from radiolith.index import persons, told
from radiolith.index.persons import Person, Shown
from radiolith.index.session import Reader
from radiolith.model import BadInput, Conflict, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import FACTS

STATES = {0: "provisional", 1: "verified", 2: "foreign", 3: "merged"}
SETTABLE = ("provisional", "verified", "foreign")
CANDIDATES = 10
LINKED = 20  # identifiers of one person that are followed
STUDIES = 200  # of one patient in an answer
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched: all that is given must fit. `name`: how it begins, in any spelling; `birth_date`: 19650131."""

    id: str = ""
    name: str = ""
    birth_date: int | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """`linked`: other identifiers of the same person; `merged`: those shown under this one; `into`: the one that this is shown
    under; `claimed`: identifiers that its objects name besides."""

    person: Person
    state: str
    studies: tuple[Shown, ...] = ()
    linked: tuple[PatientKey, ...] = ()
    merged: tuple[PatientKey, ...] = ()
    into: PatientKey | None = None
    claimed: tuple[PatientKey, ...] = ()

    @property
    def key(self) -> PatientKey:
        return key_of(self.person)


@dataclass(frozen=True, slots=True)
class Candidate:
    person: Person
    score: int
    reasons: tuple[str, ...]

    @property
    def key(self) -> PatientKey:
        return key_of(self.person)


def key_of(person: Person) -> PatientKey:
    return PatientKey(person.value, person.issuer, person.study if not person.value else "")


class Patients:
    def __init__(self, operations: Operations):
        self._operations, self._deciding = operations, operations.deciding

    async def search(self, principal: Principal, wanted: Wanted, limit: int = 100, after: int = 0) -> list[Patient]:
        """Latest made first; `after` is the row the page before ended with. Raises BadInput."""
        require(principal, Action.QUERY)
        if wanted.state and wanted.state not in STATES.values():
            raise BadInput(f"the state of a patient is one of {', '.join(STATES.values())}")
        number = next((each for each, name in STATES.items() if name == wanted.state), None)

        def look(read: Reader) -> list[Patient]:
            found = persons.search(
                read, principal.tenant.id, (wanted.id, wanted.name, wanted.birth_date, number), min(limit, PAGE), after
            )
            return [Patient(one, STATES.get(one.state, "")) for one in found]

        found = await self._deciding.look(look)
        await self._deciding.note(principal, "", "patients", len(found))
        return found

    async def get(self, principal: Principal, key: PatientKey) -> Patient:
        """One with all that is known of it. Raises NotFound."""
        require(principal, Action.QUERY)
        found = await self._deciding.look(lambda read: _patient(read, principal.tenant.id, key))
        await self._deciding.note(principal, "", "patients", 1)
        return found

    async def candidates(self, principal: Principal, key: PatientKey) -> list[Candidate]:
        """Who might be the same person, most likely first, with the reasons. Raises NotFound."""
        require(principal, Action.PATIENTS)
        found = await self._deciding.look(lambda read: proposed(read, principal.tenant.id, key))
        await self._deciding.note(principal, "", "candidates", len(found))
        return found

    # ------------------------------------------------------------ what a person says

    async def link(
        self, principal: Principal, one: PatientKey, other: PatientKey, asked: Asked = NOTHING_ASKED
    ) -> Operation:
        """Two identifiers are one person's; both stay, no header changes. Raises NotFound, Conflict."""
        return await self._linked(principal, (one, other), asked, linked=True)

    async def unlink(
        self, principal: Principal, one: PatientKey, other: PatientKey, asked: Asked = NOTHING_ASKED
    ) -> Operation:
        """They are not. Raises NotFound, Conflict."""
        return await self._linked(principal, (one, other), asked, linked=False)

    async def _linked(
        self, principal: Principal, pair: tuple[PatientKey, PatientKey], asked: Asked, *, linked: bool
    ) -> Operation:
        require(principal, Action.PATIENTS)
        tenant = principal.tenant.id

        def plan(read: Reader) -> Plan:
            one, other = (held_patient(read, tenant, checked(of_patient(key)).patient or key) for key in pair)
            if one.id == other.id:
                raise Conflict("this is one patient already")
            known = told.knowledge(read, tenant, [key.named() for key in pair])
            if (key_of(other) in _links(read, tenant, key_of(one))) is linked:
                raise Conflict(f"they are {'linked already' if linked else 'not linked'}")
            body: dict[str, object] = {"of": [key_of(each).named() for each in (one, other)], "linked": linked}
            summary = f"patient {key_of(one)} is {'' if linked else 'not '}the same person as {key_of(other)}"
            return Plan(
                Operation("", "link", 0, summary, known.state), (Deed("link", body, (FACTS, "")),), known.newest
            )

        return await self._operations.carry_out(principal, asked, plan)

    async def set_state(
        self, principal: Principal, key: PatientKey, state: str, asked: Asked = NOTHING_ASKED
    ) -> Operation:
        """'verified': somebody made sure who this is; 'provisional': nobody has; 'foreign': it is another house's patient. Raises
        BadInput, NotFound, Conflict."""
        require(principal, Action.PATIENTS)
        if state not in SETTABLE:
            raise BadInput(f"the state of a patient is set to one of {', '.join(SETTABLE)}")
        tenant = principal.tenant.id

        def plan(read: Reader) -> Plan:
            person = held_patient(read, tenant, key)
            if STATES.get(person.state) == "merged":
                raise Conflict("this patient has been merged into another; say it of that one, or undo the merge")
            named = key_of(person).named()
            known = told.knowledge(read, tenant, [named])
            summary = f"patient {key_of(person)} is {state}"
            deed = Deed("patient", {"of": [named], "state": state}, (FACTS, ""))
            return Plan(Operation("", "patient", 0, summary, known.state), (deed,), known.newest)

        return await self._operations.carry_out(principal, asked, plan)


# ---------------------------------------------------------------- looking


def _patient(read: Reader, tenant: int, key: PatientKey) -> Patient:
    person = held_patient(read, tenant, key)
    mine = key_of(person)
    into, merged = _merges(read, tenant, mine)
    claimed = sorted(persons.claimed(read, person.id))
    return Patient(
        person,
        STATES.get(person.state, ""),
        tuple(persons.studies(read, tenant, person.id, STUDIES)),
        tuple(_links(read, tenant, mine)),
        tuple(merged),
        into,
        tuple(PatientKey(*one) for one in claimed),
    )


def _active(read: Reader, tenant: int, key: PatientKey) -> Sequence[told.Word]:
    """What counts of what was said about a patient, and of what points at it, oldest first."""
    if key.value:
        words = told.words_about_patient(read, tenant, key.value, key.issuer, PAGE)
    else:
        words = told.words_about(read, tenant, [key.study], PAGE)
    undone: dict[bytes, bool] = {}
    for word in words:
        if word.op not in undone:
            one = told.operation(read, tenant, word.op)
            undone[word.op] = one.undone if one else False
    return [word for word in words if not undone[word.op]]


def _key(named: Sequence[str]) -> PatientKey:
    kind, *names = named
    return PatientKey(*names) if kind == "patient" else PatientKey("", "", names[0])


def _latest(words: Sequence[told.Word], slot: Callable[[str], bool]) -> dict[tuple[tuple[str, ...], str], told.Word]:
    """The word that holds of each subject and slot."""
    return {(word.subject, word.slot): word for word in words if slot(word.slot)}


def _merges(read: Reader, tenant: int, key: PatientKey) -> tuple[PatientKey | None, list[PatientKey]]:
    """What this one is shown under, and which are shown under it."""
    mine, into, merged = tuple(key.named()), None, list[PatientKey]()
    for (subject, _), word in _latest(_active(read, tenant, key), lambda slot: slot == "into").items():
        if subject == mine:
            into = _key(word.target)
        elif word.target == mine and _still(read, tenant, _key(subject), key):
            merged.append(_key(subject))
    return into, merged


def _still(read: Reader, tenant: int, source: PatientKey, target: PatientKey) -> bool:
    """A later word may have sent the source elsewhere."""
    found = _latest(_active(read, tenant, source), lambda slot: slot == "into").get((tuple(source.named()), "into"))
    return found is not None and found.target == tuple(target.named())


def _links(read: Reader, tenant: int, key: PatientKey) -> list[PatientKey]:
    """All identifiers of the same person, linked directly or through others."""
    seen, waiting = [key], [key]
    while waiting and len(seen) <= LINKED:
        here = waiting.pop(0)
        mine = tuple(here.named())
        words = _latest(_active(read, tenant, here), lambda slot: slot.startswith("link"))
        for (subject, _), word in words.items():
            if not json.loads(word.value or "false"):
                continue
            other = _key(word.target) if subject == mine and word.target else _key(subject)
            if other not in seen:
                seen.append(other)
                waiting.append(other)
    return seen[1:]


def traits(read: Reader, tenant: int, person: Person) -> Traits:
    ids = frozenset({(person.value, person.issuer)}) if person.value else frozenset[tuple[str, str]]()
    origins = persons.origins(read, tenant, person.id)
    return Traits(
        ids, frozenset(persons.claimed(read, person.id)), person.name, person.birth_date, person.sex, frozenset(origins)
    )


def proposed(read: Reader, tenant: int, key: PatientKey) -> list[Candidate]:
    """Who might be the same person as this one, most likely first; those merged into others are left out."""
    person = held_patient(read, tenant, key)
    mine = traits(read, tenant, person)
    found: list[tuple[Likeness, Person]] = []
    for other in persons.near(read, tenant, person):
        if STATES.get(other.state) == "merged":
            continue
        like = likeness(mine, traits(read, tenant, other))
        if like.score >= SHOWN_FROM:
            found.append((like, other))
    found.sort(key=lambda pair: (-pair[0].score, pair[1].id))
    return [Candidate(other, like.score, like.reasons) for like, other in found[:CANDIDATES]]
