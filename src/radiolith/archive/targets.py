"""Where a webhook may go: the form of its address, and the network addresses behind the name.

Owns: both rules, pure. Must never: resolve or connect. What is posted says which studies there are, and who makes the archive
post may be able to choose the target: so the archive must not become a way to services that trust this machine.

Public targets by https only. Loopback and private addresses (RFC 1918, RFC 4193) need the setting `webhooks.allow_private`, and
may then be http. Link-local (a cloud's metadata service), multicast and the unspecified address never.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from radiolith.model import BadInput, NotAllowed

URL_MAX = 2048  # characters
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_TARGET = re.compile(r"[!-~]*")
_ASSIGNED = ipaddress.IPv4Network(
    "192.0.0.0/24"
)  # RFC 6890: no host's; a cloud has its metadata service at 192.0.0.192
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    secure: bool
    host: str  # without brackets
    port: int
    authority: str  # for the Host header
    path: str  # with the query


def target_of(url: str, *, allow_private: bool) -> Target:
    """Raises BadInput for anything but https://HOST[:PORT]/PATH (http too where private targets are allowed)."""
    if len(url) > URL_MAX or not _TARGET.fullmatch(url):
        raise BadInput(f"an address has at most {URL_MAX} printable ASCII characters and no space")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"this is no address: {error}") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise BadInput("an address looks like https://HOST[:PORT]/PATH")
    if parts.username is not None or parts.fragment or "\\" in url:
        raise BadInput("an address has no user, no fragment and no backslash")
    host = parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc.removesuffix(":")
    if not _HOST.fullmatch(host) or port == 0:
        raise BadInput("the address has no host, or a port that there is not")
    secure = parts.scheme == "https"
    if not secure and not allow_private:
        raise BadInput(
            "https is needed; http only where the setting webhooks.allow_private is true, to private addresses"
        )
    literal = _literal(parts.hostname)
    if literal is not None:
        judge(literal, secure=secure, allow_private=allow_private)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(secure, parts.hostname, port or (443 if secure else 80), parts.netloc, path)


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def judge(address: Address, *, secure: bool, allow_private: bool) -> None:
    """Raises NotAllowed when nothing may be posted to this network address."""
    for one in (address, *_inside(address)):
        if one in _ASSIGNED or one.is_link_local or one.is_multicast or one.is_unspecified:
            raise NotAllowed(f"{address} is link-local, multicast or no address: webhooks never go there")
        if one.is_global and not (one.is_reserved and one not in _NAT64):
            if not secure:
                raise NotAllowed(f"{address} is a public address: webhooks go there by https only")
        elif not allow_private:
            raise NotAllowed(f"{address} is this machine or a private address: only with webhooks.allow_private = true")


def _inside(address: Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses that an IPv6 one stands for (RFC 4291 2.5.5.2, RFC 6052, RFC 3056): where it really leads."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, address.teredo[1] if address.teredo else None]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]
