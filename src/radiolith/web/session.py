"""Who asks: the session of a signed-in page, or a bearer token; and which requests a session counts for.

Owns: the session cookie. Must never: decide what a principal may do.

A browser sends the cookie whoever made it ask. SameSite=Strict keeps it from foreign pages; where the browser says who
asked (Sec-Fetch-Site), that is checked too; and what changes something needs an Origin that is ours. Calls under
/api/v1 that change something need one thing more, a header that no foreign page can set without a CORS preflight, which
is never granted.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from radiolith.model import NotAllowed, NotAuthenticated, Principal
from radiolith.web.ports import Identities

SECURE_COOKIE, PLAIN_COOKIE = "__Host-radiolith", "radiolith"
"""With TLS and without: browsers refuse the __Host- prefix, which pins a cookie to this host, where there is no TLS."""
CREDENTIAL_BYTES_MAX = 4096
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def cookie_of(request: Request) -> str | None:
    """The session cookie's value, or None."""
    value = request.cookies.get(SECURE_COOKIE) or request.cookies.get(PLAIN_COOKIE)
    return value if value and len(value) <= CREDENTIAL_BYTES_MAX and value.isascii() else None


async def signed_in(identities: Identities, request: Request) -> Principal | None:
    """The principal of a page's session, or None where nobody is signed in."""
    cookie = cookie_of(request)
    if cookie is None or request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return None
    try:
        return await identities.from_session(cookie)
    except NotAuthenticated:
        return None


async def caller(identities: Identities, request: Request) -> Principal:
    """The principal of a call under /api/v1: a bearer token, or the session of our own pages.

    Raises NotAuthenticated, or NotAllowed for a request that another site made the browser send.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        kind, _, token = authorization.partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token or len(token) > CREDENTIAL_BYTES_MAX or not token.isascii():
            raise NotAuthenticated("only bearer tokens are understood")
        return await identities.from_bearer(token, request.client.host if request.client else "")
    if request.method not in SAFE:
        require_own_page(request)
        if "x-requested-with" not in request.headers:
            raise NotAllowed("a session counts only for requests of our own pages")
    principal = await signed_in(identities, request)
    if principal is None:
        raise NotAuthenticated("this needs a bearer token or a session")
    return principal


def require_own_page(request: Request) -> None:
    """For what changes something: raises NotAllowed unless the browser says that our own page sent it."""
    site = request.headers.get("sec-fetch-site")
    origin = urlsplit(request.headers.get("origin", ""))
    ours = origin.scheme in ("http", "https") and origin.netloc == request.headers.get("host", "")
    if site not in (None, "same-origin") or not ours:
        raise NotAllowed("this form was not sent by our own page")


def is_secure(request: Request) -> bool:
    """Whether the browser's side of the connection has TLS: ours, or that of the proxy in front."""
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"


def give(response: Response, request: Request, value: str, seconds: int) -> None:
    """Set the session cookie; no script can read it, and no foreign page makes a browser send it."""
    secure = is_secure(request)
    response.set_cookie(
        SECURE_COOKIE if secure else PLAIN_COOKIE,
        value,
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def take_away(response: Response) -> None:
    response.delete_cookie(PLAIN_COOKIE, path="/", httponly=True, samesite="strict")
    response.delete_cookie(SECURE_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
