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
AMENDMENTS = "tests/index/test_amendments.py"


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
        "            await self._exchange.drop()\n            self._sender.lost(RELEASING)\n",
        "            self._sender.lost(RELEASING)\n",
        f"{CUT}::test_a_release_inside_a_message_ends_in_order",
    ),
    Bug(
        "answers that nobody takes pile up",
        "dimse/exchange.py",
        "        await wire.drain()  # who does not take our answers is not heard: they would pile up\n",
        "",
        f"{DEADLINES}::test_who_does_not_read_its_answers_is_not_heard_and_then_cut",
    ),
    Bug(
        "of a circle of merges the oldest word ignored",
        "index/placement.py",
        "    newest = max(range(",
        "    newest = min(range(",
        f"{AMENDMENTS}::test_a_circle_of_merges_has_an_end",
    ),
    Bug(
        "an undo that forgets which version was current",
        "index/decisions.py",
        "AND op = ? AND kind <> 'encoding'\"",
        "AND op = ? AND kind IN ('reject', 'restore')\"",
        f"{AMENDMENTS}::test_rows_show_the_version_that_is_current",
    ),
    Bug(
        "late arrivals shown where they say, not where their study was moved",
        "index/parents.py",
        "if item.study and self._said.get(item.home.study_id, 0) & Flag.PLACED]",
        "if item.study and item.home.study_id in self.studies_new]",
        f"{AMENDMENTS}::test_merged_studies_answer_by_both_uids",
    ),
    Bug(
        "a correction that leaves the entity tag as it was",
        "archive/headers.py",
        '    return held.blob.object_id + (held.overlay.digest if held.overlay is not None else b"")\n',
        "    return held.blob.object_id\n",
        "tests/archive/test_corrected.py::test_tags_turn_with_every_correction",
    ),
    Bug(
        "Original Attributes that replace those of others",
        "dicom/original_attributes.py",
        "        return element[:-_STOP_BYTES] + new + marks.sequence_stop\n    content = element[lead:] + new\n",
        "        return head + new + marks.sequence_stop\n    content = new\n",
        "tests/dicom/test_amended.py::test_items_that_are_there_stay_byte_for_byte",
    ),
    Bug(
        "a webhook's signature that does not cover its moment",
        "jobs/webhooks.py",
        'hmac.new(secret.encode(), b"%d." % seconds + body, hashlib.sha256)',
        "hmac.new(secret.encode(), body, hashlib.sha256)",
        "tests/jobs/test_webhooks.py::test_a_receiver_takes_what_is_ours_once_and_nothing_else",
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
