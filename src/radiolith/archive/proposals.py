"""Cases of the conflict desk, and what is proposed for each, with the reasons.

Owns: kinds, keys and proposals. Must never: write or decide; whoever answers may answer otherwise. A case that was settled is not
open; one that was resolved is no case any more. Limits: CANDIDATES beside a case; those of `index.cases`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from radiolith.archive.likeness import EMERGENCY, LIKELY, likeness, unidentified
from radiolith.archive.patients import Candidate, key_of, proposed, traits
from radiolith.archive.subjects import PatientKey
from radiolith.index import cases, instances, knocks, persons, quarantine, told
from radiolith.index.persons import Person
from radiolith.index.quarantine import Quarantined
from radiolith.index.session import Reader
from radiolith.model import BadInput, Identity
from radiolith.trust.access import SET_ASIDE

FOREIGN, INBOX = "medium:", "inbox:"
"""How the domain of an identifier begins that came with a medium of another house, or through an inbox."""
KINDS = ("versions", "mixed", "foreign", "inbox", "emergency", "stranger", "unreadable")
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "versions": ("adopt", "keep", "reject"),
    "mixed": ("assign", "merge", "keep"),
    "foreign": ("assign", "link", "keep", "reject"),
    "inbox": ("assign", "link", "keep", "reject"),
    "emergency": ("assign", "keep", "reject"),
    "stranger": ("accept", "reject"),
    "unreadable": ("keep", "reject"),
}
"""Kind of case -> what can be answered. adopt: a version becomes the current one; assign: it is that patient's; merge: the
patients are one; link: one person with two identifiers; keep: it is right as it is; accept: the device becomes a peer; reject:
it does not belong here."""
CANDIDATES = 5
KEY_MAX = 2_000  # characters
STUDIES = 200  # of a patient who is a case
VERIFIED, FOREIGN_STATE = 1, 2


@dataclass(frozen=True, slots=True)
class Proposal:
    """`action`: one of the case's answers. `patient`, `version`: what for. `current`: the version that is shown now."""

    action: str
    words: str
    patient: PatientKey | None = None
    version: str = ""
    current: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """`names`: what is unclear, as the key names it. `people`: patients it is about, the one it is shown under first. `since`:
    microseconds."""

    key: str
    kind: str
    names: tuple[str, ...]
    summary: str
    since: int
    proposal: Proposal
    reasons: tuple[str, ...] = ()
    study: str = ""
    studies: tuple[str, ...] = ()
    people: tuple[PatientKey, ...] = ()
    candidates: tuple[Candidate, ...] = ()

    @property
    def state(self) -> str:
        """Changes when the case does."""
        return f"{self.since:x}-{self.proposal.current[:8]}-{len(self.people)}"

    @property
    def answers(self) -> tuple[str, ...]:
        return ANSWERS[self.kind]


def key(kind: str, *names: str) -> str:
    return ":".join((kind, *(quote(name, safe="") for name in names)))


def parse(text: str) -> tuple[str, list[str]]:
    """Kind and names. Raises BadInput."""
    kind, *names = text.split(":")
    if kind not in KINDS or not names or len(text) > KEY_MAX:
        raise BadInput("this is no key of a case; the desk lists them")
    return kind, [unquote(name) for name in names]


def listed(read: Reader, tenant: int, kind: str, limit: int, after: str = "") -> list[Case]:
    """Open cases of one kind; `after` is the key the page before ended with."""
    names = parse(after)[1] if after else []
    found: list[Case] = []
    for case in _WALKS[kind](read, tenant, names):
        if len(found) >= limit:
            break
        if not told.settled(read, tenant, case.key):
            found.append(case)
    return found


def one(read: Reader, tenant: int, text: str) -> Case | None:
    """The case with this key, None when it is not open."""
    kind, names = parse(text)
    if told.settled(read, tenant, text):
        return None
    try:
        return _ONES[kind](read, tenant, kind, names)
    except (IndexError, ValueError):
        raise BadInput("this is no key of a case; the desk lists them") from None


# ---------------------------------------------------------------- several contents under one UID


def _versions(read: Reader, tenant: int, after: Sequence[str]) -> Iterator[Case]:
    last = after[-1] if after else ""
    for several in cases.several(read, tenant, cases.LOOKED_AT, last):
        yield _version_case(read, tenant, several)


def _version_one(read: Reader, tenant: int, kind: str, names: Sequence[str]) -> Case | None:
    found = cases.several_of(read, tenant, Identity(names[0], names[1], names[2]))
    return _version_case(read, tenant, found) if found else None


