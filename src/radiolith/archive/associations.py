"""What happened on associations with devices, whoever opened them, for whoever has to find out why one does not work.

Owns: who may look, which trace is a problem, and hints in words for the usual mistakes (`outgoing` has those for our own).
Must never: decide who may connect, or show the associations of another tenant. The traces hold nothing about patients
(`dimse.trace`).

Limits: what the ring keeps (`traces`); LIMIT traces of one answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from radiolith import traces
from radiolith.archive import outgoing
from radiolith.archive.deciding import Deciding
from radiolith.config import Settings
from radiolith.index import accounts
from radiolith.index.accounts import Peer
from radiolith.model import NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.certificates import name_to_know
from radiolith.trust.devices import plain, titles

LIMIT = 1000
RING = 100_000
"""More traces than all rings of a home hold: a search for problems goes through all of them."""

Trace = Mapping[str, Any]
"""As `dimse.trace.Trace.told` gives it."""

_ACCEPTED = "acceptance"
_FINE = ("0000", "FE00", "FF00", "FF01", "0001", "0107", "0116")


@dataclass(frozen=True, slots=True)
class Association:
    """`id`: hexadecimal, to ask for it again. `problem`: something on it did not work. `hints`: what to do."""

    id: str
    problem: bool
    hints: tuple[str, ...]
    trace: Trace


class Associations:
    def __init__(self, settings: Settings, deciding: Deciding):
        self._settings, self._deciding = settings, deciding

    async def latest(self, principal: Principal, limit: int = 100, *, problems: bool = False) -> list[Association]:
        """The last ones of the principal's tenant that have ended, the newest first; with `problems` only such."""
        require(principal, Action.ASSOCIATIONS)
        limit = min(limit, LIMIT)
        found = await self._found(principal)
        chosen = [each for each in found if each.problem or not problems][:limit]
        await self._deciding.note(principal, "", "associations", len(chosen))
        return chosen

    async def one(self, principal: Principal, id: str = "") -> Association:
        """The association with this id, the last one for ''. Raises NotFound."""
        require(principal, Action.ASSOCIATIONS)
        found = next((each for each in await self._found(principal) if id in ("", each.id)), None)
        await self._deciding.note(principal, "", "associations", 1 if found else 0)
        if found is None:
            raise NotFound("no association with this id is on record; older ones are forgotten")
        return found

    async def shown(self, aet: str, address: str) -> Mapping[str, Any] | None:
        """The trace of the last call of this title from there; None when it is forgotten."""
        kept = await self._deciding.reading.run(lambda: traces.latest(self._settings.home, RING))
        for trace in kept:
            if (
                not is_outgoing(trace)
                and trace.get("calling") == aet
                and plain(str(trace.get("address", ""))) == address
            ):
                return trace
        return None

    async def _found(self, principal: Principal) -> list[Association]:
        known = titles(self._settings.dimse)
        kept = await self._deciding.reading.run(lambda: traces.latest(self._settings.home, RING))
        peers = await self._deciding.look(lambda read: accounts.peers(read, principal.tenant.id))
        tenant = principal.tenant.name or "default"
        own = [title for title, name in known.items() if name == tenant]

        def seen(trace: Trace) -> bool:
            if is_outgoing(trace):
                return trace.get("tenant") == principal.tenant.id
            return known.get(str(trace.get("called", "")), "default") == tenant

        return [
            Association(_id(trace), is_problem(trace), tuple(hints(trace, own, peers)), trace)
            for trace in kept
            if seen(trace)
        ]


def is_outgoing(trace: Trace) -> bool:
    """Whether we opened it."""
    return trace.get("direction") == "outgoing"


def _id(trace: Trace) -> str:
    return f"{int(trace.get('at', 0)):x}"


def is_problem(trace: Trace) -> bool:
    """Whether somebody should look: refused as a whole, nothing accepted, not ended in order, or a failure answered; and of
    what we send, a service of which nothing was accepted."""
    return (
        not str(trace.get("outcome", "")).startswith("accepted")
        or not _accepted(trace)
        or trace.get("end") != "released"
        or bool(failures(trace))
        or (is_outgoing(trace) and bool(outgoing.refused_services(trace)))
    )


