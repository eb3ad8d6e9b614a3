"""Hints in words for associations that we opened: to send, to ask for storage commitment, to report.

Owns: what to do about each way in which a peer is not reached or does not take what we want. Must never: look anything up.

Limits: SERVICES_MAX services named in one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SERVICES_MAX = 4
_ACCEPTED = "acceptance"


def hints(trace: Mapping[str, Any]) -> Iterator[str]:
    """What to do about it, a sentence each; `dimse.recording` and `dimse.scu` have the words. Nothing where all went well."""
    outcome, end = str(trace.get("outcome", "")), str(trace.get("end", ""))
    name = str(trace.get("principal", "")) or "NAME"
    again = f"Try it step by step: radiolith peer test {name}"
    if outcome.startswith("rejected"):
        yield from _of_rejection(trace, name)
        return
    if not outcome.startswith("accepted"):
        yield f"{_of_silence(trace, end)} {again}"
        return
    refused = refused_services(trace)
    for reason, services in refused.items():
        more = f" and {len(services) - SERVICES_MAX} more" if len(services) > SERVICES_MAX else ""
        named = ", ".join(f"'{service}'" for service in services[:SERVICES_MAX])
        yield f"The peer takes nothing of {named}{more}: {reason}. Switch that on there, or do not send it there."
    if end.startswith("aborted by the peer"):
        yield f"The peer itself ended it after {_requests(trace)}: its own log says why."
    elif "did not answer in time" in end:
        yield f"The peer took the association and then said nothing after {_requests(trace)}: it hangs, or its disk does."
    elif end in ("the connection was lost", "the connection was closed", "the transport connection was closed"):
        yield "The connection was lost without release or abort: a network fault, a firewall, or the peer was switched off."
    elif end.startswith("TLS ended"):
        yield _found(_HANDSHAKES, end)
    for status in dict.fromkeys(str(each["status"]) for each in trace.get("operations", ())):
        words = next((words for head, words in _STATUSES.items() if status.startswith(head)), "")
        if words:
            yield f"Status {status}: {words}"


def refused_services(trace: Mapping[str, Any]) -> dict[str, list[str]]:
    """Reason -> services of which the peer accepted no presentation context: nothing of theirs can be sent."""
    contexts: Sequence[Mapping[str, Any]] = trace.get("contexts", ())
    good = {str(each.get("service")) for each in contexts if each.get("result") == _ACCEPTED}
    found: dict[str, list[str]] = {}
    for each in contexts:
        service, services = str(each.get("service")), found.setdefault(str(each.get("result")), [])
        if service not in good and service not in services:
            services.append(service)
    return {reason: services for reason, services in found.items() if services}


def _requests(trace: Mapping[str, Any]) -> str:
    count = sum(int(each["count"]) for each in trace.get("operations", ()))
    return f"{count} request{'' if count == 1 else 's'}"


def _of_rejection(trace: Mapping[str, Any], name: str) -> Iterator[str]:
    calling, called = str(trace.get("calling", "")), str(trace.get("called", ""))
    reason = str(trace.get("rejection", "")).rpartition(": ")[2]
    if reason == "calling-AE-title-not-recognized":
        yield (
            f"The peer does not know us: enter the AE title '{calling}' with this machine's address and `dimse.port` there,"
            " or call with the title it knows (`dimse.aet`)."
        )
    elif reason == "called-AE-title-not-recognized":
        yield f"The peer does not answer to '{called}': look up its AE title, and say it with radiolith peer add {name} --aet"
    elif reason in ("local-limit-exceeded", "temporary-congestion"):
        yield "The peer has no room for more associations now; what is in the outbox is tried again."
    else:
        yield f"The peer does not say why: most often it does not know the AE title '{calling}', or not from this address."


def _of_silence(trace: Mapping[str, Any], end: str) -> str:
    if "refuses the connection" in end:
        return (
            f"Nothing listens at {trace.get('address', '')}: the peer's service is not running, or it has another port."
        )
    if "is not known" in end and "host name" in end:
        return "The peer's host name cannot be looked up: correct it, or use its address."
    if "no connection within" in end:
        return "The peer is switched off, or a firewall drops what we send: from here nothing is to be seen of it."
    if "TLS" in end or "certificate" in end:
        return _found(_HANDSHAKES, end)
    if "did not answer in time" in end:
        return (
            "Something took the connection and said nothing: another program has this port, or the peer waits for TLS."
        )
    return "The connection ended before the peer answered: another program may have this port, or the peer wants TLS."


def _found(table: Mapping[str, str], end: str) -> str:
    return next(hint for words, hint in table.items() if words in end)


_HANDSHAKES = {
    "speaks no TLS": "The peer's port is one without TLS: give its TLS port, or leave `--tls` out of its entry.",
    "our certificate has expired": "Renew the certificate of `dimse.tls_certificate`; no restart is needed.",
    "has expired": "Have the peer's certificate renewed, or set the clock of this machine right.",
    "not valid yet": "Set the clock of this machine right, or that of the authority that made the certificate.",
    "for another name": "Say the name in the peer's certificate with `--certificate` in its entry.",
    "not trusted here": "Add the CA of the peer's certificate to the file of `dimse.tls_authorities`; no restart is needed.",
    "CA of our certificate": "Add the CA of this archive's certificate (`dimse.tls_certificate`) to what the peer trusts.",
    "there is none": "The peer wants a certificate of ours: see `dimse.tls_certificate` and `dimse.tls_key`.",
    "wants a certificate": "No common cipher suite, or the peer wants a certificate of ours: see `dimse.tls_certificate`.",
    "too old": "The peer has to speak TLS 1.2 or 1.3, which its maker may have an update for.",
    "cipher suite": "Switch an ECDHE suite with AES-GCM on on the peer (TLS 1.2), or TLS 1.3.",
    "TLS 1.2": "The peer has to speak TLS 1.2 or 1.3, which its maker may have an update for.",
    "our certificate": "The peer does not accept the certificate of `dimse.tls_certificate`: its own log says why.",
    "": "See the settings `dimse.tls_...`, and the peer's own log.",
}
"""Words of the reason (`dimse.handshake`) -> what to do; the first that is found counts."""

_STATUSES = {
    "A7": "the peer has no room or a part of it is down; what is in the outbox is tried again.",
    "A9": "the object does not match its SOP class, in the eyes of the peer; others go on.",
    "C": "the peer cannot read the object; others go on. Its own log says what it misses.",
    "0110": "something failed inside the peer: its own log says what; what is in the outbox is tried again.",
    "0122": "the peer does not keep this SOP class.",
    "0124": "the peer does not allow us this: look at our rights there.",
    "no answer": "the association ended before the request was answered; what is in the outbox is tried again.",
}
"""Beginning of a status -> what it means from a peer (PS3.4 table B.2-1, PS3.7 annex C)."""
