"""What the active words make of names: where things are shown, under which patient, as of now or of a moment.

Owns: reading words, each subject once, and following them. Must never: write, or lock. One for each transaction or question;
it does not see words that are said after it looked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from radiolith.index import words
from radiolith.index.identities import IN_CHUNK
from radiolith.index.placement import Path, follow
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid, unpack_uid
from radiolith.index.words import FOREVER, Level, Said, Subject, newest
from radiolith.model import UidMap

Place = tuple[bytes, bytes]  # study and series, packed


@dataclass(frozen=True, slots=True)
class Placing:
    """Where something is shown, and the words that put it there."""

    study: bytes
    series: bytes
    because: tuple[Said, ...] = ()

    @property
    def place(self) -> Place:
        return self.study, self.series


class View:
    def __init__(self, read: Reader, tenant_id: int, until: int = FOREVER):
        self.read, self.tenant_id, self.until = read, tenant_id, until
        self._about: dict[Subject, list[Said]] = {}
        self._series: dict[bytes, dict[bytes, list[Said]]] = {}
        self._instances: dict[Place, dict[bytes, Said]] = {}
        self._single: dict[bytes, bool] = {}
        self._looked: dict[tuple[bytes, bytes, bytes], Said | None] = {}
        self._maps: dict[bytes, UidMap] = {}

    def about(self, subject: Subject) -> list[Said]:
        """All words about a subject, oldest first."""
        found = self._about.get(subject)
        if found is None:
            found = self._about[subject] = words.about(self.read, self.tenant_id, subject, self.until)
        return found

    def active(self, subject: Subject) -> list[Said]:
        return [one for one in self.about(subject) if one.active]

    def series(self, study: bytes) -> dict[bytes, list[Said]]:
        """All words about series received under a study."""
        found = self._series.get(study)
        if found is None:
            found = self._series[study] = {}
            for one in words.below(self.read, self.tenant_id, Level.SERIES, study, self.until):
                found.setdefault(one.subject.series, []).append(one)
        return found

    def singles(self, study: bytes, series: bytes) -> dict[bytes, Said]:
        """SOP Instance UID -> the word that places this instance of a received series."""
        found = self._instances.get((study, series))
        if found is None:
            found = self._instances[study, series] = {}
            if self._any_single(study):
                for one in words.of_instances(self.read, self.tenant_id, study, series, self.until):
                    if one.active and one.slot == words.PLACE:
                        found[one.subject.sop] = one  # in order: the later one wins
        return found

    def _any_single(self, study: bytes) -> bool:
        if study not in self._single:
            self._single[study] = words.any_of_instances(self.read, self.tenant_id, study)
        return self._single[study]

    # ------------------------------------------------------------ places

    def root(self, study: bytes) -> Path[bytes]:
        """From a study to the one it is shown as."""
        return follow(study, self._into_study)

    def _into_study(self, study: bytes) -> tuple[bytes, Said] | None:
        said = newest(self.about(Subject(Level.STUDY, study)), words.PLACE)
        return (said.target, said) if said is not None else None

    def default(self, study: bytes, series: bytes) -> Placing:
        """Where a received series is shown, but for instances of it with words of their own."""
        said = newest(self.series(study).get(series, ()), words.PLACE)
        if said is not None:
            return self._told(said, series)
        path = self.root(study)
        return Placing(path.end, series, path.edges)

    def _told(self, said: Said, series: bytes) -> Placing:
        path = self.root(said.target)
        return Placing(path.end, pack_uid(said.value.get("series") or "") or series, (said, *path.edges))

    def place(self, study: bytes, series: bytes, sop: bytes) -> Placing:
        """Where an instance is shown that was received under these names."""
        if (study, series) in self._instances:
            said = self._instances[study, series].get(sop)
        else:
            if (study, series, sop) not in self._looked:
                self.look((study, series), [sop])
            said = self._looked[study, series, sop]
        return self._told(said, series) if said is not None else self.default(study, series)

    def look(self, place: Place, sops: Sequence[bytes]) -> None:
        """Read at once what was said about several instances received in a series."""
        self._looked |= {(*place, sop): None for sop in sops}
        if not self._any_single(place[0]):
            return
        for start in range(0, len(sops), IN_CHUNK):
            for one in words.of_some(self.read, self.tenant_id, place, sops[start : start + IN_CHUNK], self.until):
                if one.active and one.slot == words.PLACE:
                    self._looked[one.subject[1:4]] = one  # in order: the later one wins

    def because(self, study: bytes, series: bytes, shown: Place) -> tuple[Said, ...]:
        """The words that show instances of a received series in another one, or the series itself there."""
        default = self.default(study, series)
        if default.place == shown:
            return default.because
        found = [
            placed for one in self.singles(study, series).values() if (placed := self._told(one, series)).place == shown
        ]
        return tuple({said for placed in found for said in placed.because})

    # ------------------------------------------------------------ patients

    def patient(self, who: Subject) -> Path[Subject]:
        """From a patient to the one it is shown as."""
        return follow(who, self._into_patient)

    def _into_patient(self, who: Subject) -> tuple[Subject, Said] | None:
        said = newest(self.about(who), words.INTO)
        return (said.target_patient, said) if said is not None else None

    def told_patient(self, study: bytes) -> Said | None:
        """The word on whose study it is."""
        return newest(self.about(Subject(Level.STUDY, study)), words.PATIENT)

    # ------------------------------------------------------------ names that headers refer to

    def moved_from(self, study: bytes) -> UidMap:
        """All that was received under a study and is shown elsewhere now."""
        found = self._maps.get(study)
        if found is None:
            found = self._maps[study] = self._moved_from(study)
        return found

    def _moved_from(self, study: bytes) -> UidMap:
        root, name = self.root(study).end, unpack_uid(study)
        series: list[tuple[tuple[str, str], tuple[str, str]]] = []
        for uid in sorted(self.series(study)):
            shown = self.default(study, uid).place
            if shown != (root, uid):
                series.append(((name, unpack_uid(uid)), _names(shown)))
        return UidMap(
            ((name, unpack_uid(root)),) if root != study else (), tuple(series), tuple(self._moved_singles(study, name))
        )

    def _moved_singles(self, study: bytes, name: str) -> Iterator[tuple[tuple[str, str, str], tuple[str, str]]]:
        if not self._any_single(study):
            return
        placed: dict[Place, Said] = {}
        for one in words.below(self.read, self.tenant_id, Level.INSTANCE, study, self.until):
            if one.active and one.slot == words.PLACE:
                placed[one.subject.series, one.subject.sop] = one
        for (series, sop), said in sorted(placed.items()):
            shown = self._told(said, series).place
            if shown != self.default(study, series).place:
                yield (name, unpack_uid(series), unpack_uid(sop)), _names(shown)


def _names(place: Place) -> tuple[str, str]:
    return unpack_uid(place[0]), unpack_uid(place[1])


def united(maps: list[UidMap]) -> UidMap:
    """All of them as one, in order."""
    return UidMap(
        tuple(sorted({pair for one in maps for pair in one.studies})),
        tuple(sorted({pair for one in maps for pair in one.series})),
        tuple(sorted({pair for one in maps for pair in one.instances})),
    )
