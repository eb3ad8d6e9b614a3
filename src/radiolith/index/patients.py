"""Patients by name: their rows, made when a word names one that no object does yet, and who is said to be the same person.

Owns: the step between a patient's name and its row, and the groups of linked patients. Must never: say what a row shows
(`shown` does), or merge anybody.
"""

from __future__ import annotations

from enum import IntEnum

from radiolith.index import words
from radiolith.index.descriptions import NOBODY
from radiolith.index.session import Reader, Writer
from radiolith.index.words import LINK, Subject, newest, patient, patient_of


class State(IntEnum):
    """Of a patient. The value is in the database. MERGED follows from words; the others are said; `unsaid` when nothing is."""

    PROVISIONAL = 0
    VERIFIED = 1
    FOREIGN = 2
    MERGED = 3


FOREIGN_DOMAINS = ("medium:", "inbox:")
"""How the issuer begins of an identifier that came with a medium of another house, or through an inbox (decision 105)."""


def unsaid(issuer: str) -> State:
    """The state of a patient about whom nobody has said one."""
    return State.FOREIGN if issuer.startswith(FOREIGN_DOMAINS) else State.PROVISIONAL


def named(read: Reader, row_id: int) -> Subject:
    """How facts name the patient of a row."""
    row = read.one(
        "SELECT value, issuer FROM patient_identifiers WHERE patient_id = ? ORDER BY value, issuer", (row_id,)
    )
    if row is not None:
        return patient(row[0], row[1])
    anchor = read.one("SELECT anchor FROM patients WHERE id = ?", (row_id,))
    return patient_of(bytes(anchor[0]) if anchor and anchor[0] else b"")


class Patients:
    """Rows of patients in one transaction."""

    def __init__(self, tx: Writer, tenant_id: int):
        self.tx, self.tenant_id = tx, tenant_id

    def name(self, row_id: int) -> Subject:
        return named(self.tx, row_id)

    def row(self, who: Subject) -> tuple[int, bool]:
        """The row of a patient, made when there is none, and whether anything was said about it."""
        found = self._find(who)
        if found is None:
            self._make(who)
            found = self._find(who)
        if found is None:
            raise RuntimeError("a patient was neither found nor made")
        return found

    def _find(self, who: Subject) -> tuple[int, bool] | None:
        if who.study:
            row = self.tx.one(
                "SELECT id, words FROM patients WHERE anchor = ? AND tenant_id = ?", (who.study, self.tenant_id)
            )
        else:
            row = self.tx.one(
                "SELECT p.id, p.words FROM patient_identifiers i JOIN patients p ON p.id = i.patient_id"
                " WHERE i.tenant_id = ? AND i.value = ? AND i.issuer = ?",
                (self.tenant_id, who.patient, who.issuer),
            )
        return (row[0], bool(row[1])) if row else None

    def _make(self, who: Subject) -> None:
        row_id = self.tx.allocate("patients", 1)[0]
        if not who.study and not self.tx.run(
            "INSERT INTO patient_identifiers(tenant_id, value, issuer, issuer_type, type, patient_id)"
            " VALUES (?, ?, ?, '', '', ?) ON CONFLICT DO NOTHING",
            (self.tenant_id, who.patient, who.issuer, row_id),
        ):
            return
        self.tx.run(
            "INSERT INTO patients(id, tenant_id, anchor, first_key, state, patient_id, issuer) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (
                row_id,
                self.tenant_id,
                who.study or None,
                NOBODY,
                int(unsaid(who.issuer)),
                who.patient or None,
                who.issuer or None,
            ),
        )

    def said(self, whom: set[Subject]) -> list[int]:
        """Rows of patients about which something is said now, locked: arrivals that make a study of one wait, and see it."""
        rows = sorted(self.row(who)[0] for who in whom)
        for row_id in rows:
            self.tx.one(f"SELECT id FROM patients WHERE id = ?{self.tx.lock_rows}", (row_id,))  # noqa: S608
            self.tx.run("UPDATE patients SET words = 1 WHERE id = ? AND words IS NULL", (row_id,))
        return rows


def linked(read: Reader, tenant_id: int, who: Subject) -> list[Subject]:
    """All patients that people said are the same person, `who` included, in order; no header says so."""
    found, new = {who}, [who]
    while new:
        said = words.about(read, tenant_id, new.pop())
        for slot in sorted({one.slot for one in said if one.slot.startswith(LINK)}):
            last = newest(said, slot)
            if last is not None and last.value is True and last.target_patient not in found:
                found.add(last.target_patient)
                new.append(last.target_patient)
    return sorted(found)
