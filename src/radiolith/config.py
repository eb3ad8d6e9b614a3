"""Every setting: its name, its default, its reason. Read once, frozen, handed down.

Owns: the table of settings (the dataclasses below), `radiolith.toml` in the home and the `RADIOLITH_...` overrides.
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
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast, get_type_hints

from radiolith.model import BadInput, NotFound

FILE = "radiolith.toml"
PREFIX = "RADIOLITH_"
FOREIGN = ("RADIOLITH_HOME", "RADIOLITH_LONG", "RADIOLITH_TEST_", "RADIOLITH_BENCH_")
"""Variables with our prefix that are no settings: the default home, and what tests and benchmarks read."""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
DIMSE_PORT = 11112
"""Registered for DICOM (PS3.8 9.1.1)."""


def _setting(default: Any, why: str) -> Any:
    """One setting: its default, and the sentence that stands above it in the written file."""
    return field(default=default, metadata={"why": why})


@dataclass(frozen=True, slots=True)
class Http:
    host: str = _setting("127.0.0.1", "Where to listen. Loopback only until you change it; put TLS in front first.")
    behind_tls: bool = _setting(
        False, "A TLS proxy stands in front: only then may it listen on an address other machines reach."
    )
    port: int = _setting(8050, "TCP port of the pages and of DICOMweb.")
    cors_origins: tuple[str, ...] = _setting(
        (), "Foreign pages that may call DICOMweb from a browser (CORS), as https://HOST[:PORT], each by name."
    )


@dataclass(frozen=True, slots=True)
class Dimse:
    host: str = _setting(
        "127.0.0.1", "Where to listen for DICOM. As long as it is loopback (and HTTP too) every AE title here may call."
    )
    port: int = _setting(
        DIMSE_PORT,
        "TCP port of DICOM; 0 listens nowhere. The usual one is passed over, with a warning, when it is taken.",
    )
    aet: str = _setting("RADIOLITH", "The AE title of this archive: 1 to 16 characters.")
    titles: tuple[str, ...] = _setting(
        (), "Further AE titles it answers to: 'TITLE', or 'TITLE=TENANT' for an archive of its own on the same port."
    )
    pdu_bytes: int = _setting(
        256 * KIB, "Bytes of a P-DATA-TF PDU that a peer may send. Nothing is held, so large is good."
    )
    associations: int = _setting(200, "Associations at a time, of all workers; more are rejected, to be tried again.")
    associations_per_address: int = _setting(100, "The same from one network address.")
    idle_seconds: int = _setting(300, "Seconds without a message after which an association is aborted.")
    unknown_classes: bool = _setting(True, "Keep objects of private SOP classes and of those newer than this program.")
    tls_port: int = _setting(0, "TCP port of DICOM over TLS, 2762 as registered, beside the other or alone; 0: none.")
    tls_certificate: str = _setting("", "PEM file: our certificate, and those up to its CA; shown to peers too.")
    tls_key: str = _setting("", "PEM file: the private key of the certificate, without a passphrase; mode 0600.")
    tls_authorities: str = _setting("", "PEM file: CAs of devices' certificates. Without it, peers by the system's.")
    tls_clients: str = _setting("required", "Certificates of devices: 'required', 'asked' (and checked), or 'off'.")


@dataclass(frozen=True, slots=True)
class Database:
    url: str = _setting("sqlite:///{home}/index.db", "The index: sqlite:///FILE, or postgresql://USER@HOST/NAME.")


@dataclass(frozen=True, slots=True)
class Tier:
    url: str = _setting("file://{home}/tier", "Where segments live: file:///DIRECTORY, or s3://BUCKET/PREFIX.")
    endpoint: str = _setting("", "S3: address of the service, when it is not Amazon's.")
    region: str = _setting("", "S3: region.")
    access_key_id: str = _setting("", "S3: key id. Better given as RADIOLITH_TIERS_HOT_ACCESS_KEY_ID.")
    secret_access_key: str = _setting("", "S3: secret. Better given as RADIOLITH_TIERS_HOT_SECRET_ACCESS_KEY.")
    allow_http: bool = _setting(False, "S3: permit an unencrypted connection (a test service on this machine).")


@dataclass(frozen=True, slots=True)
class Tiers:
    hot: Tier = field(default_factory=Tier)


@dataclass(frozen=True, slots=True)
class Keys:
    root: str = _setting("{home}/root.key", "The root key's file (mode 0600). Keep it off the disk of the tier.")
    keyring: tuple[str, ...] = _setting(
        ("file://{home}/keyring", "{tiers.hot.url}/keyring"),
        "Places of the keyring, two or more; the first gives the order, each of them alone is enough to read.",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    pool_bytes: int = _setting(
        32 * MIB, "Bytes, per worker: objects on their way in. Past it they go to disk as they arrive, not to memory."
    )
    object_bytes: int = _setting(
        64 * GIB, "Bytes of one object. The largest whole-slide and cine objects met so far are below 20 GiB."
    )
    part_header_bytes: int = _setting(
        16 * KIB, "Bytes of the header lines of one multipart part. Real ones have less than 1 KiB."
    )
    results: int = _setting(
        1000, "Results of one search page. A client that asks for more gets this many and is told there are more."
    )
    sign_in_attempts: int = _setting(
        10,
        "Failed sign-ins of one user from one address in 15 minutes before further ones are refused unheard for a while;"
        " 20 times as many of one address. A user who fails that often from anywhere is heard more slowly.",
    )
    session_seconds: int = _setting(12 * 3600, "Seconds a signed-in page stays signed in: a shift.")


@dataclass(frozen=True, slots=True)
class Versions:
    policy: str = _setting(
        "first", "Other content under a UID we hold: 'first' stays current, 'newest' takes over, or 'ask'."
    )
    peers: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata={
            "why": "The same per sender (AE title, or user or token name): NAME = 'newest'. Variable: A=newest,B=ask."
        },
    )


@dataclass(frozen=True, slots=True)
class Log:
    level: str = _setting("info", "How much is logged: debug, info, warning or error. Never patient data.")


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path
    workers: int = _setting(0, "Worker processes of `radiolith serve`; 0 means one per processor, 8 at most.")
    http: Http = field(default_factory=Http)
    dimse: Dimse = field(default_factory=Dimse)
    database: Database = field(default_factory=Database)
    tiers: Tiers = field(default_factory=Tiers)
    keys: Keys = field(default_factory=Keys)
    limits: Limits = field(default_factory=Limits)
    versions: Versions = field(default_factory=Versions)
    log: Log = field(default_factory=Log)


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
    for name in ("http.port", "dimse.port", "dimse.tls_port"):
        if not 0 <= (port := getattr(getattr(settings, name.partition(".")[0]), name.partition(".")[2])) < 65536:
            raise BadInput(f"'{name}' is a TCP port, or 0 where there is none, not {port}.")
    for title in (settings.dimse.aet, *(entry.partition("=")[0] for entry in settings.dimse.titles)):
        if not _AET.fullmatch(title):
            raise BadInput(
                f"'{title}' is no AE title: 1 to 16 printable ASCII characters, no backslash, no space around."
            )
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
