"""Home and database are gone: segments, one place of the keyring and the recovery file are enough."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from radiolith.codecs.sandbox import Decoders
from tests.archive.homes import opened, principal, store
from tests.archive.objects import numbered


@pytest.mark.parametrize("place", ["home", "tier"])
async def test_every_file_comes_back_without_the_archive(
    place: str, corpus_files: list[Path], project: Path, tmp_path: Path, decoders: Decoders
) -> None:
    """The stand-alone reader, run as a program, gives the exact files: versions, encodings and quarantine too."""
    home, saved, out = tmp_path / "home", tmp_path / "saved", tmp_path / "out"
    sent: Counter[bytes] = Counter()
    async with opened(home, decoders) as graph:
        who = principal(graph)
        files = [path.read_bytes() for path in corpus_files[:: 6 if place == "home" else 12]]
        files += [numbered(1, number, large=0.3)[3] for number in range(12)]
        for data in files:
            receipt = await store(graph, data)
            if receipt.outcome.value != "duplicate":
                sent[data] += 1
        first = numbered(1, 0)
        await graph.archive.remove.reject(who, *first[:3], reason="113001")
    saved.mkdir()
    shutil.copytree(home / "tier" / "segments", saved / "segments")
    shutil.copy(home / "keyring" if place == "home" else home / "tier" / "keyring", saved / "keyring")
    shutil.copy(home / "recovery.txt", saved / "recovery.txt")
    shutil.rmtree(home)
    command = [sys.executable, "-I", str(project / "tools" / "read_segment.py")]
    command += ["--keyring", str(saved / "keyring"), "--recovery", str(saved / "recovery.txt"), "--out", str(out)]
    command += [str(saved / "segments")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    back = Counter(path.read_bytes() for path in out.rglob("*") if path.is_file() and "facts" not in path.parts)
    missing, other = sent - back, back - sent
    assert not missing, f"{sum(missing.values())} of {len(files)} files did not come back"
    assert not other, f"{sum(other.values())} files that nobody sent"
    print(f"{sum(sent.values())} files came back from segments and {place}'s keyring")
