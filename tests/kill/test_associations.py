"""SIGKILL while eight associations store: nothing acknowledged by C-STORE may be lost or altered."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import campaign
from tests.kill.running import Client, run, wait
from tests.kill.test_serve import Campaign
from tests.ports import free_port

KILLS = campaign.count("kills of serve under eight associations", 20, 1_000)
TARGETS = ("worker", "worker", "group", "worker", "worker", "parent", "worker", "jobs", "worker", "group")


class Associations(Client):
    """tests/kill/associations.py as a process, and its list."""

    large = 0.02
    address = ""

    def command(self) -> tuple[str, ...]:
        return sys.executable, "-m", "tests.kill.associations", self.address


def dicom_campaign(folder: Path) -> Campaign:
    made = Campaign(folder)
    port = free_port()
    made.server.environ["RADIOLITH_DIMSE_PORT"] = str(port)
    made.client = Associations(made.server, 8, folder / "list")
    made.client.address = f"127.0.0.1:{port}"
    return made


@pytest.mark.timeout(0)  # every wait inside has its own end
def test_nothing_acknowledged_by_c_store_is_lost_by_a_kill(tmp_path: Path) -> None:
    made = dicom_campaign(tmp_path)
    made.server.start()
    try:
        while made.kills < KILLS:
            made.round(TARGETS[made.kills % len(TARGETS)])
        assert made.server.stop() == 0
    finally:
        made.client.stop()
        made.server.kill_group()
    acknowledged, sent = len(made.client.acknowledged()), len(made.client.sent())
    print(f"{made.kills} kills, {made.between} between two steps of a batch; {acknowledged} of {sent} acknowledged")
    assert not made.client.refusals(), "a killed neighbour is no fault of the sender"
    checked = run("check", "--home", str(made.server.home), "--read-data")
    assert "Everything is there" in checked.stdout + checked.stderr


def test_a_stop_lets_associations_end(tmp_path: Path) -> None:
    """SIGTERM to one worker after the other, and at last to the parent, while eight associations store: exit code 0, all
    that was acknowledged is there, and no association is refused while a worker is left."""
    made = dicom_campaign(tmp_path)
    made.server.start()
    try:
        made.client.start()
        for _ in range(2):
            for name in ("worker 0", "worker 1"):
                before = len(made.client.acknowledged())
                wait(lambda before=before: len(made.client.acknowledged()) > before + 20, "the load")
                row = made.steps.rows()[name]
                subprocess.run(("kill", f"-{signal.SIGTERM.value}", str(row.pid)), check=True)
                made.wait_replaced(row)
        wait(lambda: len(made.client.acknowledged()) > 100, "the load to go on")
        assert not [what for what, _ in made.client.events() if what == "b"], "associations broke"
        assert made.server.stop() == 0
        made.client.stop()
        made.server.start()
        assert made.client.compare() >= len(made.client.acknowledged())
        assert made.server.stop() == 0
    finally:
        made.client.stop()
        made.server.kill_group()
    assert not made.client.refusals()
    assert "did not stop and is killed" not in made.server.tail()
