"""How many bytes an instance takes, all tables and indices together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from radiolith.index import audit, instances
from radiolith.index.database import Database
from radiolith.model import (
    AuditEvent,
    Blob,
    Description,
    Identity,
    Incoming,
    Layout,
    Pixels,
    Place,
    Scope,
    Source,
)
from tests.index.conftest import TENANT

STUDIES, PER_STUDY = 400, 10
BYTES_MAX = 600  # per instance


def test_an_instance_takes_few_bytes(fresh: Callable[[str], Database]) -> None:
    """Tiny instances, ten a study in two series, UIDs of 64 characters, a patient a study, one audit record a batch."""
    database = fresh("sqlite")
    for number in range(STUDIES):
        batch = [one(number, place) for place in range(PER_STUDY)]
        with database.write() as tx:
            instances.insert(tx, batch)
            event = AuditEvent(
                batch[0].received_at, TENANT.id, "token:loader", "store", batch[0].identity.study, count=PER_STUDY
            )
            audit.insert(tx, [event])
            instances.note_segments(tx, {batch[0].blob.place.segment: number})
    assert database.checkpoint().done
    path = Path(database.path)  # type: ignore[attr-defined]
    with fresh("sqlite").read() as read:
        empty = read.one("PRAGMA page_count")
    assert empty is not None
    taken = (os.stat(path).st_size - empty[0] * 4096) / (STUDIES * PER_STUDY)
    print(f"{taken:.0f} bytes per instance")
    assert taken < BYTES_MAX


def one(study: int, place: int) -> Incoming:
    def uid(*numbers: int) -> str:
        return f"1.2.826.0.1.3680043.8.498.{hash(numbers) % 10**18:018d}{hash((7, *numbers)) % 10**18:018d}77"[
            :64
        ].ljust(64, "5")

    identity = Identity(uid(study), uid(study, place // 5), uid(study, place // 5, place))
    described = Description(
        {"patient_name": f"Mustermann{study}^Erika", "patient_id": f"PID{study:07d}", "issuer": None, "birth_date": 19600101,
         "sex": "F", "issuer_key": ""},
        {"study_date": 20240101 + study % 28, "study_time": "101500", "accession": f"ACC{study:07d}", "study_code": str(study),
         "description": "CT Thorax", "referring": "Arzt^Anton"},
        {"number": place // 5 + 1, "modality": "CT", "description": "Thorax 1.0", "body_part": "CHEST"},
        {"number": place % 5 + 1, "row_count": 16, "column_count": 16, "bits": 16},
    )  # fmt: skip
    layout = Layout("1.2.840.10008.1.2.1", 396, 1500, 1500, 976, Pixels.NATIVE, 0x7FE00010, 988, 512, 1, 16, 16, 1, 16)
    blob = Blob(
        Place(b"S" * 16, study * 40_000 + place * 2000, 1900), os.urandom(16), TENANT.uid,
        Scope(identity.study.encode()[-16:], study), os.urandom(40), 1500,
    )  # fmt: skip
    at = 1_700_000_000_000_000 + study * 10_000 + place
    source = Source("dimse", "LOADER", "127.0.0.1")
    return Incoming(
        TENANT,
        identity,
        "1.2.840.10008.5.1.4.1.1.2",
        described,
        layout,
        blob,
        os.urandom(32),
        at,
        source,
        "token:loader",
    )
