"""Makes the home that is kept for every format of homes, so that later versions prove they still read it.

`python -m tests.archive.fixture_home` writes `home-format-N.tar.gz` and what is in it; run once for each new format, never
again for an old one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tarfile
import tempfile
from pathlib import Path

from radiolith.index import schema
from tests.archive.homes import opened, principal, store
from tests.archive.objects import Made

HERE = Path(__file__).parent
ARCHIVE = HERE / f"home-format-{schema.VERSION}.tar.gz"
LISTED = HERE / f"home-format-{schema.VERSION}.json"


async def make(home: Path) -> dict[str, str]:
    """A few instances, a version, a rejection, something in quarantine; SOP Instance UID -> SHA-256 of the file."""
    kept: dict[str, str] = {}
    async with opened(home) as graph:
        who = principal(graph)
        for number in range(6):
            study = f"1.2.{number % 2}"
            data = Made(study, f"{study}.1", f"1.2.3.{number}", number=number).part10()
            await store(graph, data)
            kept[f"1.2.3.{number}"] = hashlib.sha256(data).hexdigest()
        await store(graph, Made("1.2.0", "1.2.0.1", "1.2.3.0", name="Other^Content").part10())
        await graph.archive.remove.reject(who, "1.2.1", "1.2.1.1", "1.2.3.1", reason="113001")
        await store(graph, b"not DICOM at all")
        await graph.accounts.add_user(who, "anna", "reader", "a long password")
    return kept


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        kept = asyncio.run(make(home))
        with tarfile.open(ARCHIVE, "w:gz") as archive:
            archive.add(home, "home")
    LISTED.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
