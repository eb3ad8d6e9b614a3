"""`radiolith init`: a new, empty archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radiolith import config
from radiolith.cli import console, options


def init(
    home: options.Home,
    join: Annotated[
        Path | None,
        typer.Option(
            "--join",
            metavar="RECOVERY_FILE",
            exists=True,
            dir_okay=False,
            help="Another node of an archive on PostgreSQL and S3: the recovery file of the first one.",
        ),
    ] = None,
) -> None:
    """Make a home: settings, keys, an empty index and a tier."""
    from radiolith.home import initialise

    made = initialise(home, join=join)
    if join is not None:
        console.say(f"{made.home} is a node of the archive now. Start it:")
        console.say()
        console.say(f"  radiolith serve  --home {made.home}")
        return
    console.say(f"An empty archive is in {made.home}")
    console.say()
    console.say(f"  settings       {made.home / config.FILE}")
    console.say(f"  root key       {made.root_key_path}")
    console.say(f"  recovery file  {made.recovery_path}")
    console.say()
    console.say("Without root key or recovery file nobody can read the images again. Copy the recovery file to a safe")
    console.say("place that is not this machine, then say so (status stays amber until you do):")
    console.say()
    console.say(f"  radiolith status --home {made.home} --confirm-recovery-saved")
    console.say(f"  radiolith user   --home {made.home} add NAME --role admin")
    console.say(f"  radiolith serve  --home {made.home}")