def failures(trace: Trace) -> list[str]:
    """'C-MOVE A801': the answers that said no."""
    return [f"{operation} {status}" for operation, status, _ in _operations(trace) if _failed(status)]


def _failed(status: str) -> bool:
    return status not in _FINE and not status.startswith("B")


def _accepted(trace: Trace) -> bool:
    return any(each.get("result") == _ACCEPTED for each in trace.get("contexts", ()))


def _operations(trace: Trace) -> list[tuple[str, str, int]]:
    return [(str(o["operation"]), str(o["status"]), int(o["count"])) for o in trace.get("operations", ())]


# ---------------------------------------------------------------- hints


def hints(trace: Trace, own: Sequence[str], peers: Sequence[Peer]) -> Iterator[str]:
    """What to do about it, a sentence each. `own`: AE titles of this archive; `peers`: those of the same tenant."""
    if is_outgoing(trace):
        yield from outgoing.hints(trace)
        return
    outcome, end = str(trace.get("outcome", "")), str(trace.get("end", ""))
    if outcome.startswith("rejected"):
        yield from _of_rejection(trace, own, peers)
    elif not outcome.startswith("accepted"):
        yield _of_silence(end)
    elif not _accepted(trace):
        yield from _of_contexts(trace)
    if end.startswith("aborted by the peer"):
        count = sum(each for _, _, each in _operations(trace))
        yield (
            f"The device itself ended it after {count} request{'' if count == 1 else 's'}: its own log says why. Often it is"
            " a time limit of the device, or that a transfer syntax it needs was not accepted."
        )
    if outcome.startswith("accepted") and end in ("the connection was closed", "the transport connection was closed"):
        yield "The connection was lost without release or abort: a network fault, a firewall, or the device was switched off."
    for status in dict.fromkeys(status for _, status, _ in _operations(trace)):
        if status in _STATUSES:
            yield f"Status {status}: {_STATUSES[status]}"


def _of_rejection(trace: Trace, own: Sequence[str], peers: Sequence[Peer]) -> Iterator[str]:
    called = str(trace.get("called", ""))
    reason = str(trace.get("rejection", "")).rpartition(": ")[2]
    if reason == "called-AE-title-not-recognized":
        yield (
            f"The device calls '{called}', this archive answers to {_listed(own)}. Set that as the called AE title on the"
            f" device, or add '{called}' to `dimse.titles`."
        )
    elif reason == "calling-AE-title-not-recognized":
        yield from _of_stranger(trace, peers)
    elif reason == "local-limit-exceeded":
        yield "Let the device open fewer associations, or raise `dimse.associations` or `dimse.associations_per_address`."
    elif reason == "temporary-congestion":
        yield "The archive was stopping, starting or short of something: the device may try again. See `radiolith status`."
    elif reason == "no-reason-given":
        yield "The user identity the device gives (a name with a passcode, or a token) is not one of this archive."


def _of_stranger(trace: Trace, peers: Sequence[Peer]) -> Iterator[str]:
    calling, address, tls = str(trace.get("calling", "")), str(trace.get("address", "")), bool(trace.get("tls"))
    certificate = name_to_know(trace.get("names", ()))
    known = [peer for peer in peers if peer.more.get("aet") == calling]
    alike = [peer for peer in peers if str(peer.more.get("aet", "")).lower() == calling.lower()]
    for peer in known:
        yield f"A peer with the AE title '{calling}' is known {_unlike(trace, peer)}"
    if alike and not known:
        yield f"A peer with the AE title '{alike[0].more.get('aet')}' is known: capital and small letters differ."
    name = re.sub(r"[^a-z0-9]+", "-", calling.lower()).strip("-") or "device"
    secured = " --tls" * tls + (f" --certificate {certificate}" if certificate else "")
    title = f"'{calling}'" if re.search(r"[^A-Za-z0-9_.-]", calling) else calling
    words = f"--aet {title} --address {address} --port PORT{secured}"
    yield f"To let it in: radiolith peer add {name} {words} (PORT: where it listens)"


