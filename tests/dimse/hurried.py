"""`radiolith` with some of its deadlines shortened, as a process of its own: what a test cannot wait for.

    RADIOLITH_TEST_DEADLINES='{"jobs.outbox:LEASE": 3000000}' python -m tests.dimse.hurried serve …

Only numbers that say how long something waits are changed, before anything is forked; nothing else of the program.
"""

from __future__ import annotations

import importlib
import json
import os

VARIABLE = "RADIOLITH_TEST_DEADLINES"


def main() -> None:
    for place, value in json.loads(os.environ.pop(VARIABLE, "{}")).items():
        module, _, name = place.partition(":")
        found = importlib.import_module(f"radiolith.{module}")
        assert type(getattr(found, name)) is type(value), place
        setattr(found, name, value)
    from radiolith.cli.main import main as radiolith

    radiolith()


if __name__ == "__main__":
    main()
