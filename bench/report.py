"""Records as a Markdown table: median and spread per server, the ratio, the target, and whether it was reached.

python bench/report.py bench/results/FILE.jsonl                         prints the table
python bench/report.py FILE.jsonl --into docs/benchmarks.md             replaces the table in that page
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import FIGURES, REFERENCE, Figure

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
BUSY_CORES = 0.1  # of other work in the middle of a measurement; more than that, and the figure is marked
VOID = ("WRONG", "LOST")
PAIRS = (
    ("radiolith", REFERENCE, "ratio"),
    ("radiolith", "orthanc-postgresql", "to durable Orthanc"),
    ("radiolith-postgresql", "orthanc-postgresql", "both on PostgreSQL"),
    ("radiolith-s3", REFERENCE, "on S3"),
)
"""Who is compared with whom, where both were measured. The first one is what the targets are about."""

Record = Mapping[str, Any]


class Results:
    """Values by row, server and number; reasons where there are none."""

    def __init__(self, records: Iterable[Record]):
        self.about: Record = {}
        self.servers: list[str] = []
        self._records: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records:
            if record["row"] == "run":
                self.about = record
                self.servers += [name for name in record["servers"] if name not in self.servers]
            else:
                self._records[record["row"], record["server"]].append(record)

    def values(self, row: str, server: str, number: str) -> list[float]:
        if self.failure(row, server).startswith(VOID):
            return []
        return [float(r[number]) for r in self._records.get((row, server), ()) if number in r]

    def median(self, row: str, server: str, number: str) -> float | None:
        values = self.values(row, server, number)
        return statistics.median(values) if values else None

    def failure(self, row: str, server: str) -> str:
        errors = [str(r["error"]) for r in self._records.get((row, server), ()) if "error" in r]
        return next((e for e in errors if e.startswith(VOID)), errors[0] if errors else "")

    def busy(self, row: str, server: str) -> bool:
        others = self.values(row, server, "other_cores")
        return bool(others) and statistics.median(others) > BUSY_CORES

    def failures(self) -> list[tuple[str, str, str]]:
        return [(row, server, self.failure(row, server)) for row, server in self._records if self.failure(row, server)]


def markdown(records: Sequence[Record]) -> str:
    results = Results(records)
    lines = [*_preface(results), ""]
    pairs = [pair for pair in PAIRS if pair[0] in results.servers and pair[1] in results.servers]
    heads = ["work", *results.servers, *(head for _, _, head in pairs), "target", "reached"]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for figure in FIGURES:
        row = _row(figure, results, pairs)
        if row:
            lines.append("| " + " | ".join(row) + " |")
    lines += ["", *_notes(results)]
    return "\n".join(lines) + "\n"


def _row(figure: Figure, results: Results, pairs: Sequence[tuple[str, str, str]]) -> list[str] | None:
    cells = [_cell(figure, results, server) for server in results.servers]
    if not any(cells):
        return None

    def value(server: str, row: str = figure.row) -> float | None:
        return results.median(row, server, figure.number)

    ratios: list[str] = []
    for server, reference, _ in pairs:
        mine, other = value(server), value(reference, figure.against or figure.row)
        ratios.append(f"{shown(figure.times(mine, other))}×" if mine and other else "")
    own, other = value("radiolith"), value(REFERENCE, figure.against or figure.row)
    reached = figure.reached(own, other) if own is not None else None
    title = figure.title if not figure.unit else f"{figure.title} ({figure.unit})"
    return [title, *cells, *ratios, figure.target(), {True: "yes", False: "**no**", None: ""}[reached]]


def _cell(figure: Figure, results: Results, server: str) -> str:
    values = results.values(figure.row, server, figure.number)
    if not values:
        return "failed" if results.failure(figure.row, server) else ""
    middle = shown(statistics.median(values))
    spread = f" [{shown(min(values))}–{shown(max(values))}]" if len(values) > 1 else ""
    return f"{middle}{spread}{'*' if results.busy(figure.row, server) else ''}"


def shown(value: float) -> str:
    """Three digits that mean something."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _preface(results: Results) -> list[str]:
    about = results.about
    if not about:
        return []
    sizes, versions = about["sizes"], about["versions"]
    loaded = sizes["studies"] * 10 + (sizes["reps"] + 1) * sizes["series"]
    lines = [
        f"{about['time']}, {about['cores']} cores ({about['processor']}), {about['memory_gb']} GB, kernel "
        f"{about['kernel']}, Python {about['python']}. Orthanc {versions['orthanc']}, Radiolith {versions['radiolith']}.",
        f"{sizes['reps']} repetitions, median [least–most]; {sizes['ct']} CT or {sizes['mr']} MR a repetition, "
        f"{sizes['studies']:,} studies of 10 tiny instances; {loaded:,} instances held while reading.",
    ]
    if about["quick"]:
        lines.append(
            f"**A quick run: smaller than the rows' titles say ({sizes['frames']} and {sizes['large_frames']} frames, series "
            f"of {sizes['series']}). It shows that everything works, not how fast it is.**"
        )
    return lines


def _notes(results: Results) -> list[str]:
    lines = [
        f"Ratios: how many times better than Orthanc in the same run, in either direction. \\* other work took more than "
        f"{BUSY_CORES:g} core in the middle repetition: take it as a hint."
    ]
    failures = results.failures()
    if failures:
        lines += ["", "Not measured:", ""]
        lines += [f"- {row}, {server or 'the run'}: {reason}" for row, server, reason in failures]
    return lines


def replaced(page: str, table: str) -> str:
    """The page with the table between its marks. Raises ValueError when the marks are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, help="a Markdown page with the two marks")
    options = parser.parse_args()
    records = [json.loads(line) for path in options.files for line in path.read_text("utf-8").splitlines()]
    table = markdown(records)
    if options.into:
        options.into.write_text(replaced(options.into.read_text("utf-8"), table), "utf-8")
    else:
        print(table)


if __name__ == "__main__":
    main()
