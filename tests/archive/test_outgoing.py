"""What `radiolith associations` says of associations that we opened."""

from __future__ import annotations

from typing import Any

import pytest

from radiolith.archive import outgoing
from radiolith.archive.associations import hints, is_problem
from radiolith.dimse import handshake

AT = 1_700_000_000_000_000
CT, MR = "CT Image Storage", "MR Image Storage"


def context(service: str, result: str = "acceptance") -> dict[str, str]:
    return {"service": service, "syntax": "Explicit VR Little Endian", "result": result}


OK: dict[str, Any] = {
    "at": AT, "ended_at": AT + 25_000, "direction": "outgoing", "tenant": 1, "address": "10.0.0.5:104",
    "calling": "RADIOLITH", "called": "WS1", "principal": "ws1", "implementation": "DCMTK", "pdu_bytes": 16384,
    "outcome": "accepted", "rejection": "", "end": "released", "received_bytes": 512,
    "contexts": [context(CT), context(CT, "transfer-syntaxes-not-supported (provider rejection)")],
    "operations": [{"operation": "C-STORE", "status": "0000", "count": 3}],
}  # fmt: skip
UNREACHED = {"outcome": "no connection", "contexts": [], "operations": []}
REFUSED = {"outcome": "rejected: x", "contexts": [], "operations": [], "end": "rejected (x)"}


def words(trace: dict[str, Any]) -> str:
    return " ".join(hints(trace, ["RADIOLITH"], ()))


def test_what_went_well_needs_no_hint() -> None:
    """Also where one of a class's syntaxes is refused and another taken."""
    assert not is_problem(OK) and words(OK) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (REFUSED | {"rejection": "a, b: calling-AE-title-not-recognized"}, "enter the AE title 'RADIOLITH'"),
        (REFUSED | {"rejection": "a, b: called-AE-title-not-recognized"}, "does not answer to 'WS1'"),
        (REFUSED | {"rejection": "a, b: local-limit-exceeded"}, "tried again"),
        (REFUSED | {"rejection": "a, b: no-reason-given"}, "does not say why"),
        (UNREACHED | {"end": "10.0.0.5:104 refuses the connection: nothing listens there"}, "Nothing listens at 10.0.0.5:104"),
        (UNREACHED | {"end": "the host name ws1 is not known"}, "use its address"),
        (UNREACHED | {"end": "10.0.0.5:104 does not answer: no connection within 10 s"}, "a firewall drops"),
        (UNREACHED | {"end": "x"}, "radiolith peer test ws1"),
        ({"outcome": "no answer to the request for an association", "contexts": [], "operations": [],
          "end": "ended here: the peer did not answer in time"}, "another program has this port"),
        ({"contexts": [context(CT), context(MR, "abstract-syntax-not-supported (provider rejection)")]},
         "takes nothing of 'MR Image Storage': abstract-syntax-not-supported"),
        ({"end": "aborted by the peer (A-ABORT, service-user, reason 0)"}, "ended it after 3 requests"),
        ({"end": "ended here: the peer did not answer in time"}, "it hangs"),
        ({"end": "the transport connection was closed"}, "a network fault"),
        ({"operations": [{"operation": "C-STORE", "status": "A702", "count": 1}]}, "Status A702: the peer has no room"),
        ({"operations": [{"operation": "C-STORE", "status": "0124", "count": 1}]}, "does not allow"),
        ({"operations": [{"operation": "C-STORE", "status": "no answer", "count": 1}]}, "before the request was answered"),
    ],
)  # fmt: skip
def test_what_does_not_work_has_words(change: dict[str, Any], said: str) -> None:
    assert is_problem(OK | change)
    assert said in words(OK | change)


def test_every_reason_of_a_handshake_has_something_to_do() -> None:
    fallback = outgoing._HANDSHAKES[""]
    for reason in handshake._REASONS.values():
        said = words(OK | UNREACHED | {"end": f"no TLS with 10.0.0.5:104: {reason}"})
        of_a_server = "HTTP" in reason or "shows no certificate" in reason
        assert said and (of_a_server or fallback not in said), reason
    late = words(OK | {"end": "TLS ended: the peer says that our certificate has expired"})
    assert "Renew the certificate of `dimse.tls_certificate`" in late
