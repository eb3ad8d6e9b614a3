"""The computed answers on series and study rows: counts, sizes, modalities, SOP classes.

Owns: their arithmetic. Must never: count instances. The caller holds the study's row lock (on SQLite the write
transaction is that lock) and says what each identity contributed before and after; only the rows of touched studies'
series are read. Roots of non-patient objects are not counted, so no view lists them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from radiolith.index.session import Writer


@dataclass(slots=True)
class SeriesCount:
    """What changes in one series."""

    study_id: int
    instances: int = 0
    rejected: int = 0
    size: int = 0
    classes: Counter[int] = field(default_factory=Counter[int])


def parse_classes(text: str) -> Counter[int]:
    """'12:5,14:1' -> {12: 5, 14: 1}: code of the SOP class, number of visible instances."""
    pairs = (part.split(":") for part in text.split(",") if part)
    return Counter({int(code): int(count) for code, count in pairs})


def format_classes(classes: Counter[int]) -> str:
    return ",".join(f"{code}:{count}" for code, count in sorted(classes.items()) if count > 0)


class Tally:
    """Contributions of identities, gathered during a transaction and applied once."""

    def __init__(self) -> None:
        self._series: dict[int, SeriesCount] = {}
        self._changed_at: dict[int, int] = {}
        self._refresh: set[int] = set()

    def touch(self, study_id: int, at: int) -> None:
        """Something happened to the study at `at`, whether or not a count changes."""
        self._changed_at[study_id] = max(at, self._changed_at.get(study_id, 0))

    def refresh(self, study_id: int) -> None:
        """Modality of a series or the study's date changed: work the study's sets out again."""
        self._refresh.add(study_id)

    def add(self, series_id: int, study_id: int, row: tuple[int, int, int], sign: int) -> None:
        """`row`: (reason, size, class) of the current version of an identity; sign +1 appears, -1 goes."""
        reason, size, sop_class = row
        count = self._series.setdefault(series_id, SeriesCount(study_id))
        if reason:
            count.rejected += sign
        else:
            count.instances += sign
            count.size += sign * size
            count.classes[sop_class] += sign

    def apply(self, tx: Writer) -> None:
        """Write all touched series and studies, in the order of their numbers."""
        totals: dict[int, SeriesCount] = {study_id: SeriesCount(study_id) for study_id in self._changed_at}
        for series_id, count in sorted(self._series.items()):
            if self._apply_series(tx, series_id, count):
                self._refresh.add(count.study_id)
            total = totals.setdefault(count.study_id, SeriesCount(count.study_id))
            total.instances += count.instances
            total.rejected += count.rejected
            total.size += count.size
        for study_id, total in sorted(totals.items()):
            self._apply_study(tx, study_id, total)

    def _apply_series(self, tx: Writer, series_id: int, count: SeriesCount) -> bool:
        """Whether the study's sets may have changed."""
        if not (count.instances or count.rejected or count.size or any(count.classes.values())):
            return False
        row = tx.one("SELECT classes, instances FROM series WHERE id = ?", (series_id,))
        if row is None:
            return False
        before = parse_classes(row[0])
        classes = before.copy()
        classes.update(count.classes)
        text = format_classes(classes)
        tx.run(
            "UPDATE series SET classes = ?, instances = instances + ?, rejected = rejected + ?, size = size + ? WHERE id = ?",
            (text, count.instances, count.rejected, count.size, series_id),
        )
        appeared = (row[1] > 0) != (row[1] + count.instances > 0)
        return appeared or parse_classes(text).keys() != before.keys()

    def _apply_study(self, tx: Writer, study_id: int, total: SeriesCount) -> None:
        at = self._changed_at.get(study_id, 0)
        tx.run(
            "UPDATE studies SET instances = instances + ?, rejected = rejected + ?, size = size + ?,"
            " changed_at = CASE WHEN changed_at < ? THEN ? ELSE changed_at END WHERE id = ?",
            (total.instances, total.rejected, total.size, at, at, study_id),
        )
        if study_id in self._refresh:
            refresh_study(tx, study_id)


def refresh_study(tx: Writer, study_id: int) -> None:
    """Work out ModalitiesInStudy, SOPClassesInStudy and the number of series from the study's own series."""
    study = tx.one("SELECT tenant_id, study_date, modalities FROM studies WHERE id = ?", (study_id,))
    if study is None:
        return
    tenant_id, date, before = study
    rows = tx.all("SELECT modality, classes FROM series WHERE study_id = ? AND instances > 0", (study_id,))
    modalities = {row[0] for row in rows if row[0]}
    classes = sorted({code for row in rows for code in parse_classes(row[1])})
    tx.run(
        "UPDATE studies SET modalities = ?, classes = ?, series = ? WHERE id = ?",
        ("\\".join(sorted(modalities)), ",".join(map(str, classes)), len(rows), study_id),
    )
    listed = set(before.split("\\")) - {""}
    unlist_modalities(tx, (tenant_id, date, study_id), listed - modalities)
    tx.run_many(
        "INSERT INTO study_modalities(tenant_id, modality, study_date, study_id) VALUES (?, ?, ?, ?)",
        [(tenant_id, modality, date, study_id) for modality in sorted(modalities - listed)],
    )


def unlist_modalities(tx: Writer, study: tuple[int, int, int], modalities: Iterable[str]) -> None:
    """Take a study, given as (tenant, date, row), out of the list by modality."""
    tenant_id, date, study_id = study
    tx.run_many(
        "DELETE FROM study_modalities WHERE tenant_id = ? AND modality = ? AND study_date = ? AND study_id = ?",
        [(tenant_id, modality, date, study_id) for modality in modalities],
    )
