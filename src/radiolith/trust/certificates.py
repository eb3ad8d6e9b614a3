"""Certificates and TLS for DICOM: what this archive shows, and whom it believes (PS3.15 B.12, RFC 9325).

Owns: the PEM files of the settings, how TLS is spoken, and taking up new files without a restart. Must never: open a
connection, send a key anywhere, or go on with less than the settings ask for: what cannot be read is an error in words at
start; later the certificates that were good stay, and the log says what is wrong with the new ones.

Limits: the files are looked at once in LOOK seconds at most, when a connection begins. TLS 1.2 with the four suites of
RFC 9325 4.2, TLS 1.3; no compression, no renegotiation, no session tickets: every connection proves itself anew.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from radiolith.config import Dimse
from radiolith.model import BadInput, Failure
from radiolith.storage.blobs import microseconds

LOOK = 1.0
SOON_DAYS = 30
"""A certificate that ends within so many days is said in the log whenever it is loaded."""
SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
"""Of TLS 1.2 (PS3.15 B.12). At security level 2: RSA of 2048 bits, curves of 224, and no SHA-1."""
_VERIFY = {"required": ssl.CERT_REQUIRED, "asked": ssl.CERT_OPTIONAL, "off": ssl.CERT_NONE}
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Loaded:
    """`stamps`: of the files it was made of; `server` is None without a certificate."""

    stamps: tuple[tuple[int, int, int], ...]
    server: ssl.SSLContext | None
    client: ssl.SSLContext


class Certificates:
    """`clock`: microseconds; `monotonic`: seconds."""

    def __init__(
        self,
        dimse: Dimse,
        clock: Callable[[], int] = microseconds,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        self._dimse, self._clock, self._monotonic = dimse, clock, monotonic
        self._loaded: _Loaded | None = None
        self._tried: tuple[tuple[int, int, int], ...] = ()
        self._looked = 0.0

    def server(self) -> ssl.SSLContext:
        """For the next connection that somebody opens to us. Raises BadInput, in words."""
        context, dimse = self._present().server, self._dimse
        if context is None:
            raise BadInput(_unset("dimse.tls_certificate", "the port for TLS needs a certificate"))
        if dimse.tls_clients != "off" and not dimse.tls_authorities:
            what = "devices are to show certificates (dimse.tls_clients = 'off' asks for none)"
            raise BadInput(_unset("dimse.tls_authorities", what))
        return context

    def client(self) -> ssl.SSLContext:
        """For the next connection that we open: ours is shown where it is asked for. Raises BadInput, in words."""
        return self._present().client

    def _present(self) -> _Loaded:
        now = self._monotonic()
        if self._loaded is None or now - self._looked >= LOOK:
            self._looked = now
            stamps = tuple(map(_stamp, self._files()))
            if self._loaded is None or stamps not in (self._loaded.stamps, self._tried):
                self._tried = stamps
                self._load(stamps)
        assert self._loaded is not None
        return self._loaded

    def _load(self, stamps: tuple[tuple[int, int, int], ...]) -> None:
        again = self._loaded is not None
        try:
            self._loaded = self._made(stamps)
        except Failure as failure:
            if not again:
                raise
            log.error("new certificates cannot be used, the old ones stay", reason=str(failure))
        else:
            if again:
                log.info("new certificates are in use")

    def _files(self) -> Sequence[str]:
        return self._dimse.tls_certificate, self._dimse.tls_key, self._dimse.tls_authorities

    def _made(self, stamps: tuple[tuple[int, int, int], ...]) -> _Loaded:
        dimse, server = self._dimse, None
        if dimse.tls_certificate or dimse.tls_key:
            self._check_own()
            server = _spoken(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            server.num_tickets = 0
            server.verify_mode = _VERIFY[dimse.tls_clients]
            self._believe(server)
        client = _spoken(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        if dimse.tls_authorities:
            self._believe(client)
        else:
            client.load_default_certs()
        for context in (server, client) if server is not None else ():
            try:
                context.load_cert_chain(dimse.tls_certificate, dimse.tls_key)
            except ssl.SSLError as error:  # a weak key, most likely
                raise BadInput(f"the certificate {dimse.tls_certificate} cannot be used: {error.reason}") from None
        return _Loaded(stamps, server, client)

    def _believe(self, context: ssl.SSLContext) -> None:
        if self._dimse.tls_authorities:
            authorities = _certificates("dimse.tls_authorities", self._dimse.tls_authorities)
            pem = b"".join(each.public_bytes(Encoding.PEM) for each in authorities)
            context.load_verify_locations(cadata=pem.decode())

    def _check_own(self) -> None:
        """What OpenSSL would say in one word, or not at all."""
        dimse = self._dimse
        own = _certificates("dimse.tls_certificate", dimse.tls_certificate)[0]
        try:
            key = load_pem_private_key(_read("dimse.tls_key", dimse.tls_key), None)
        except TypeError:
            raise BadInput(f"'dimse.tls_key' {dimse.tls_key} has a passphrase: nobody could type it at start") from None
        except ValueError:
            raise BadInput(f"'dimse.tls_key' {dimse.tls_key} is no private key in PEM form") from None
        public = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if key.public_key().public_bytes(*public) != own.public_key().public_bytes(*public):
            raise BadInput("'dimse.tls_key' is not the key of the first certificate in 'dimse.tls_certificate'")
        now, until = datetime.fromtimestamp(self._clock() / 1e6, UTC), own.not_valid_after_utc
        if not own.not_valid_before_utc <= now < until:
            when = f"expired on {until:%Y-%m-%d}" if now >= until else f"begins on {own.not_valid_before_utc:%Y-%m-%d}"
            raise BadInput(f"the certificate {dimse.tls_certificate} {when}: have it renewed, or set the clock right")
        if (days := (until - now).days) < SOON_DAYS:
            log.warning("the certificate for DICOM ends soon", days=days, file=dimse.tls_certificate)


def secured() -> ssl.SSLContext:
    """To a peer, without a certificate of ours: its own and its name are checked against what this machine trusts
    (SSL_CERT_FILE and SSL_CERT_DIR say what)."""
    return Certificates(Dimse()).client()


def name_to_know(names: Iterable[str]) -> str:
    """By which of the names in its certificate a device is best known: a host name before another word, both before an
    address, which may change, and a name that stands for many last. '' for none."""
    return min(names, key=lambda name: ("*" in name, _is_address(name), "." not in name, name), default="")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _spoken(context: ssl.SSLContext) -> ssl.SSLContext:
    """What a file of authorities names is believed itself, be it a root, a CA below one, or a device's own certificate."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.verify_flags |= ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_ciphers(":".join(("@SECLEVEL=2", *SUITES)))
    return context


def _certificates(setting: str, path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(setting, path))
    except ValueError:
        raise BadInput(f"'{setting}' {path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None


def _read(setting: str, path: str) -> bytes:
    if not path:
        raise BadInput(_unset(setting, "a certificate and its key belong together"))
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"'{setting}' {path} cannot be read: {error.strerror}") from None


def _unset(setting: str, why: str) -> str:
    return f"'{setting}' names no file, and {why}: give one in radiolith.toml"


def _stamp(path: str) -> tuple[int, int, int]:
    """What changes with a file; a file that is not there is one state too."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino
