"""The verb `label`: words and key=value pairs on patients, studies and series.

Owns: what a label may look like, and that it is put on what is held. Must never: change a header: labels are the archive's, not
the object's (docs/decisions/100). A label has one value for each subject: saying another one replaces it, and undo shows again
what was said before. Limits: `labels.LABEL_MAX` characters, SUBJECTS_MAX subjects of one call.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from radiolith.archive.operations import NOTHING_ASKED, Asked, Deed, Operation, Operations, Plan, slices
from radiolith.archive.subjects import Subject, checked
from radiolith.index import labels
from radiolith.index.labels import LABEL_MAX
from radiolith.index.session import Reader
from radiolith.model import BadInput, Level, LimitExceeded, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import FACTS, STUDY

SUBJECTS_MAX = 10_000  # of one call: what a search page and a few more select; 150 bytes each
LISTED_MAX = 1_000  # labels of one answer
_WORDS = {Level.PATIENT: "patient", Level.STUDY: "study", Level.SERIES: "series"}


@dataclass(frozen=True, slots=True)
class Label:
    """`name` is kept in small letters; '' is the value of a mere word."""

    name: str
    value: str = ""

    def __str__(self) -> str:
        return labels.written(self.name, self.value)


@dataclass(frozen=True, slots=True)
class Used:
    """A label and how many patients, studies and series carry it."""

    label: Label
    count: int


def label(text: str) -> Label:
    """'urgent' or 'ward=3'. Raises BadInput."""
    name, mark, value = unicodedata.normalize("NFC", text).partition("=")
    made = Label(labels.name_of(name), value.strip())
    if not made.name or (mark and not made.value):
        raise BadInput("a label is a word, or a name, '=' and a value")
    if len(str(made)) > LABEL_MAX:
        raise BadInput(f"a label has up to {LABEL_MAX} characters")
    if not str(made).isprintable() or set('\\*?"') & set(str(made)):
        raise BadInput("a label has no backslash, asterisk, question mark or quotation mark, and no control characters")
    return made


class Labels:
    def __init__(self, operations: Operations):
        self._operations = operations

    async def put(
        self, principal: Principal, subjects: Sequence[Subject], text: str, asked: Asked = NOTHING_ASKED
    ) -> Operation:
        """Put a label on each of the subjects. Raises BadInput, LimitExceeded, NotFound for what is not held."""
        require(principal, Action.LABEL)
        return await self._say(principal, subjects, label(text), asked, gone=False)

    async def take(
        self, principal: Principal, subjects: Sequence[Subject], text: str, asked: Asked = NOTHING_ASKED
    ) -> Operation:
        """Take a label away, by its name; with a value, only where it has that one. Raises NotFound where none of them has it."""
        require(principal, Action.LABEL)
        return await self._say(principal, subjects, label(text), asked, gone=True)

    async def undo(
        self, principal: Principal, op: str, asked: Asked = NOTHING_ASKED, *, again: bool = False
    ) -> Operation:
        """Make that what one call said counts no more, or counts again. Raises NotFound, also for what was about no labels,
        and Conflict."""
        require(principal, Action.LABEL)
        if not await self._operations.deciding.look(lambda read: labels.is_of_labels(read, principal.tenant.id, op)):
            raise NotFound(f"{op} has put or taken no label")
        return await self._operations.undo(principal, op, asked, again=again)

    async def of(self, principal: Principal, subject: Subject) -> list[Label]:
        """Raises NotFound for what is not held."""
        require(principal, Action.QUERY)

        def look(read: Reader) -> Mapping[str, str]:
            return labels.of_row(read, *_owner(read, principal.tenant.id, _checked(subject)))

        found = await self._operations.deciding.look(look)
        await self._operations.deciding.note(principal, subject.study, "labels", len(found))
        return [Label(name, value) for name, value in sorted(found.items())]

    async def used(self, principal: Principal, limit: int = 100, after: Label | None = None) -> list[Used]:
        """Labels in use, by name and value; `after`: the one that the page before ended with."""
        require(principal, Action.QUERY)
        behind = (after.name, after.value) if after else ("", "")
        size = min(max(limit, 1), LISTED_MAX)
        found = await self._operations.deciding.look(lambda read: labels.used(read, principal.tenant.id, size, behind))
        await self._operations.deciding.note(principal, "", "labels", len(found))
        return [Used(Label(name, value), count) for name, value, count in found]

    # ------------------------------------------------------------ inside

    async def _say(
        self, principal: Principal, subjects: Sequence[Subject], what: Label, asked: Asked, *, gone: bool
    ) -> Operation:
        if not subjects:
            raise BadInput("name at least one patient, study or series")
        if len(subjects) > SUBJECTS_MAX:
            raise LimitExceeded(f"{len(subjects)} subjects, at most {SUBJECTS_MAX} are labelled at once")
        chosen = list(dict.fromkeys(_checked(one) for one in subjects))

        def plan(read: Reader) -> Plan:
            tenant, concerned = principal.tenant.id, list[Subject]()
            for one in chosen:
                there = labels.of_row(read, *_owner(read, tenant, one))
                if not gone or (what.name in there and what.value in ("", there[what.name])):
                    concerned.append(one)
            if not concerned:
                raise NotFound(f"none of them has the label {what}")
            newest = labels.newest(read, tenant, [labels.subject(one.named()) for one in concerned], what.name)
            studies = tuple(dict.fromkeys(one.study for one in concerned if one.study))
            summary = f"{'takes' if gone else 'puts'} the label {what} {'off' if gone else 'on'} {_counted(concerned)}"
            done = Operation("", "label", 0, summary, f"{newest:x}", studies[:20])
            said: dict[str, object] = {"name": what.name, "value": "" if gone else what.value, "gone": gone}
            return Plan(done, tuple(_deeds(concerned, said)), newest, studies[0] if len(studies) == 1 else "")

        return await self._operations.carry_out(principal, asked, plan)


def _checked(subject: Subject) -> Subject:
    if subject.level not in _WORDS:
        raise BadInput("patients, studies and series have labels, instances have none")
    return checked(subject)


def _owner(read: Reader, tenant: int, subject: Subject) -> tuple[Level, int]:
    row = labels.row_of(read, tenant, labels.subject(subject.named()))
    if row is None:
        raise NotFound(f"no such {_WORDS[subject.level]} is held")
    return subject.level, row


def _deeds(subjects: Sequence[Subject], said: dict[str, object]) -> list[Deed]:
    """A fact for each study, under its key, so that erasing the study erases what was said of it; one for the patients."""
    by_study: dict[str, list[list[str]]] = {}
    for one in subjects:
        by_study.setdefault("" if one.level is Level.PATIENT else one.study, []).append(one.named())
    return [
        Deed("label", {**said, "of": items}, (STUDY, study) if study else (FACTS, ""), len(items))
        for study, named in sorted(by_study.items())
        for items in slices(named)
    ]


def _counted(subjects: Sequence[Subject]) -> str:
    if len(subjects) == 1:
        return f"a {_WORDS[subjects[0].level]}"
    return (
        f"{len(subjects)} patients, studies or series"
        if len({one.level for one in subjects}) > 1
        else (
            f"{len(subjects)} {({'study': 'studies', 'series': 'series', 'patient': 'patients'})[_WORDS[subjects[0].level]]}"
        )
    )
