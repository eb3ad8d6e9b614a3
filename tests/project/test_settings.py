"""A setting that nothing reads and a metric that nothing counts are false promises."""

from __future__ import annotations

import re
from pathlib import Path

from radiolith import config, metrics


def sources(project: Path, without: str) -> str:
    paths = sorted((project / "src" / "radiolith").rglob("*.py"))
    return "\n".join(path.read_text("utf-8") for path in paths if path.name != without)


def test_every_setting_is_read_by_something(project: Path) -> None:
    text = sources(project, "config.py")
    section, unread, read = "settings", list[str](), 0
    for line in config.described():
        if heading := re.fullmatch(r"(?:# )?\[(?:\w+\.)*(\w+)\]", line):
            section = heading[1]
        elif setting := re.match(r"#(\w+) = ", line):
            place = r"\w+" if section == "hot" else section  # a tier travels under other names
            found = re.search(rf"\b{place}\.{setting[1]}\b", text)
            unread += [] if found else [f"{section}.{setting[1]}"]
            read += 1
    assert read > 15
    assert not unread


def test_every_metric_is_counted_by_something(project: Path) -> None:
    text = sources(project, "metrics.py")
    kinds = (metrics.Counter, metrics.Histogram)
    names = [name for name, value in vars(metrics).items() if isinstance(value, kinds)]
    uncounted = [name for name in names if not re.search(rf"\bmetrics\.{name}\.(add|observe)\(", text)]
    assert len(names) > 3
    assert not uncounted


def test_every_metric_has_a_name_of_ours_and_says_its_unit() -> None:
    text = metrics.text().decode()
    names = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert names
    assert all(name.startswith("radiolith_") for name in names)
