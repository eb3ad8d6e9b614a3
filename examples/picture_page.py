"""Keep a page with a picture of each study, the latest first: a look at what came in.

RADIOLITH_ADDRESS=http://127.0.0.1:8050 RADIOLITH_TOKEN=… python picture_page.py FOLDER
"""

import html
import os
import sys
from pathlib import Path

from radiolith.client import ArchiveError, Client

archive = Client(os.environ["RADIOLITH_ADDRESS"], os.environ["RADIOLITH_TOKEN"])
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)

for event in archive.changes(kinds=["study.complete"], remember=folder / "cursor"):
    if event.study:
        try:
            (folder / f"{event.study}.jpg").write_bytes(archive.thumbnail(event.study, size=256))
        except ArchiveError as error:  # nothing in it has pixels
            print(f"no picture of {event.study}: {error}", flush=True)
        pictures = sorted(folder.glob("*.jpg"), key=lambda path: path.stat().st_mtime, reverse=True)
        shown = "".join(f'<figure><img src="{html.escape(one.name)}">{one.stem}</figure>' for one in pictures)
        (folder / "index.html").write_text(f"<!doctype html><title>Studies</title>{shown}", "utf-8")
