"""`radiolith init`: a new, empty archive."""

from __future__ import annotations

from radiolith import config
from radiolith.cli import console, options


def init(home: options.Home) -> None:
    """Make a home: settings, keys, an empty index and a tier."""
    from radiolith import app

    made = app.initialise(home)
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
