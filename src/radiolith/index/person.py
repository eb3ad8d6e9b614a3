"""Person names as they are looked for: folded, in every script, and by sound.

Owns: the table `names` and the keys in it. Must never: hold the name that is shown (rows of patients and studies do).
A name has up to three groups (alphabetic, ideographic, phonetic), each of up to five components; each group that is there
becomes one key, 'family^given^middle^prefix^suffix' folded and without trailing '^', so a prefix search in any script is
a range in one index. Sounds are one key a word of the family and given names.
"""

from __future__ import annotations

from enum import IntEnum

from radiolith.dicom import names
from radiolith.index.attributes import TEXT_MAX
from radiolith.index.session import Writer

NAMES_MAX = 16  # keys kept of one value: a name has 3, several values of Referring Physician a few more


class NameKind(IntEnum):
    """Whose name; the odd numbers are the phonetic keys. The value is in the database."""

    PATIENT = 0
    PATIENT_SOUND = 1
    REFERRING = 2
    REFERRING_SOUND = 3


def name_keys(raw: str | None) -> set[str]:
    """The folded key of each group of each value, clipped like every indexed text."""
    keys = {key for value in (raw or "").split("\\") for key in names.name_keys(value)}
    return {key[:TEXT_MAX] for key in sorted(keys)[:NAMES_MAX]}


def sound_keys(raw: str | None) -> set[str]:
    """The phonetic key of each word of the family and given names."""
    found = {sound for key in name_keys(raw) for part in key.split("^")[:2] for sound in names.phonetic(part).split()}
    return set(sorted(found)[:NAMES_MAX])


def write_names(tx: Writer, kind: NameKind, owner: tuple[int, int], before: str | None, after: object) -> None:
    """Replace the keys of an owner, given as (tenant, row)."""
    tenant_id, row_id = owner
    new = str(after) if after else None
    for each, keys in ((int(kind), name_keys), (int(kind) + 1, sound_keys)):
        old, now = keys(before), keys(new)
        tx.run_many(
            "DELETE FROM names WHERE tenant_id = ? AND kind = ? AND name = ? AND owner_id = ?",
            [(tenant_id, each, key, row_id) for key in sorted(old - now)],
        )
        tx.run_many(
            "INSERT INTO names(tenant_id, kind, name, owner_id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(tenant_id, each, key, row_id) for key in sorted(now - old)],
        )
