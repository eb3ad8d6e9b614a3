"""A fact on its way into rows: what every handler of a kind of fact is given.

Owns: the shape, and reading a text from a body. Must never: know a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from radiolith.index.registry import Word
from radiolith.index.session import Writer


@dataclass(slots=True)
class Heard:
    """`word`: when it was said, and by which record; `by`: by whom."""

    tx: Writer
    tenant_id: int
    tenant: bytes
    word: Word
    by: str
    body: Mapping[str, Any]


def text(value: object) -> str:
    """Raises TypeError for what is no text."""
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return value
