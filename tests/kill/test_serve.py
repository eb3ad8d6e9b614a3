"""SIGKILL of a serving archive, at steps chosen by the test; nothing acknowledged may be lost or altered."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests import campaign
from tests.kill.running import Client, Row, Server, StepFile, made_home, run, wait

KILLS = campaign.count("kills of serve", 16, 800)
TARGETS = ("group", "worker", "parent", "jobs")


class Campaign:
    def __init__(self, folder: Path):
        self.rng = random.Random(2)
        home = folder / "home"
        self.token = made_home(home)
        self.steps = StepFile(folder / "steps")
        self.server = Server(home, self.token, self.steps)
        self.client = Client(self.server, 7, folder / "list")
        self.at: Counter[str] = Counter()
        self.kills = self.between = self.recoveries_killed = 0

    def round(self, target: str) -> None:
        """Load, a kill at a step, whatever a service manager would do, load again, and a look at everything new."""
        since = max(self.client.sent(), default=-1) + 1
        before = len(self.client.acknowledged())
        self.client.start()
        wait(lambda: len(self.client.acknowledged()) > before + 3, f"the load before a kill: {self.server.tail()}")
        row = self.kill(target)
        self.at[f"{target}: {row.last} | {row.hit}"] += 1
        self.kills += 1
        self.between += row.between
        if target in ("group", "parent"):
            assert self.server.process is not None
            self.server.process.wait(30)
            wait(lambda: not self.server.group(), "children to end after their parent", 40)
            self.restart()
        else:
            self.wait_replaced(self.before[row.process if target == "worker" else "jobs"])
        self.server.wait_ready()
        before = len(self.client.acknowledged())
        wait(lambda: len(self.client.acknowledged()) > before + 3, f"the load to go on: {self.server.tail()}")
        self.client.stop()
        assert self.client.compare(since)

    def kill(self, target: str) -> Row:
        """Let the first worker that comes 1 to 12 steps further kill `target`; its row as it was left."""
        self.before = self.steps.rows()
        workers = [row for name, row in self.before.items() if name.startswith("worker")]
        if target == "jobs":
            wait(lambda: "jobs" in self.steps.rows(), "the jobs process to begin")
            self.before = self.steps.rows()
        jobs = self.before["jobs"].pid if target == "jobs" else 0
        pids = {"group": -self.server.pid, "worker": 0, "parent": self.server.pid, "jobs": jobs}
        for row in workers:
            self.steps.arm(row, row.count + self.rng.randint(1, 12), pids[target])
        wait(lambda: self.hit(workers), f"a step of a worker to come: {self.server.tail()}")
        for row in workers:
            self.steps.arm(row, 0)
        hit = self.hit(workers)
        assert hit is not None
        return hit

    def hit(self, workers: list[Row]) -> Row | None:
        now = self.steps.rows()
        return next((now[row.process] for row in workers if now[row.process].hits > row.hits), None)

    def restart(self) -> None:
        """Now and then the recovery is killed as well, once, before it has come far."""
        recovery = self.before.get("recovery")
        if recovery is not None and self.rng.random() < 0.4:
            self.steps.arm(recovery, self.rng.randint(1, 6))
            self.server.start(ready=False)
            wait(lambda: self.ended() or self.ready(), "recovery to be killed or to end")
            self.steps.arm(recovery, 0)
            if not self.ended():
                return
            self.recoveries_killed += 1
        self.server.start()

    def ended(self) -> bool:
        return self.server.process is not None and self.server.process.poll() is not None

    def ready(self) -> bool:
        try:
            return not self.ended() and self.server.get("/health/ready", timeout=2).status == 200
        except OSError:
            return False

    def wait_replaced(self, row: Row) -> None:
        wait(lambda: self.steps.rows()[row.process].pid != row.pid, f"{row.process} to be started again")


@pytest.mark.timeout(0)  # every wait inside has its own end
def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    campaign.server.start()
    try:
        while campaign.kills < KILLS or (campaign.between * 2 < campaign.kills < KILLS * 2):
            campaign.round(TARGETS[campaign.kills % len(TARGETS)])
        assert campaign.client.compare() >= len(campaign.client.acknowledged())
        assert campaign.server.stop() == 0
    finally:
        campaign.client.stop()
        campaign.server.kill_group()
    acknowledged, sent = len(campaign.client.acknowledged()), len(campaign.client.sent())
    print(
        f"{campaign.kills} kills, {campaign.between} between two steps of a batch, {campaign.recoveries_killed} more of "
        f"recoveries; {acknowledged} of {sent} objects acknowledged. Step done | step that did not come:"
    )
    for step, times in sorted(campaign.at.items()):
        print(f"  {step:<40}{'#' * min(40, times)} {times}")
    assert campaign.between * 2 >= campaign.kills
    assert campaign.client.refusals() <= {503}, "a killed neighbour is no fault of the sender"
    checked = run("check", "--home", str(campaign.server.home), "--read-data")
    assert "Everything is there" in checked.stdout + checked.stderr
