"""Objects for the index, made from a seed: few values, so that they meet."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

from radiolith.index.session import Writer
from radiolith.model import Blob, Description, Identity, Incoming, Layout, Pixels, Place, Scope, Source
from tests.index.conftest import TENANT

NAMES = [
    "Müller^Jörg", "Mueller^Anna^Maria", "Muller^Jo", "Lefèvre^Jean-Pierre", "LEFEVRE^Jean Pierre^^Dr", "Meier^Hans",
    "Mayer^Hanna", "O'Brien^Pat", "von und zu Guttenberg^Karl^^Dr.", "Иванов^Иван", "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Smith^John", "Smith", "100%^A_B", "Straße^Gül", None,
]  # fmt: skip
IDENTIFIERS = ["P1", "P2", "p1", "P10", "A*B", "X%Y_Z", None]
ISSUERS = ["", "HOSP", "1.2.250.1.213.1.4.8"]
MODALITIES = ["CT", "MR", "US", "SR", None]
DESCRIPTIONS = ["CT Thorax", "CT Abdomen", "Knie links", "100% done", "under_score", "!bang", None]
TIMES = ["10", "1015", "101530", "101530.25", "235959.999999", "000000", None]
CLASSES = ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.88.11"]
DATES = [20240101, 20240102, 20240131, 20231231, 19990715, None]


def layout(random: Random) -> Layout:
    size = random.choice([1500, 90_000, 5_000_000_000])
    pixels = random.choice([Pixels.NONE, Pixels.NATIVE])
    if pixels is Pixels.NONE:
        return Layout("1.2.840.10008.1.2.1", 396, size, size, size)
    return Layout("1.2.840.10008.1.2.1", 396, size, size, 1000, pixels, 0x7FE00010, 1012, size - 1012, 1, 16, 16, 1, 16)


class Maker:
    """Makes objects in `studies` studies; study, series and SOP UIDs repeat, so versions and encodings appear."""

    def __init__(self, seed: int, studies: int = 8, now: int = 1_700_000_000_000_000):
        self.random = Random(seed)
        self.now = now
        self.studies = [f"1.2.{n}.{self.random.randrange(10**12)}" for n in range(studies)]

    def one(self, identity: Identity | None = None, **changes: object) -> Incoming:
        random = self.random
        self.now += random.randrange(1000)
        if identity is None:
            study = random.choice(self.studies)
            series = f"{study}.{random.randrange(3)}"
            identity = Identity(study, series, f"{series}.{random.randrange(40)}")
        described = Description(self._patient(), self._study(), self._series(), self._instance())
        shape = layout(random)
        place = Place(bytes([random.randrange(3)]) * 16, random.randrange(1 << 28), shape.original_size + 300)
        scope = Scope(identity.study.encode().ljust(16, b"s")[:16], 7)
        blob = Blob(place, random.randbytes(16), TENANT.uid, scope, random.randbytes(40), shape.original_size)
        incoming = Incoming(
            TENANT, identity, random.choice(CLASSES), described, shape, blob, random.randbytes(32), self.now,
            Source("dimse", random.choice(["AE1", "AE2"]), "10.0.0.1"), random.choice(["local", "nurse"]),
            random.choice(["first", "newest", "ask"]),
        )  # fmt: skip
        return replace(incoming, **changes)  # type: ignore[arg-type]

    def many(self, count: int) -> list[Incoming]:
        """Fresh ones, other versions, encodings of what is there, and the same bytes again under another object id."""
        made: list[Incoming] = []
        for _ in range(count):
            if made and self.random.random() < 0.25:
                other = self.random.choice(made)
                fresh = self.one(other.identity)
                match self.random.randrange(3):
                    case 0:
                        fresh = replace(
                            fresh, sha256=other.sha256, description=other.description, sop_class=other.sop_class
                        )
                    case 1 if other.encoding_of is None:
                        fresh = replace(fresh, encoding_of=other.blob.object_id)
                    case _:
                        pass
                made.append(fresh)
            else:
                made.append(self.one())
        return made

    def _patient(self) -> dict[str, str | int | None]:
        random = self.random
        issuer = random.choice(ISSUERS)
        claimed = [[random.choice(["C1", "C2"]), "OTHER", "", "MR"]] if random.random() < 0.2 else []
        return {
            "patient_name": random.choice(NAMES),
            "patient_id": random.choice(IDENTIFIERS),
            "issuer": issuer or None,
            "birth_date": random.choice([19600101, 19701231, None]),
            "sex": random.choice(["M", "F", "O", None]),
            "traits": json.dumps({"birth_name": "Kowalska"}) if random.random() < 0.2 else None,
            "issuer_key": issuer,
            "issuer_type": "ISO" if "." in issuer else "",
            "id_type": "",
            "claimed": json.dumps(claimed) if claimed else None,
        }

    def _study(self) -> dict[str, str | int | None]:
        random = self.random
        return {
            "study_date": random.choice(DATES),
            "study_time": random.choice(TIMES),
            "accession": random.choice(["A1", "A2", "A10", "a1", None]),
            "accession_issuer": random.choice(["RIS&1.2.3&ISO", "RIS&&", None]),
            "study_code": random.choice(["1", "2", None]),
            "description": random.choice(DESCRIPTIONS),
            "referring": random.choice([*NAMES[:4], None]),
            "timezone": random.choice(["+0100", None]),
        }

    def _series(self) -> dict[str, str | int | None]:
        random = self.random
        requests = [
            [random.choice(["SPS1", "SPS2"]), random.choice(["RP1", "RP2"]), "A1"] for _ in range(random.randrange(3))
        ]
        return {
            "number": random.choice([1, 2, None]),
            "modality": random.choice(MODALITIES),
            "description": random.choice(DESCRIPTIONS),
            "body_part": random.choice(["CHEST", "KNEE", None]),
            "laterality": random.choice(["L", "R", None]),
            "station": random.choice(["CT01", None]),
            "institution": random.choice(["Hôpital", None]),
            "step_date": random.choice(DATES),
            "step_time": random.choice(TIMES),
            "protocol": None,
            "manufacturer": random.choice(["ACME", None]),
            "requests": json.dumps(requests) if requests else None,
        }

    def _instance(self) -> dict[str, str | int | None]:
        random = self.random
        return {
            "number": random.choice([1, 2, 3, None]),
            "content_date": random.choice(DATES),
            "content_time": random.choice(TIMES),
            "row_count": random.choice([16, 512, None]),
            "column_count": 16,
            "bits": random.choice([8, 16]),
            "frames": random.choice([None, 3]),
        }


def in_batches(random: Random, incoming: list[Incoming]) -> list[list[Incoming]]:
    batches: list[list[Incoming]] = []
    at = 0
    while at < len(incoming):
        size = random.randrange(1, 12)
        batches.append(incoming[at : at + size])
        at += size
    return batches


def rows(tx: Writer, table: str) -> int:
    found = tx.one(f"SELECT COUNT(*) FROM {table}")
    return found[0] if found else 0
