"""What a decision is about, found in the index: the subject under the name it is shown by, its members, its patient.

Owns: these look-ups for the verbs that correct and resolve, and how facts name what they find. Must never: write, or decide.
Raises NotFound in words a person can act on. Limits: MOVED instances of one operation, STUDIES of one patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from radiolith.archive.operations import Deed, Operation, Plan, slices
from radiolith.archive.subjects import PatientKey, Subject, checked, home_of, of_instance, of_series, of_study
from radiolith.dicom.valid import check_value
from radiolith.index import instances, persons, told
from radiolith.index.person import name_keys
from radiolith.index.persons import Person
from radiolith.index.session import Reader
from radiolith.model import BadInput, Held, Level, LimitExceeded, NotFound
from radiolith.trust.keys import STUDY

MOVED = 50_000  # instances of one operation: a row each, 20 microseconds
STUDIES = 5_000  # of one patient: a row each
SHOWN = 20  # studies named in an answer


@dataclass(frozen=True, slots=True)
class Affected:
    """`subject` under its shown name; `operation`: how much that is."""

    subject: Subject
    operation: Operation


def affected(read: Reader, tenant: int, subject: Subject) -> Affected:
    """The subject under the name it is shown by, and how much that is."""
    if subject.level is Level.PATIENT and subject.patient is not None:
        person = held_patient(read, tenant, subject.patient)
        studies = persons.studies(read, tenant, person.id, STUDIES + 1)
        if len(studies) > STUDIES:
            raise LimitExceeded(f"one operation corrects a patient of up to {STUDIES} studies")
        return Affected(subject, about(studies, f"corrects patient {subject.patient}", "amend", ""))
    shown = shown_study(read, tenant, subject.study)
    if subject.level is Level.STUDY:
        done = Operation(
            "", "amend", 0, "corrects a study", "", (shown.uid,), shown.series, shown.instances + shown.rejected
        )
        return Affected(of_study(shown.uid), done)
    first = next(instances.locate(read, tenant, subject.study, subject.series, include_rejected=True), None)
    if first is None:
        raise NotFound("no such series is held in this study")
    here = of_series(first.identity.study, first.identity.series)
    size = persons.series_size(read, tenant, here.study, here.series)
    return Affected(here, Operation("", "amend", 0, "corrects a series", "", (here.study,), 1, size))


def about(studies: Sequence[persons.Shown], summary: str, kind: str, state: str) -> Operation:
    return Operation(
        "", kind, 0, summary, state, tuple(one.uid for one in studies[:SHOWN]), sum(one.series for one in studies),
        sum(one.instances + one.rejected for one in studies),
        warnings=(f"{len(studies)} studies, of which {SHOWN} are named",) if len(studies) > SHOWN else (),
    )  # fmt: skip


def sample(read: Reader, tenant: int, subject: Subject) -> Held | None:
    """An instance whose header shows what is there now."""
    study, series = subject.study, subject.series or None
    if subject.level is Level.PATIENT and subject.patient is not None:
        shown = persons.studies(read, tenant, held_patient(read, tenant, subject.patient).id, 1)
        study, series = (shown[0].uid if shown else ""), None
    return next(instances.locate(read, tenant, study, series, include_rejected=True), None) if study else None


def shown_study(read: Reader, tenant: int, uid: str) -> persons.Shown:
    """By any name it has or had."""
    checked(of_study(uid))
    first = next(instances.locate(read, tenant, uid, include_rejected=True), None)
    shown = persons.study(read, tenant, first.identity.study) if first else None
    if shown is None:
        raise NotFound("no such study is held")
    return shown


def members_of(read: Reader, tenant: int, study: str, series: str) -> list[Held]:
    """Every version of every instance that the series shows, rejected ones too."""
    checked(of_series(study, series))
    found = list(
        islice(instances.locate(read, tenant, study, series, current_only=False, include_rejected=True), MOVED + 1)
    )
    if not found:
        raise NotFound("no such series is held in this study")
    if len(found) > MOVED:
        raise LimitExceeded(f"one operation moves up to {MOVED} instances")
    return found


def received_in(read: Reader, tenant: int, members: Sequence[Held]) -> dict[str, list[list[str]]]:
    """How facts name the series that these were received in, by study; an instance about which somebody has said something of its
    own is named itself."""
    received: dict[tuple[str, str], set[str]] = {}
    for held in members:
        home = home_of(held)
        received.setdefault((home.study, home.series), set()).add(home.sop)
    named: dict[str, list[list[str]]] = {}
    for (study, series), sops in sorted(received.items()):
        alone = sops & told.placed_alone(read, tenant, study, series)
        if sops - alone:
            named.setdefault(study, []).append(["series", study, series])
        named.setdefault(study, []).extend(["instance", study, series, sop] for sop in sorted(alone))
    return named


def singly(members: Sequence[Held]) -> dict[str, list[list[str]]]:
    """How facts name these instances, by the study they were received in."""
    named: dict[str, list[list[str]]] = {}
    for home in sorted({home_of(held) for held in members}, key=lambda one: (one.study, one.series, one.sop)):
        named.setdefault(home.study, []).append(of_instance(home).named())
    return named


@dataclass(frozen=True, slots=True)
class Going:
    """Members of one shown series on their way: `named`: how facts name them, by the study they were received in."""

    members: Sequence[Held]
    named: Mapping[str, list[list[str]]]
    target: tuple[str, str]  # study and series


def moved(read: Reader, tenant: int, goings: Sequence[Going]) -> Plan:
    """The plan of a placement."""
    deeds = [
        Deed(
            "place",
            {"of": some, "to": {"study": going.target[0], "series": going.target[1]}},
            (STUDY, study),
            len(some),
        )
        for going in goings
        for study, subjects in sorted(going.named.items())
        for some in slices(subjects)
    ]
    moves = [((one.members[0].identity.study, one.members[0].identity.series), one.target) for one in goings]
    subjects = [one for going in goings for some in going.named.values() for one in some]
    sources, targets = sorted({old[0] for old, _ in moves}), sorted({new[0] for _, new in moves})
    known = told.knowledge(read, tenant, subjects + [of_study(one).named() for one in (*sources, *targets)])
    people = {person.id: person for uid in (*sources, *targets) if (person := persons.of_study(read, tenant, uid))}
    size = len({held.identity for going in goings for held in going.members})
    done = Operation(
        "", "place", 0, f"moves {size} instance{'s' if size != 1 else ''} of {len(moves)} series", known.state,
        tuple(dict.fromkeys((*sources, *targets)))[:SHOWN], len(moves), size,
        moves=tuple(
            f"series {old[1]} of study {old[0]} -> series {new[1]} of study {new[0]}" for old, new in moves
        )[:SHOWN],
        warnings=doubts(read, *list(people.values())[:2]) if len(people) > 1 else (),
    )  # fmt: skip
    return Plan(done, tuple(deeds), known.newest, sources[0])


# ---------------------------------------------------------------- patients


def held_patient(read: Reader, tenant: int, key: PatientKey) -> Person:
    """A patient that is held."""
    found = known_patient(read, tenant, key)
    if found is None:
        others = (
            [one for one in persons.with_id(read, tenant, key.value) if one.issuer != key.issuer] if key.value else []
        )
        known = (
            f"; this ID is known of {', '.join(repr(one.issuer or 'no issuer') for one in others[:5])}"
            if others
            else ""
        )
        raise NotFound(f"no such patient is held{known}")
    return found


def known_patient(read: Reader, tenant: int, key: PatientKey) -> Person | None:
    if key.value:
        return persons.by_identifier(read, tenant, key.value, key.issuer)
    return persons.by_anchor(read, tenant, key.study) or persons.of_study(read, tenant, key.study)


def target_patient(read: Reader, tenant: int, key: PatientKey, *, new: bool) -> Person | None:
    if not key.value:
        raise BadInput("name the patient by an ID: one without can only be merged into another")
    found = known_patient(read, tenant, key)
    if found is None and not new:
        try:
            held_patient(read, tenant, key)
        except NotFound as failure:
            raise NotFound(f"{failure}; say that it is a new one, if it is") from None
    if found is None:
        _new_identifier(key)
    return found


def _new_identifier(key: PatientKey) -> None:
    """Headers will show it: Patient ID (0010,0020) and Issuer of Patient ID (0010,0021). Raises BadInput."""
    for value, called in ((key.value, "PatientID"), (key.issuer, "IssuerOfPatientID")):
        check_value("LO", value, called)
        if value != value.strip(
            " "
        ):  # which mean nothing (PS3.5 6.2): an object with this ID would be another patient's
            raise BadInput(f"{called}: a value does not begin or end with spaces")


def key_of(person: Person | None) -> str:
    return str(PatientKey(person.value, person.issuer, person.study)) if person else "of nobody"


def doubts(read: Reader, one: Person | None, other: Person | None) -> tuple[str, ...]:
    """What speaks against the two being one person, without saying who they are."""
    if one is None or other is None:
        return ()
    differ = [
        word
        for word, mine, yours in (
            ("name", name_keys(one.name), name_keys(other.name)),
            ("birth date", {one.birth_date} - {None}, {other.birth_date} - {None}),
            ("sex", {one.sex} - {""}, {other.sex} - {""}),
        )
        if mine and yours and not mine & yours
    ]
    return (f"{' and '.join(differ)} of the two patients differ",) if differ else ()