def _version_case(read: Reader, tenant: int, several: cases.Several) -> Case:
    identity, sources = several.identity, several.sources
    held = [one for one in instances.versions(read, tenant, identity) if not one.encoding_of]
    current = next((one.blob.object_id.hex() for one in held if one.current), "")
    newest = held[-1].blob.object_id.hex() if held else ""
    again = sources[0].peer == sources[-1].peer and sources[0].door == sources[-1].door
    reasons = [f"{several.versions} contents under one SOP Instance UID"]
    if again:
        reasons.append("the same sender sent it again: corrections at a device look like this")
    else:
        was, came = sources[0], sources[-1]
        reasons.append(f"another sender than the first: {was.door} {was.peer}, then {came.door} {came.peer}")

    if again and newest != current:
        proposal = Proposal(
            "adopt", "show the newest, it replaces what the same sender sent before", None, newest, current
        )
    else:
        proposal = Proposal("keep", "go on showing the one that is shown", None, current, current)
    names = (identity.study, identity.series, identity.sop)
    return Case(
        key("versions", *names), "versions", names, "an instance with several contents", several.last_at, proposal,
        tuple(reasons), identity.study, (identity.study,),
    )  # fmt: skip


# ---------------------------------------------------------------- patients


def _mixed(read: Reader, tenant: int, after: Sequence[str]) -> Iterator[Case]:
    found = cases.mixed_of(read, tenant, after[0]) if after else None
    for one_ in cases.mixed(read, tenant, cases.LOOKED_AT, found.study_id if found else 0):
        yield _mixed_case(read, tenant, one_)


def _mixed_one(read: Reader, tenant: int, kind: str, names: Sequence[str]) -> Case | None:
    found = cases.mixed_of(read, tenant, names[0])
    return _mixed_case(read, tenant, found) if found else None


def _mixed_case(read: Reader, tenant: int, mixed: cases.Mixed) -> Case:
    shown = persons.of_study(read, tenant, mixed.study)
    people = sorted(mixed.people, key=lambda each: (shown is None or each.id != shown.id, each.id))
    like = likeness(traits(read, tenant, people[0]), traits(read, tenant, people[1]))
    first = key_of(people[0])
    if like.score >= LIKELY and first.value:
        proposal = Proposal("merge", f"they look like one person: merge into {first}", first)
    else:
        proposal = Proposal(
            "assign", f"look at the images; the study is shown under {first} now", first if first.value else None
        )
    reasons = (f"the headers name {len(people)} patients", *like.reasons)
    return Case(
        key("mixed", mixed.study), "mixed", (mixed.study,), "one study under several patients", mixed.at, proposal, reasons,
        mixed.study, (mixed.study,), tuple(key_of(each) for each in people),
    )  # fmt: skip


def _patients(kind: str) -> Callable[[Reader, int, Sequence[str]], Iterator[Case]]:
    def walk(read: Reader, tenant: int, after: Sequence[str]) -> Iterator[Case]:
        last = _person(read, tenant, after)
        row = last.id if last else 0
        if kind == "emergency":
            found = cases.nameless(read, tenant, EMERGENCY, cases.LOOKED_AT, row)
        else:
            found = cases.in_state(read, tenant, FOREIGN_STATE, cases.LOOKED_AT, row)
        for person in found:
            case = _patient_case(read, tenant, kind, person)
            if case is not None:
                yield case

    return walk


def _patient_one(read: Reader, tenant: int, kind: str, names: Sequence[str]) -> Case | None:
    person = _person(read, tenant, names)
    return _patient_case(read, tenant, kind, person) if person else None


def _person(read: Reader, tenant: int, names: Sequence[str]) -> Person | None:
    """['12345', 'medium:Rotkreuz'], or ['', '', study] of one without ID."""
    if len(names) == 2:
        return persons.by_identifier(read, tenant, names[0], names[1])
    return persons.by_anchor(read, tenant, names[2]) if len(names) == 3 else None


def _kind_of(person: Person) -> str:
    if person.state == FOREIGN_STATE:
        return "inbox" if person.issuer.startswith(INBOX) else "foreign"
    return "emergency" if person.state == 0 and unidentified(person.name, person.value) else ""


