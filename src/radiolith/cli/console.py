"""How every command speaks: words on the terminal, JSON for scripts, one sentence and an exit code for a failure.

Owns: the two streams, tables, progress bars, the translation of failures. Must never: know what a command does.
What a script reads goes to the standard output and nothing else does; words about the work go to the standard error
when it is JSON that was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

FAILED = 1
"""Exit code: the work failed, and it was said why."""
WRONG_USAGE = 2
"""Exit code: the command line is wrong (Click's own for the same)."""

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Report = Callable[[int, "int | None", str], None]
"""progress(done, total or None while it is not known, what is being done)."""


_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}, "?")


def plain(text: str) -> str:
    """Without what a terminal would obey: AE titles, names and file names are whatever somebody sent."""
    return text.translate(_CONTROLS)


def say(text: str = "") -> None:
    """A line for people, never interpreted as markup."""
    out.print(plain(text), markup=False)


def complain(text: str) -> None:
    err.print(plain(text), markup=False)


def give(value: object) -> None:
    """A line for a script, exactly as it is."""
    out.file.write(f"{value}\n")
    out.file.flush()


def give_json(value: object) -> None:
    give(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def give_table(columns: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> None:
    """A plain table, or the sentence `nothing` where there are no rows."""
    if not rows:
        say(nothing)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    out.print(table)


def _cell(value: Any) -> str:
    return plain(str(value)).replace("[", "\\[")


def bytes_in_words(amount: int) -> str:
    """1536 -> '1.5 KiB'."""
    size = float(amount)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


@contextmanager
def progress(words: str, unit: str) -> Generator[Report, None, None]:
    """A bar on the standard error while the work lasts; silent where that is no terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(words, total=None)

        def report(done: int, total: int | None, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what or words)

        yield report
