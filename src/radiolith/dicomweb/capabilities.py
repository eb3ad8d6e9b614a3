"""Retrieve Capabilities (PS3.18 8.9, annex H): what this service speaks, generated from the table of routes.

Three forms of the same list: WADL as the standard has it, the same as JSON, and OpenAPI 3.1. Must never: name a route
that does not exist, which is why nothing here is written by hand but the parameters of a search.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from xml.sax.saxutils import escape, quoteattr

import orjson

from radiolith.dicomweb import accept
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.resources import Reply
from radiolith.dicomweb.respond import Answer
from radiolith.dicomweb.table import Function, Route

WADL = "application/vnd.sun.wadl+xml"
OPENAPI = "application/vnd.oai.openapi+json"
TYPES = ("application/json", WADL, OPENAPI)
CONFORMANCE = "https://dicom.nema.org/medical/dicom/current/output/html/part18.html"

_SEARCH = (
    "includefield",
    "limit",
    "offset",
    "fuzzymatching",
    "emptyvaluematching",
    "multiplevaluematching",
    "totalcount",
)
_RENDERED = ("annotation", "quality", "viewport", "window", "iccprofile")
_REPRESENTATIONS: dict[str, tuple[str, ...]] = {
    "retrieve": ('multipart/related; type="application/dicom"', "application/dicom", "application/zip"),
    "metadata": ("application/dicom+json", 'multipart/related; type="application/dicom+xml"', "application/json"),
    "search": ("application/dicom+json", 'multipart/related; type="application/dicom+xml"', "application/json"),
    "frames": tuple(f'multipart/related; type="{media}"' for media in accept.BULK_TYPES),
    "bulkdata": tuple(f'multipart/related; type="{media}"' for media in accept.BULK_TYPES),
    "rendered": accept.RENDERED_TYPES,
    "store": ("application/dicom+json", "application/dicom+xml"),
}
_STORED = (
    'multipart/related; type="application/dicom"',
    'multipart/related; type="application/dicom+json"',
    'multipart/related; type="application/dicom+xml"',
    "application/dicom",
    "application/zip",
)
_NON_PATIENT = ("application/dicom+json", "application/dicom", 'multipart/related; type="application/dicom+xml"')
_OWN = {"wado": ("application/dicom", *accept.RENDERED_TYPES)}
_PARAMETERS = {"search": _SEARCH, "rendered": _RENDERED}


def describer(routes: Callable[[], Iterable[Route]]) -> Function:
    """GET / and GET /capabilities: all of it."""

    async def describe(call: Call) -> Reply:
        return _described(call, routes())

    return describe


def options(routes: Iterable[Route], allow: str) -> Function:
    """OPTIONS of any resource: its methods, and their description."""

    async def answer(call: Call) -> Reply:
        reply = _described(call, routes)
        reply.headers.append(("allow", allow))
        return reply

    return answer


def _described(call: Call, routes: Iterable[Route]) -> Answer:
    choice = accept.rendered(call.accepted(), TYPES, TYPES[0])[0]
    if choice.media == WADL:
        return Answer(wadl(call.service, routes), WADL, coding=True)
    document = openapi(call.service, routes) if choice.media == OPENAPI else plain(call.service, routes)
    return Answer(orjson.dumps(document), choice.media, coding=True)


def _pattern(route: Route) -> str:
    """The pattern as clients know it: '{view:rejected}' is the literal, '{path*}' a variable."""
    return re.sub(r"\{\w+:([\w-]+)\}", r"\1", route.pattern).replace("*}", "}")


def _types(route: Route) -> tuple[str, ...]:
    """What the resource can be."""
    if route.kind == "retrieve" and route.pattern.startswith("{category:"):
        return _NON_PATIENT
    if route.pattern in _OWN:
        return _OWN[route.pattern]
    if route.kind == "retrieve" and route.pattern.endswith("/archive"):
        return ("application/zip",)
    return _REPRESENTATIONS.get(route.kind, ("application/json",))


def plain(service: str, routes: Iterable[Route]) -> dict[str, object]:
    return {
        "base": service,
        "conformance": CONFORMANCE,
        "resources": [
            {
                "path": "/" + _pattern(route),
                "method": route.method,
                "transaction": route.title,
                "accept": list(_types(route)),
                **({"consumes": list(_STORED)} if route.kind == "store" else {}),
                **({"parameters": list(_PARAMETERS[route.kind])} if route.kind in _PARAMETERS else {}),
            }
            for route in routes
        ],
    }


def wadl(service: str, routes: Iterable[Route]) -> bytes:
    """One resource element a path: WADL allows a nested path as well as a tree."""
    resources: dict[str, list[Route]] = {}
    for route in routes:
        resources.setdefault(_pattern(route), []).append(route)
    out = ['<?xml version="1.0" encoding="UTF-8"?>', '<application xmlns="http://wadl.dev.java.net/2009/02">']
    out.append(f"<resources base={quoteattr(service)}>")
    for path, here in resources.items():
        out.append(f"<resource path={quoteattr(path or '/')}>")
        out += [f'<param name="{name}" style="template" required="true"/>' for name in re.findall(r"\{(\w+)\}", path)]
        out += [_method(route) for route in here]
        out.append("</resource>")
    out.append("</resources></application>")
    return "".join(out).encode("utf-8")


def _method(route: Route) -> str:
    identifier = re.sub(r"\W", "", route.title.title())
    request = "".join(f'<param name="{name}" style="query"/>' for name in _PARAMETERS.get(route.kind, ()))
    if route.kind == "store":
        request += "".join(f"<representation mediaType={quoteattr(media)}/>" for media in _STORED)
    response = "".join(f"<representation mediaType={quoteattr(media)}/>" for media in _types(route))
    head = f'<method name="{route.method}" id="{identifier}"><doc title={quoteattr(escape(route.title))}/>'
    return f"{head}<request>{request}</request><response>{response}</response></method>"


def openapi(service: str, routes: Iterable[Route]) -> dict[str, object]:
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        path = "/" + _pattern(route)
        parameters = [_parameter(name, "path") for name in re.findall(r"\{(\w+)\}", path)]
        parameters += [_parameter(name, "query") for name in _PARAMETERS.get(route.kind, ())]
        content = {media: {} for media in _types(route)}
        operation: dict[str, object] = {
            "summary": route.title,
            "parameters": parameters,
            "responses": {
                "200": {"description": "OK", "content": content},
                "default": {"description": "Failure", "content": {"application/problem+json": {}}},
            },
        }
        if route.kind == "store":
            operation["requestBody"] = {"required": True, "content": {media: {} for media in _STORED}}
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "DICOMweb", "version": "1", "description": f"DICOM PS3.18: {CONFORMANCE}"},
        "servers": [{"url": service}],
        "paths": paths,
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{"bearer": []}],
    }


def _parameter(name: str, place: str) -> dict[str, object]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
