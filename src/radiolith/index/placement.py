"""Where something is shown: the words about places followed to their end. Pure.

Owns: the rule of circles, and which word of several decides. Must never: read rows. See docs/decisions/100.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from radiolith.index.words import Said

Node = TypeVar("Node", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Path(Generic[Node]):
    """From a name to where it leads: `nodes` begins with the start and ends with `end`; `edges`: the words in between."""

    nodes: tuple[Node, ...]
    edges: tuple[Said, ...]

    @property
    def end(self) -> Node:
        return self.nodes[-1]


def follow(start: Node, edge: Callable[[Node], tuple[Node, Said] | None]) -> Path[Node]:
    """Follow the words from a study or patient to the one it is shown as. Of a circle the newest word is ignored, so there
    always is an end."""
    nodes: list[Node] = [start]
    edges: list[Said] = []
    while True:
        found = edge(nodes[-1])
        if found is None:
            return Path(tuple(nodes), tuple(edges))
        target, said = found
        edges.append(said)
        if target in nodes:
            break
        nodes.append(target)
    first = nodes.index(target)
    newest = max(range(first, len(nodes)), key=lambda place: edges[place].stamp)
    return Path(tuple(nodes[: newest + 1]), tuple(edges[:newest]))
