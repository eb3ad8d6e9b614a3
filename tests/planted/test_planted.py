"""Tests of the tests: bugs planted in a copy of the source, each of which the existing tests must catch.

A planted bug is a replacement of text that occurs exactly once; when the code moves, the test here fails and the bug
has to be planted anew. The unchanged copy must pass the same tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

POWER = "tests/storage/test_power_loss.py::test_nothing_acknowledged_is_lost"
FAULTS = "tests/archive/test_database_faults.py"
CUT, DEADLINES = "tests/dimse/test_cut.py", "tests/dimse/test_deadlines.py"
REFUSED = "tests/dimse/test_refused.py"


@dataclass(frozen=True)
class Bug:
    """`where`: the file below src/radiolith; `tests`: what must catch it."""

    name: str
    where: str
    old: str
    new: str
    tests: str


BUGS = (
    Bug(
        "answer before sync",
        "storage/backends/segment_file.py",
        "write_all(self.file, buffers, at)\n        self.file.sync()\n        return places",
        "write_all(self.file, buffers, at)\n        return places",
        POWER,
    ),
    Bug(
        "missing directory sync",
        "storage/backends/files.py",
        "            file.sync()\n            self.disk.sync_directory(directory)\n",
        "            file.sync()\n",
        POWER,
    ),
    Bug(
        "retried sync",
        "storage/backends/segment_file.py",
        "write_all(self.file, buffers, at)\n        self.file.sync()\n        return places",
        "write_all(self.file, buffers, at)\n        try:\n            self.file.sync()\n        except OSError:\n"
        "            self.file.sync()\n        return places",
        POWER,
    ),
    Bug(
        "ignored short write",
        "storage/backends/disk.py",
        "        done = file.write(waiting[first : first + 1000] if len(waiting) > 1000 else waiting[first:], offset)\n",
        "        file.write(waiting[first:], offset)\n        done = sum(len(each) for each in waiting[first:])\n",
        POWER,
    ),
    Bug(
        "truncation at a bad record",
        "storage/survey.py",
        "            later = self._later_batch(offset + BLOCK, number)\n",
        "            later = None\n",
        "tests/storage/test_damage.py::test_damage_is_not_taken_for_a_torn_tail",
    ),
    Bug(
        "answer before the keys are synced",
        "storage/keyring_places.py",
        "            write_all(self._opened(), [data], offset)\n            self._opened().sync()\n",
        "            write_all(self._opened(), [data], offset)\n",
        POWER,
    ),
    Bug(
        "refused batch not voided",
        "archive/commit.py",
        "            self._voids += [waiting.task for waiting in fresh]\n",
        "            pass\n",
        f"{FAULTS}::test_a_commit_that_fails_is_refused_and_void",
    ),
    Bug(
        "a copy acknowledged without its original",
        "archive/commit.py",
        "waiting.answer.object_id in refused:",
        "False:",
        "tests/archive/test_commit.py",
    ),
    Bug(
        "void forgotten in recovery",
        "archive/rebuild.py",
        "            if record.kind != Kind.FACT and record.object_id not in void:\n",
        "            if record.kind != Kind.FACT:\n",
        f"{FAULTS}::test_quarantined_bytes_that_were_refused_stay_away",
    ),
    Bug(
        "roll forward from the end of the log only",
        "archive/rebuild.py",
        "            self._index(self._objects(one.segment, one.start, void, report), report, recovered=True)\n",
        "            self._index(self._objects(one.segment, one.end, void, report), report, recovered=True)\n",
        f"{FAULTS}::test_the_database_after_a_power_loss",
    ),
    Bug(
        "C-STORE answered before the object is durable",
        "dimse/reception.py",
        "                future.add_done_callback(self._settled)\n                return\n",
        "                self._operation.respond(Status.SUCCESS)\n                self._done(self._operation)\n"
        "                return\n",
        f"{REFUSED}::test_an_object_is_answered_once_it_is_durable",
    ),
    Bug(
        "a fragment of another context taken for the message's",
        "dimse/messages.py",
        "        if context_id != self._context_id and self._context_id:\n",
        "        if False:\n",
        f"{CUT}::test_what_breaks_the_rules_of_messages_is_aborted",
    ),
    Bug(
        "the mark of the last fragment ignored",
        "dimse/upperlayer.py",
        "last = self._control & 2 != 0 and not self._value_left",
        "last = not self._value_left",
        f"{CUT}::test_fragments_up_to_the_one_marked_last_are_one_object",
    ),
    Bug(
        "the announced length of a PDU not checked",
        "dimse/pdu.py",
        "        wrong = length < HEADER or (data_max and length > data_max)\n",
        "        wrong = length < HEADER\n",
        f"{CUT}::test_a_length_that_no_pdu_may_have",
    ),
    Bug(
        "an aborted object kept as far as it came",
        "dimse/reception.py",
        "        intake, self._intake = self._intake, None\n        if intake is not None:\n            await intake.abort()\n"
        "        self._done(self._operation)\n",
        "        await self.finish()\n",
        f"{CUT}::test_a_connection_cut_at_every_byte",
    ),
    Bug(
        "a release inside a message waited for for ever",
        "dimse/acceptor.py",
        "            await self._exchange.drop()\n            await self._exchange.quiet()\n",
        "            await self._exchange.quiet()\n",
        f"{CUT}::test_a_release_inside_a_message_ends_in_order",
    ),
    Bug(
        "answers that nobody takes pile up",
        "dimse/exchange.py",
        "        await wire.drain()  # who does not take our answers is not heard: they would pile up\n",
        "",
        f"{DEADLINES}::test_who_does_not_read_its_answers_is_not_heard_and_then_cut",
    ),
)


def run(source: Path, tests: set[str], project: Path) -> subprocess.CompletedProcess[str]:
    """The named tests against the package in `source`, stopping at the first failure."""
    environ = {**os.environ, "PYTHONPATH": str(source), "RADIOLITH_LONG": ""}
    look = "import radiolith, sys; sys.exit(radiolith.__file__)"
    found = subprocess.run(
        (sys.executable, "-c", look), env=environ, capture_output=True, text=True, cwd=project, check=False
    )
    assert found.stderr.startswith(str(source)), f"the copy is not what would run: {found.stderr}"
    command = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=100", *sorted(tests))
    return subprocess.run(command, env=environ, capture_output=True, text=True, cwd=project, timeout=240, check=False)


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    shutil.copytree(project / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "src"


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_caught(bug: Bug, copy: Path, project: Path) -> None:
    path = copy / "radiolith" / bug.where
    text = path.read_text()
    assert text.count(bug.old) == 1, f"the place to plant '{bug.name}' has moved: {bug.where}"
    path.write_text(text.replace(bug.old, bug.new))
    done = run(copy, {bug.tests}, project)
    assert done.returncode == 1, f"'{bug.name}' was not caught:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    caught = re.findall(r"^FAILED (\S+)(.*)", done.stdout, re.MULTILINE)
    assert caught, done.stdout[-2000:]
    assert "SyntaxError" not in done.stdout and "NameError" not in done.stdout, done.stdout[-2000:]
    print(f"{bug.name}: caught by {caught[0][0]}{caught[0][1][:120]}")


def test_the_unchanged_copy_passes(copy: Path, project: Path) -> None:
    """What fails above fails for the bug."""
    done = run(copy, {bug.tests for bug in BUGS if bug.tests != POWER} | {f"{POWER}[0]"}, project)
    assert done.returncode == 0, done.stdout[-3000:]
