"""The log: one form for all, on the standard error, without the values of variables."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from radiolith.cli import logs
early = structlog.get_logger()
logs.begin("info")
early.info("ours", number=1)
early.debug("too fine")
logging.getLogger("radiolith.dicomweb").info("ours too")
logging.getLogger("library").info("of no interest")
logging.getLogger("library").warning("of interest")
def work(secret):
    raise ValueError("it broke")
try:
    work("the-secret-key")
except ValueError:
    early.exception("failed")
"""


def test_one_form_and_no_secrets() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["ours", "ours too", "of interest", "failed"]
    assert all({"level", "timestamp"} <= set(line) for line in lines)
    assert "it broke" in lines[-1]["exception"]
    assert "the-secret-key" not in "".join(line for line in done.stderr.splitlines())
