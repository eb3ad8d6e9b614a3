"""The table of settings: every name, its default, its reason.

Owns: the dataclasses. Must never: read a file or the environment (`config` does), or check what a type cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
class Metrics:
    host: str = _setting("127.0.0.1", "Where /metrics and /health listen when they have a port of their own.")
    port: int = _setting(
        0, "TCP port of /metrics and /health, and then not on that of the pages; whoever reaches it may read. 0: none."
    )


@dataclass(frozen=True, slots=True)
class Webhooks:
    allow_private: bool = _setting(
        False,
        "Webhooks may go to this machine and to private addresses, where no TLS is needed; else to public ones by https.",
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
class Patients:
    domains: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata={
            "why": "Whose patient IDs a sender uses where its headers do not say (AE title, or user or token name): NAME ="
            " 'praxis-meier'. 'inbox:NAME' and 'medium:NAME' are those of strangers: the desk lists them. Variable: A=x,B=y."
        },
    )


@dataclass(frozen=True, slots=True)
class Amend:
    system: str = _setting(
        "RADIOLITH",
        "Who corrects: Modifying System (0400,0563) of amended headers, 1 to 64 characters, with the site best.",
    )


@dataclass(frozen=True, slots=True)
class Index:
    attributes: tuple[str, ...] = _setting(
        (),
        "Attributes searchable beside those of the standard's tables: 'KEYWORD', 'SEQUENCE.KEYWORD', or 'GGGG,EEEE:CREATOR'"
        " of a private one (in a variable: GGGGEEEE:CREATOR). What is held is filled in while serving. 60 bytes a value.",
    )


@dataclass(frozen=True, slots=True)
class Log:
    level: str = _setting("info", "How much is logged: debug, info, warning or error. Never patient data.")


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path
    workers: int = _setting(0, "Worker processes of `radiolith serve`; 0 means one per processor, 8 at most.")
    http: Http = field(default_factory=Http)
    metrics: Metrics = field(default_factory=Metrics)
    webhooks: Webhooks = field(default_factory=Webhooks)
    dimse: Dimse = field(default_factory=Dimse)
    database: Database = field(default_factory=Database)
    tiers: Tiers = field(default_factory=Tiers)
    keys: Keys = field(default_factory=Keys)
    limits: Limits = field(default_factory=Limits)
    versions: Versions = field(default_factory=Versions)
    patients: Patients = field(default_factory=Patients)
    amend: Amend = field(default_factory=Amend)
    index: Index = field(default_factory=Index)
    log: Log = field(default_factory=Log)
