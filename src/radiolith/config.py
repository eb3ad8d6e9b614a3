"""Every setting: its name, its default, its reason. Read once, frozen, handed down.

Owns: `radiolith.toml` in the home and the `RADIOLITH_...` overrides.
Must never: read anything but the file and the environment it was given, or be read again while the archive runs.

A setting is one field. Its dotted name is where it stands in the file (`tiers.hot.url`), and its variable is the same
name in capitals (`RADIOLITH_TIERS_HOT_URL`). The environment wins over the file, the file over the default. A name that
is not in the table is an error that says which one was probably meant: a misspelt limit must not be silently without
effect.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast, get_type_hints

from radiolith.model import BadInput, NotFound
from radiolith.settings import DIMSE_PORT as DIMSE_PORT
from radiolith.settings import GIB as GIB
from radiolith.settings import KIB as KIB
from radiolith.settings import MIB as MIB
from radiolith.settings import Database as Database
from radiolith.settings import Dimse as Dimse
from radiolith.settings import Http as Http
from radiolith.settings import Keys as Keys
from radiolith.settings import Limits as Limits
from radiolith.settings import Log as Log
from radiolith.settings import Metrics as Metrics
from radiolith.settings import Settings as Settings
from radiolith.settings import Tier as Tier
from radiolith.settings import Tiers as Tiers
from radiolith.settings import Versions as Versions
from radiolith.settings import Webhooks as Webhooks

FILE = "radiolith.toml"
PREFIX = "RADIOLITH_"
FOREIGN = ("RADIOLITH_HOME", "RADIOLITH_LONG", "RADIOLITH_TEST_", "RADIOLITH_BENCH_")
"""Variables with our prefix that are no settings: the default home, and what tests and benchmarks read."""

POLICIES = ("first", "newest", "ask")
LEVELS = ("debug", "info", "warning", "error")
TLS_CLIENTS = ("required", "asked", "off")
_AET = re.compile(r"(?=[!-~])[ -\[\]-~]{0,15}[!-\[\]-~]")
"""PS3.5 6.2, AE."""
_ORIGIN = re.compile(r"https?://([0-9a-z._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
"""What a browser sends as Origin (RFC 6454 7.1)."""


# ---------------------------------------------------------------- reading


def load(home: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of `home`. Raises NotFound when it is no home, BadInput for a wrong name or value."""
    home = home.expanduser().absolute()
    path = home / FILE
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFound(_no_home(home)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    return resolve(home, document, os.environ if environ is None else environ)


def resolve(home: Path, document: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Settings from a parsed file and an environment; raises BadInput."""
    given, types = _flatten(document), {name: kind for name, kind, _ in _entries(Settings)}
    for name in given:
        if name not in types and name.rpartition(".")[0] != "versions.peers":
            raise BadInput(f"There is no setting '{name}' in {FILE}.{_nearest(name, types)}")
    values = {name: _checked(name, value, types[name]) for name, value in given.items() if name in types}
    peers = {name.rpartition(".")[2]: value for name, value in given.items() if name.startswith("versions.peers.")}
    if peers:
        values["versions.peers"] = _checked("versions.peers", peers, types["versions.peers"])
    return _validated(_build(values | _from_environment(environ, types), home.expanduser().absolute()))


def changed(settings: Settings, name: str, value: object) -> Settings:
    """The same settings with one of them changed, and checked like all; for what the command line says."""
    section, _, key = name.partition(".")
    return _validated(replace(settings, **{section: replace(getattr(settings, section), **{key: value})}))


def _from_environment(environ: Mapping[str, str], types: Mapping[str, Any]) -> dict[str, Any]:
    variables = {variable(name): name for name in types}
    values: dict[str, Any] = {}
    for key, text in environ.items():
        if not key.startswith(PREFIX) or key.startswith(FOREIGN):
            continue
        if key not in variables:
            raise BadInput(f"There is no setting for the variable {key}.{_nearest(key, variables)}")
        values[variables[key]] = _parsed(key, text, types[variables[key]])
    return values


def variable(name: str) -> str:
    """The environment variable of a setting: 'tiers.hot.url' -> 'RADIOLITH_TIERS_HOT_URL'."""
    return PREFIX + name.replace(".", "_").upper()


def _flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict) and value:
            flat.update(_flatten(cast("dict[str, Any]", value), f"{prefix}{key}."))
        elif not isinstance(value, dict):
            flat[prefix + key] = value
    return flat


def _checked(name: str, value: Any, kind: Any) -> Any:
    """A value of the file, of the type the table asks for."""
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[Any]", value)):
            raise BadInput(f"'{name}' is a list of texts, not {value!r}.")
        return tuple(cast("list[str]", value))
    if kind == dict[str, str]:
        if not all(isinstance(item, str) for item in value.values()):
            raise BadInput(f"Every value of '{name}' is a text.")
        return dict(value)
    if type(value) is not kind:
        raise BadInput(f"'{name}' is a{_WORDS[kind]}, not {value!r}.")
    return value


_WORDS: dict[Any, str] = {str: " text", int: " whole number", bool: " switch (true or false)"}


def _parsed(key: str, text: str, kind: Any) -> Any:
    """A variable's text, as the type the table asks for."""
    if kind is int:
        if not text.strip().isdecimal():
            raise BadInput(f"{key} is a whole number, not '{text}'.")
        return int(text)
    if kind is bool:
        if text.lower() not in _SWITCH:
            raise BadInput(f"{key} is true or false, not '{text}'.")
        return _SWITCH[text.lower()]
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == dict[str, str]:
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        return {name.strip(): value.strip() for name, _, value in pairs}
    return text


_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _build(values: Mapping[str, Any], home: Path) -> Settings:
    """The nested settings. '{home}' and '{tiers.hot.url}' in a value stand for what they turn out to be."""
    names = {"{home}": str(home)}
    names["{tiers.hot.url}"] = _filled(values.get("tiers.hot.url", Tier.__dataclass_fields__["url"].default), names)

    def construct(cls: Any, prefix: str, **given: Any) -> Any:
        hints = get_type_hints(cls)
        arguments = dict(given)
        for entry in fields(cls):
            name = prefix + entry.name
            if dataclasses.is_dataclass(hints[entry.name]):
                arguments[entry.name] = construct(hints[entry.name], name + ".")
            elif name in values:
                arguments[entry.name] = _filled(values[name], names)
            elif entry.name not in given:
                arguments[entry.name] = _filled(_default(entry), names)
        return cls(**arguments)

    return cast(Settings, construct(Settings, "", home=home))


def _default(entry: dataclasses.Field[Any]) -> Any:
    return entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()


def _filled(default: Any, names: Mapping[str, str]) -> Any:
    if isinstance(default, tuple):
        return tuple(_filled(item, names) for item in cast("tuple[Any, ...]", default))
    if isinstance(default, str):
        for name, value in names.items():
            default = default.replace(name, value)
    return default


def _validated(settings: Settings) -> Settings:
    """What a type cannot say. Raises BadInput."""
    choices: dict[str, tuple[str, tuple[str, ...]]] = {"log.level": (settings.log.level, LEVELS)}
    choices |= {"versions.policy": (settings.versions.policy, POLICIES)}
    choices |= {f"versions.peers.{peer}": (policy, POLICIES) for peer, policy in settings.versions.peers.items()}
    choices["dimse.tls_clients"] = (settings.dimse.tls_clients, TLS_CLIENTS)
    for name, (value, known) in choices.items():
        if value not in known:
            raise BadInput(f"'{name}' is one of {', '.join(known)}, not '{value}'.")
    for name in ("http.port", "metrics.port", "dimse.port", "dimse.tls_port"):
        if not 0 <= (port := getattr(getattr(settings, name.partition(".")[0]), name.partition(".")[2])) < 65536:
            raise BadInput(f"'{name}' is a TCP port, or 0 where there is none, not {port}.")
    for title in (settings.dimse.aet, *(entry.partition("=")[0] for entry in settings.dimse.titles)):
        if not _AET.fullmatch(title):
            raise BadInput(
                f"'{title}' is no AE title: 1 to 16 printable ASCII characters, no backslash, no space around."
            )
    system = settings.amend.system
    if not (system.strip() and len(system) <= 64 and system.isprintable() and "\\" not in system):
        raise BadInput("'amend.system' has 1 to 64 printable characters and no backslash.")
    for origin in settings.http.cors_origins:
        if not _ORIGIN.fullmatch(origin):
            raise BadInput(
                f"'http.cors_origins' holds '{origin}': an origin is https://HOST or https://HOST:PORT in small letters,"
                " nothing behind it, and never '*', which would be every page there is."
            )
    for section in (settings, settings.limits, settings.dimse):
        for entry in fields(section):
            value = getattr(section, entry.name)
            if type(value) is int and value < (entry.name not in ("workers", "port", "tls_port")):
                raise BadInput(f"'{entry.name}' cannot be {value}.")
    if len(set(settings.keys.keyring)) < 2:
        raise BadInput("'keys.keyring' names two places or more, so that the loss of one loses nothing.")
    return settings


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def _no_home(home: Path) -> str:
    """Why `home` is no home, and what to do next."""
    beside = [path.parent.name for path in home.parent.glob(f"*/{FILE}")] if home.parent.is_dir() else []
    close = difflib.get_close_matches(home.name, beside, n=1, cutoff=0.5)
    if close:
        return f"{home} is no Radiolith home. Did you mean {home.parent / close[0]}?"
    if (home.parent / FILE).is_file():
        return f"{home} is no Radiolith home. Did you mean {home.parent}?"
    return f"{home} is no Radiolith home. `radiolith init --home {home}` makes one."


# ---------------------------------------------------------------- writing


def write_default(home: Path) -> Path:
    """Write `radiolith.toml`: every setting at its default, commented out, with its reason. Never overwrites one."""
    path = home / FILE
    with path.open("x", encoding="utf-8") as file:
        file.write("\n".join(described()) + "\n")
    return path


def described() -> Iterator[str]:
    """The lines of a settings file in which every setting is explained and left at its default."""
    yield "# Settings of this Radiolith home. Remove a leading '#' to change a value; {home} is this directory."
    yield "# Every setting can also be given as a variable: [http] port as RADIOLITH_HTTP_PORT. Read once, at start."
    section = None
    for name, _, entry in _entries(Settings):
        here, _, key = name.rpartition(".")
        if here != section:
            section = here
            yield from (["", f"[{here}]"] if here else [])
        yield ""
        yield f"# {entry.metadata['why']}"
        yield from ([f"# [{name}]"] if key == "peers" else [f"#{key} = {_literal(_default(entry))}"])


def _entries(cls: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """(dotted name, type, field) of every setting, a section's own settings before its subsections."""
    hints = get_type_hints(cls)
    nested = [entry for entry in fields(cls) if dataclasses.is_dataclass(hints[entry.name])]
    for entry in fields(cls):
        if entry not in nested and entry.name != "home":
            yield prefix + entry.name, hints[entry.name], entry
    for entry in nested:
        yield from _entries(hints[entry.name], f"{prefix}{entry.name}.")


def _literal(value: Any) -> str:
    """A default as TOML writes it (JSON does, for these types)."""
    return json.dumps(value, ensure_ascii=False)
