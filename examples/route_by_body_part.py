"""Send every complete study with a chest examination to a DICOM node: routing by what is in the headers.

RADIOLITH_ADDRESS=http://127.0.0.1:8050 RADIOLITH_TOKEN=… python route_by_body_part.py LUNGS
"""

import os
import sys

from radiolith.client import Client

PEER = sys.argv[1]  # a node as `radiolith peer list` names it; the token's role is archivist or admin
archive = Client(os.environ["RADIOLITH_ADDRESS"], os.environ["RADIOLITH_TOKEN"])


def body_parts(study: str) -> set[str]:
    found = (header.get("00180015", {}).get("Value", [""])[0] for header in archive.metadata(study))
    return {part.upper() for part in found}


for event in archive.changes(kinds=["study.complete"], remember="route_by_body_part.cursor"):
    if event.study and body_parts(event.study) & {"CHEST", "LUNG", "THORAX"}:
        archive.send(PEER, event.study)
        print(f"{event.study} goes to {PEER}", flush=True)
