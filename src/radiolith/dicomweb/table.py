"""The table of routes: paths with variables, looked up in one step a segment whatever their number.

A pattern's segment is literal, `{name}`, `{name:literal}` (a literal that also sets a variable) or, last, `{name*}`
(all the rest). Must never: prefer by order; a literal wins over a variable, and that is all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from starlette.types import ASGIApp

from radiolith.dicomweb.call import Call

Function = Callable[[Call], Awaitable[ASGIApp]]
SEGMENTS_MAX = 80  # a bulk data path may go through 64 levels; longer ones are nobody's


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table. `title` is the transaction's name in PS3.18, `kind` one of metrics.ROUTES."""

    method: str
    pattern: str
    function: Function
    title: str
    kind: str


@dataclass(slots=True)
class _Node:
    literal: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    variable: _Node | None = None
    name: str = ""  # of the variable that leads here
    fixed: str = ""  # value of that variable, where the segment was literal
    rest: str = ""  # name of the variable that takes everything from here
    routes: dict[str, Route] = field(default_factory=dict[str, Route])


class Table:
    def __init__(self, routes: Iterable[Route]):
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.pattern.split("/") if route.pattern else ():
            if not segment.startswith("{"):
                node = node.literal.setdefault(segment, _Node())
                continue
            name, _, literal = segment[1:-1].partition(":")
            if literal:
                node = node.literal.setdefault(literal, _Node(name=name, fixed=literal))
            else:
                node.variable = node.variable or _Node(name=name.rstrip("*"), rest=name if name.endswith("*") else "")
                node = node.variable
        if route.method in node.routes:
            raise ValueError(f"{route.method} {route.pattern} is in the table twice")
        node.routes[route.method] = route

    def find(self, path: str) -> tuple[dict[str, Route], dict[str, str]]:
        """Method → route and the variables, for a path without slashes at its ends; ({}, {}) when there is none."""
        node, names = self._root, dict[str, str]()
        segments = path.split("/", SEGMENTS_MAX) if path else []
        if len(segments) > SEGMENTS_MAX:
            return {}, {}
        for number, segment in enumerate(segments):
            step = node.literal.get(segment)
            if step is None:
                step = node.variable
                if step is None or not segment:
                    return {}, {}
                names[step.name] = "/".join(segments[number:]) if step.rest else segment
                if step.rest:
                    return step.routes, names
            elif step.fixed:
                names[step.name] = step.fixed
            node = step
        return node.routes, names
