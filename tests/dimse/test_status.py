"""Failures as statuses."""

from __future__ import annotations

import pytest

from radiolith import model
from radiolith.dimse.commands import Command, decode_command, encode_command
from radiolith.dimse.status import COMMENT_MAX, UNEXPECTED_COMMENT, Refused, Service, Status, comment, trouble

FAILURES = [kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, model.Failure)]


@pytest.mark.parametrize(
    ("service", "failure", "status"),
    [
        (Service.STORE, model.NoSpace("full"), 0xA700),
        (Service.STORE, model.Unavailable("down"), 0xA700),
        (Service.STORE, model.LimitExceeded("too long"), 0xA700),
        (Service.STORE, model.NotAllowed("no"), 0x0124),
        (Service.STORE, model.BadInput("no data set"), 0xC000),
        (Service.STORE, model.Conflict("another study"), 0xA900),
        (Service.STORE, RuntimeError("ours"), 0xA700),
        (Service.FIND, model.Unavailable("down"), 0xA700),
        (Service.FIND, model.BadInput("no date"), 0xC001),
        (Service.FIND, model.NotAllowed("no"), 0x0124),
        (Service.RETRIEVE, model.LimitExceeded("too many"), 0xA701),
        (Service.RETRIEVE, model.Unavailable("down"), 0xA702),
        (Service.RETRIEVE, RuntimeError("ours"), 0xC001),
        (Service.NORMALIZED, model.NotFound("none"), 0x0112),
        (Service.NORMALIZED, RuntimeError("ours"), 0x0110),
        (Service.FIND, Refused(0xA900, "no level", 0x00080052), 0xA900),
    ],
)
def test_the_status_of_a_failure(service: Service, failure: Exception, status: int) -> None:
    assert trouble(service, failure).status == status


@pytest.mark.parametrize("service", Service)
def test_every_failure_has_a_status_that_says_failure(service: Service) -> None:
    for kind in FAILURES:
        status = trouble(service, kind("a sentence")).status
        assert status in (0x0110, 0x0112, 0x0115, 0x0124, 0x0213) or status >> 12 in (0xA, 0xC)


def test_what_is_not_for_the_peer_is_not_told() -> None:
    assert trouble(Service.FIND, RuntimeError("SELECT")).comment == UNEXPECTED_COMMENT
    assert trouble(Service.FIND, model.Damaged("segment 7")).comment == UNEXPECTED_COMMENT


def test_a_comment_fits_its_element() -> None:
    assert comment("short") == "short"
    assert comment("Größe\\n\n") == "Gr??e?n?"
    long = comment("this sentence goes on and on " * 5)
    assert len(long) <= COMMENT_MAX
    assert long.endswith("...")
    assert len(comment("x" * 100)) == COMMENT_MAX


def test_a_refusal_travels_in_a_response() -> None:
    request = Command.of("C-FIND-RQ", True, MessageID=7, AffectedSOPClassUID="1.2.3")
    told = trouble(Service.FIND, Refused(Status.DOES_NOT_MATCH_SOP_CLASS, "no level", 0x00080052))
    answer = decode_command(encode_command(told.answer(request)))
    assert (answer.status, answer["OffendingElement"], answer["ErrorComment"]) == (0xA900, (0x00080052,), "no level")
