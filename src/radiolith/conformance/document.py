"""A document of numbered sections with paragraphs and tables, and its three forms.

Owns: Markdown, HTML and JSON of a document. Must never: know what it says.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` have as many cells as there are `columns`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @staticmethod
    def of(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
        return Table(title, tuple(columns), tuple(tuple(str(cell) for cell in row) for row in rows))


Block = str | Table
"""A paragraph or a table."""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()


def numbered(document: Section) -> Iterator[tuple[str, Section]]:
    """('', the document), ('1', its first section), ('1.1', …), annexes as they come."""

    def below(section: Section, prefix: str) -> Iterator[tuple[str, Section]]:
        for place, inner in enumerate(section.sections, 1):
            number = f"{prefix}.{place}" if prefix else str(place)
            yield number, inner
            yield from below(inner, number)

    yield "", document
    yield from below(document, "")


def markdown(document: Section) -> str:
    lines: list[str] = []
    for number, section in numbered(document):
        depth = number.count(".") + 2 if number else 1
        lines += ["#" * min(depth, 6) + " " + f"{number} {section.title}".strip(), ""]
        for block in section.blocks:
            lines += [block, ""] if isinstance(block, str) else [*_markdown_table(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: Table) -> Iterator[str]:
    yield f"**{table.title}**"
    yield ""
    yield _row(table.columns)
    yield "|" + "---|" * len(table.columns)
    yield from (_row(row) for row in table.rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}caption{text-align:left;font-weight:600}"
    "td,th{border:1px solid #999;padding:.2rem .5rem;text-align:left;vertical-align:top}"
)


def page(document: Section) -> str:
    """HTML that needs nothing beside it."""
    title = html.escape(document.title)
    out = ["<!doctype html>", f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>']
    out.append(f"<style>{_STYLE}</style></head><body>")
    for number, section in numbered(document):
        level = min(number.count(".") + 2, 6) if number else 1
        out.append(f"<h{level}>{html.escape(f'{number} {section.title}'.strip())}</h{level}>")
        for block in section.blocks:
            out.append(f"<p>{html.escape(block)}</p>" if isinstance(block, str) else _html_table(block))
    return "\n".join([*out, "</body></html>"]) + "\n"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in table.rows)
    return f"<table><caption>{html.escape(table.title)}</caption><tr>{head}</tr>\n{rows}</table>"


def plain(document: Section) -> dict[str, Any]:
    """As JSON: title, paragraphs and tables in their order, sections."""
    blocks: list[Any] = [
        block if isinstance(block, str) else {"table": block.title, "columns": block.columns, "rows": block.rows}
        for block in document.blocks
    ]
    return {"title": document.title, "blocks": blocks, "sections": [plain(each) for each in document.sections]}