def _unlike(trace: Trace, peer: Peer) -> str:
    """In what a caller is not the peer of the same title (`trust.devices`)."""
    host, certificate = str(peer.more.get("address", "")), str(peer.more.get("certificate") or "")
    names = list(trace.get("names", ()))
    if peer.more.get("tls") and not trace.get("tls"):
        return f"as '{peer.name}' with TLS, this one calls without: let the device call `dimse.tls_port`."
    if names:
        return f"by a certificate with the name '{certificate or host}', that of this one has {_listed(names)}."
    if certificate:
        return (
            f"by a certificate with the name '{certificate}', this one shows no certificate: give the device one, and see"
            " `dimse.tls_clients`."
        )
    return f"at {host}, this one calls from {trace.get('address', '')}."


def _of_silence(end: str) -> str:
    if end.startswith("TLS: "):
        return _of_handshake(end)
    if "speaks TLS" in end:
        return (
            "The device is set to TLS and this port is not: switch TLS off on the device, or call the port that has it."
        )
    if "speaks HTTP" in end:
        return "A web client calls the DICOM port: DICOMweb has a port of its own (`http.port`)."
    return "Something connected and asked for nothing: a port check or a load balancer, or a device that gave up."


def _of_handshake(end: str) -> str:
    """What to do about a connection that did not get through TLS; `dimse.handshake` has the words."""
    return next((hint for words, hint in _HANDSHAKES.items() if words in end), _HANDSHAKES[""])


def _of_contexts(trace: Trace) -> Iterator[str]:
    """Which services were proposed, and why each was refused."""
    refused: dict[str, list[str]] = {}
    for context in trace.get("contexts", ()):
        refused.setdefault(str(context.get("result", "")), []).append(str(context.get("service", "")))
    for result, proposed in refused.items():
        names = list(dict.fromkeys(proposed))
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        yield f"Nothing was accepted of {_listed(names[:4])}{more}: {result}."
    if not refused:
        yield "The device proposed nothing at all."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "no title"


_HANDSHAKES = {
    "speaks no TLS": "Switch TLS on on the device, or let it call the port without TLS (`dimse.port`).",
    "speaks HTTP": "A web client calls the DICOM port: DICOMweb has a port of its own (`http.port`).",
    "shows no certificate": "Give the device a certificate of a CA in `dimse.tls_authorities`, or see `dimse.tls_clients`.",
    "has expired": "Have the device's certificate renewed, or set the clock of this machine right.",
    "not valid yet": "Set the clock of this machine right, or that of the authority that made the certificate.",
    "not trusted here": "Add the CA of the device's certificate to the file of `dimse.tls_authorities`; no restart is needed.",
    "too old": "The device has to speak TLS 1.2 or 1.3, which its maker may have an update for.",
    "cipher suite": "Switch an ECDHE suite with AES-GCM on on the device (TLS 1.2), or TLS 1.3.",
    "CA of our certificate": "Add the CA of this archive's certificate (`dimse.tls_certificate`) to what the device trusts.",
    "our certificate": "The device does not accept the certificate of `dimse.tls_certificate`: its own log says why.",
    "not over within": "The device connected and did not go on: it may wait for plain DICOM, or the network loses packets.",
    "went away": "Something connected and left: a port check or a load balancer, or a device that does not trust us.",
    "": "See the settings `dimse.tls_...`, and the log of the archive.",
}
"""Words of the reason -> what to do; the first that is found counts."""

_STATUSES = {
    "A700": "there was no space, or a part of the archive was down; nothing was kept. See `radiolith status`.",
    "A801": "the C-MOVE names a destination that is no peer: radiolith peer add NAME --aet AET --address HOST --port N",
    "C000": "the object could not be read; it was not kept.",
    "0124": "the role of this peer or user does not allow it.",
    "0211": "the device asked for what this service does not have.",
    "no answer": "the association ended before the request was answered.",
}
