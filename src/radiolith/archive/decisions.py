"""The verbs that decide about what is held, put together: correct, look back, know patients, resolve.

Owns: which of them is built from which. Must never: decide.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.archive.amend import Amend
from radiolith.archive.description import Description
from radiolith.archive.desk import Desk, Verbs
from radiolith.archive.history import History
from radiolith.archive.labels import Labels
from radiolith.archive.operations import Operations
from radiolith.archive.patients import Patients
from radiolith.archive.peers import Peers
from radiolith.archive.ports import Archive


@dataclass(frozen=True, slots=True)
class Decisions:
    amend: Amend
    history: History
    patients: Patients
    desk: Desk
    labels: Labels


def decisions(operations: Operations, description: Description, archive: Archive, peers: Peers) -> Decisions:
    amend, patients = Amend(operations, description), Patients(operations)
    desk = Desk(Verbs(operations, amend, patients, archive.remove, archive.versions, peers))
    return Decisions(amend, History(operations.deciding, description), patients, desk, Labels(operations))
