"""Who asks: a bearer token, or the session of the bundled pages; turned into a principal by trust/identity.

Owns: which credential counts for which request. Must never: decide what the principal may do.

A session cookie goes with every request a browser makes, whoever made it ask. So it counts only where the browser says
that our own page asked (Sec-Fetch-Site), and for methods that change something only with two more proofs that no
foreign page can bring: an Origin that is ours and a header that a foreign page cannot set without a CORS preflight,
which is never granted (reliability T49).
"""

from __future__ import annotations

from typing import Protocol

from radiolith.model import BadInput, NotAllowed, NotAuthenticated, Principal

COOKIES = (b"__Host-radiolith", b"radiolith")  # the second where there is no TLS: browsers refuse __Host- there
CSRF_HEADER = b"x-requested-with"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CREDENTIAL_BYTES_MAX = 4096


class Identities(Protocol):
    """The part of trust.identity this edge needs. Both raise NotAuthenticated."""

    async def from_bearer(self, token: str, address: str = "") -> Principal: ...

    async def from_session(self, cookie: str) -> Principal: ...


async def authenticate(
    identities: Identities, method: str, headers: dict[bytes, bytes], scheme: str, address: str = ""
) -> Principal:
    """The principal of a request from `address`. A token wins over a cookie.

    Raises NotAuthenticated, or NotAllowed for a forgery.
    """
    authorization = headers.get(b"authorization")
    if authorization is not None:
        kind, _, token = authorization.partition(b" ")
        if kind.lower() != b"bearer" or not token.strip():
            raise NotAuthenticated("only bearer tokens are understood")
        return await identities.from_bearer(_text(token), address)
    cookie = _session(headers.get(b"cookie", b""))
    if cookie is None:
        raise NotAuthenticated("this needs a bearer token or a session")
    _same_origin(method, headers, scheme)
    return await identities.from_session(cookie)


def _text(credential: bytes) -> str:
    if len(credential) > CREDENTIAL_BYTES_MAX:
        raise BadInput("the credential is too long")
    try:
        return credential.strip().decode("ascii")
    except UnicodeDecodeError:
        raise NotAuthenticated("the credential is not one of ours") from None


def _session(header: bytes) -> str | None:
    pairs = (crumb.strip().partition(b"=") for crumb in header.split(b";"))
    crumbs = {name: value for name, _, value in pairs}
    return next((_text(crumbs[name]) for name in COOKIES if crumbs.get(name)), None)


def _same_origin(method: str, headers: dict[bytes, bytes], scheme: str) -> None:
    site = headers.get(b"sec-fetch-site")
    if method in SAFE:
        # 'none' is a person who typed the address; an absent header an old browser, for which SameSite=Strict stands.
        if site not in (None, b"same-origin", b"none"):
            raise NotAllowed("a session counts only for requests of our own pages")
        return
    origin = headers.get(b"origin", b"")
    ours = scheme.encode("ascii") + b"://" + headers.get(b"host", b"")
    if site not in (None, b"same-origin") or origin != ours or not headers.get(CSRF_HEADER):
        raise NotAllowed("a session counts only for requests of our own pages")
