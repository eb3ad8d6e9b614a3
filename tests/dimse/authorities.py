"""Certificates for the tests of TLS: an authority, and what it signs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    certificate: str
    key: str


class Authority:
    """`file` is its certificate; `sign` makes one for names, an address as one of them."""

    def __init__(self, folder: Path, name: str = "authority"):
        self._folder, self._name, self._key = folder, _called(name), ec.generate_private_key(ec.SECP256R1())
        self.file = str(folder / f"{name}.pem")
        made = _begun(self._name, self._name, self._key, (-1, 30))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        Path(self.file).write_bytes(made.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def sign(self, *names: str, days: tuple[float, float] = (-1, 20), file: str = "") -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        made = _begun(_called(names[0]), self._name, key, days)
        made = made.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        pair = Pair(*(str(self._folder / f"{file or names[0]}.{kind}") for kind in ("crt", "key")))
        Path(pair.certificate).write_bytes(made.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        Path(pair.key).write_bytes(private)
        return pair


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _begun(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: tuple[float, float]
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