def _patient_case(read: Reader, tenant: int, kind: str, person: Person) -> Case | None:
    if _kind_of(person) != kind:
        return None
    studies = [one_ for one_ in persons.studies(read, tenant, person.id, STUDIES) if one_.instances]
    if not studies:  # merged, or all rejected: there is nothing to do
        return None
    mine = key_of(person)
    likely = [one_ for one_ in proposed(read, tenant, mine) if one_.key.value][:CANDIDATES]
    reasons = [unidentified(person.name, person.value)] if kind == "emergency" else [_came(person)]
    best = likely[0] if likely and likely[0].score >= LIKELY else None
    if best is not None:
        proposal = Proposal("assign", f"most likely patient {best.key}", best.key)
        reasons += best.reasons
    else:
        words = (
            "wait until it is known who this is"
            if kind == "emergency"
            else "keep it as foreign: nobody here looks alike"
        )
        proposal = Proposal("keep", words)
    names = (person.value, person.issuer) if person.value else ("", "", person.study)
    return Case(
        key(kind, *names), kind, names, _SUMMARIES[kind], cases.first_seen(read, person.id), proposal, tuple(reasons),
        studies[0].uid, tuple(one_.uid for one_ in studies), (mine,), tuple(likely),
    )  # fmt: skip


_SUMMARIES = {
    "foreign": "a patient of another house", "inbox": "an upload that nobody has assigned yet",
    "emergency": "a patient nobody has identified yet",
}  # fmt: skip


def _came(person: Person) -> str:
    domain, _, name = person.issuer.partition(":")
    where = {"medium": "with a medium", "inbox": "through the inbox"}.get(domain, "from outside")
    return f"came {where}{f' from {name}' if name else ''}"


# ---------------------------------------------------------------- devices and bytes


def _strangers(read: Reader, tenant: int, after: Sequence[str]) -> Iterator[Case]:
    found = sorted(
        {(known.caller.calling, known.caller.address): known for known in knocks.listed(read, tenant)}.items()
    )
    for (aet, address), known in found:
        if [aet, address] > list(after):
            yield _stranger_case(aet, address, known)


def _stranger_one(read: Reader, tenant: int, kind: str, names: Sequence[str]) -> Case | None:
    aet, address = names
    for known in knocks.listed(read, tenant):
        if (known.caller.calling, known.caller.address) == (aet, address):
            return _stranger_case(aet, address, known)
    return None


def _stranger_case(aet: str, address: str, known: knocks.Known) -> Case:
    called = f"called {known.count} times" if known.count > 1 else "called once"
    reasons = (called, f"{known.objects} of its objects are set aside" if known.objects else "nothing of it is held")
    proposal = Proposal("accept", f"if '{aet}' at {address} is yours, make it a peer; else reject it")
    names = (aet, address)
    return Case(key("stranger", *names), "stranger", names, "a device nobody knows", known.last_at, proposal, reasons)


def _unreadable(read: Reader, tenant: int, after: Sequence[str]) -> Iterator[Case]:
    last = after[0] if after else ""
    while page := quarantine.quarantined(read, tenant, PAGE, last):
        for row in page:
            if row.reason != SET_ASIDE and not row.released:
                yield _unreadable_case(row)
        last = page[-1].blob.object_id.hex()


PAGE = 500  # rows of the quarantine of one statement


def _unreadable_one(read: Reader, tenant: int, kind: str, names: Sequence[str]) -> Case | None:
    row = quarantine.quarantined_one(read, tenant, bytes.fromhex(names[0]))
    return _unreadable_case(row) if row and not row.released and row.reason != SET_ASIDE else None


def _unreadable_case(row: Quarantined) -> Case:
    name = row.blob.object_id.hex()
    source = f"{row.source.door} {row.source.peer} {row.source.address}".strip()
    proposal = Proposal("reject", "ask the sender for it again, then reject these bytes; they stay in the quarantine")
    return Case(
        key("unreadable", name), "unreadable", (name,), "bytes that could not be read", row.received_at, proposal,
        (row.reason, f"came from {source}"),
    )  # fmt: skip


_WALKS: Mapping[str, Callable[[Reader, int, Sequence[str]], Iterator[Case]]] = {
    "versions": _versions, "mixed": _mixed, "foreign": _patients("foreign"), "inbox": _patients("inbox"),
    "emergency": _patients("emergency"), "stranger": _strangers, "unreadable": _unreadable,
}  # fmt: skip
_ONES: Mapping[str, Callable[[Reader, int, str, Sequence[str]], Case | None]] = {
    "versions": _version_one, "mixed": _mixed_one, "foreign": _patient_one, "inbox": _patient_one,
    "emergency": _patient_one, "stranger": _stranger_one, "unreadable": _unreadable_one,
}  # fmt: skip
