"""Negotiation: what is answered to a proposal, and what an answer makes usable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from radiolith.dicom import dictionary
from radiolith.dimse.association import (
    CALLED_NOT_RECOGNIZED,
    Accepted,
    Accepts,
    Agreed,
    Caller,
    Context,
    Offer,
    Rejected,
    Wanted,
    agreed,
    negotiate,
    reject_text,
    requests,
    result_text,
)
from radiolith.dimse.items import (
    AnsweredContext,
    CommonExtended,
    Extended,
    Identity,
    ProposedContext,
    ProtocolError,
    Role,
    UserInformation,
    Window,
)
from radiolith.dimse.pdu import AssociateAccept, AssociateReject, AssociateRequest, decode, encode
from radiolith.dimse.sopclasses import (
    COMPOSITE_STORAGE,
    KEPT,
    NON_PATIENT_STORAGE,
    RETIRED_STORAGE,
    STORAGE,
    STORAGE_SERVICE,
    may_be_storage,
)
from tests.dimse.samples import CT_IMAGE, EXPLICIT_LE, IMPLICIT_LE, OFFER, REQUEST, VERIFICATION

PRIVATE = "1.3.12.2.1107.5.9.1"
JPEG = "1.2.840.10008.1.2.4.70"


def proposing(*contexts: ProposedContext, **user: object) -> AssociateRequest:
    return AssociateRequest("ARCHIVE", "SENDER", contexts, UserInformation(16384, "1.2.3", **user))  # type: ignore[arg-type]


def accepted(request: AssociateRequest, offer: Offer = OFFER, response: bytes | None = None) -> Accepted:
    found = negotiate(request, offer, response)
    assert isinstance(found, Accepted)
    assert decode(2, encode(found.answer)[6:]) == found.answer
    return found


def test_one_transfer_syntax_is_chosen_by_our_order_or_by_theirs() -> None:
    request = proposing(ProposedContext(1, CT_IMAGE, (IMPLICIT_LE, JPEG, EXPLICIT_LE)))
    for theirs_first, chosen in ((False, EXPLICIT_LE), (True, IMPLICIT_LE)):
        offer = Offer({CT_IMAGE: Accepts((EXPLICIT_LE, IMPLICIT_LE), theirs_first=theirs_first)})
        found = accepted(request, offer)
        assert found.answer.contexts == (AnsweredContext(1, 0, chosen),)
        assert found.contexts == {1: Context(1, CT_IMAGE, chosen, scu=False, scp=True)}


def test_every_context_is_answered_with_its_reason() -> None:
    request = proposing(
        ProposedContext(1, VERIFICATION, (IMPLICIT_LE,)),
        ProposedContext(3, CT_IMAGE, (JPEG,)),
        ProposedContext(5, "1.2.840.10008.5.1.1.9", (IMPLICIT_LE,)),
        ProposedContext(7, VERIFICATION, ()),
        ProposedContext(9, CT_IMAGE, (IMPLICIT_LE,)),
        roles=(Role(VERIFICATION, False, True),),
    )
    found = accepted(request)
    assert [context.result for context in found.answer.contexts] == [1, 4, 3, 1, 0]
    assert list(found.contexts) == [9]
    assert "transfer-syntaxes" in result_text(4) and result_text(77) == "result 77"


REFUSALS = [
    (replace(REQUEST, protocol_version=2), (1, 2, 2), "protocol-version-not-supported"),
    (replace(REQUEST, application_context="1.2.3"), (1, 1, 2), "application-context-name-not-supported"),
    (replace(REQUEST, user=UserInformation(127)), (2, 3, 2), "local-limit-exceeded"),
]


@pytest.mark.parametrize("request_,codes,words", REFUSALS)
def test_refusals_in_the_standards_words(request_: AssociateRequest, codes: tuple[int, int, int], words: str) -> None:
    found = negotiate(request_, OFFER)
    assert isinstance(found, Rejected)
    assert found.answer == AssociateReject(*codes) and words in found.text


def test_rejections_read_as_the_standard_words_them() -> None:
    assert reject_text(CALLED_NOT_RECOGNIZED) == "rejected-permanent, service-user: called-AE-title-not-recognized"
    assert reject_text(AssociateReject(9, 8, 7)) == "result 9, source 8: reason 7"


@pytest.mark.parametrize(
    "scp,scu,asked,answered,ours",
    [
        (True, True, Role(CT_IMAGE, True, True), Role(CT_IMAGE, True, True), (True, True)),
        (True, False, Role(CT_IMAGE, True, True), Role(CT_IMAGE, True, False), (False, True)),
        (True, True, Role(CT_IMAGE, False, True), Role(CT_IMAGE, False, True), (True, False)),
        (True, False, Role(CT_IMAGE, False, True), None, None),
        (False, True, None, None, None),
        (True, True, None, None, (False, True)),
    ],
)
def test_roles(scp: bool, scu: bool, asked: Role | None, answered: Role | None, ours: tuple[bool, bool] | None) -> None:
    """`ours`: (SCU, SCP) that the acceptor may be afterwards, None where the context is refused."""
    request = proposing(ProposedContext(1, CT_IMAGE, (IMPLICIT_LE,)), roles=(asked,) if asked else ())
    found = accepted(request, Offer({CT_IMAGE: Accepts((IMPLICIT_LE,), scp=scp, scu=scu)}))
    assert found.answer.user.roles == ((answered,) if answered else ())
    if ours is None:
        assert found.answer.contexts[0].result == 1 and not found.contexts
        return
    assert (found.contexts[1].scu, found.contexts[1].scp) == ours
    theirs = agreed(request, found.answer).contexts[1]
    assert (theirs.scp, theirs.scu) == ours


def test_unknown_storage_classes_by_setting_and_by_what_they_specialize() -> None:
    contexts = (
        ProposedContext(1, PRIVATE, (EXPLICIT_LE,)),
        ProposedContext(3, "1.2.840.10008.5.1.1.9", (EXPLICIT_LE,)),
    )
    storing = Offer(OFFER.accepts, unknown=Accepts((EXPLICIT_LE,)))
    assert [c.result for c in accepted(proposing(*contexts)).answer.contexts] == [3, 3]
    assert [c.result for c in accepted(proposing(*contexts), storing).answer.contexts] == [0, 3]
    related = CommonExtended(PRIVATE, STORAGE_SERVICE, ("1.2.3", CT_IMAGE))
    found = accepted(proposing(*contexts, common_extended=(related,)))
    assert [c.result for c in found.answer.contexts] == [0, 3]
    assert found.answer.user.common_extended == () and found.contexts[1].abstract_syntax == PRIVATE
    other = CommonExtended(PRIVATE, "1.2.840.10008.4.3", (CT_IMAGE,))
    assert accepted(proposing(*contexts, common_extended=(other,))).answer.contexts[0].result == 3


def test_a_class_that_cannot_be_a_uid_is_refused_whoever_it_says_it_is() -> None:
    """The roles of accepted ones are repeated in the answer, which has room for 65,535 bytes."""
    storing = Offer(OFFER.accepts, unknown=Accepts((EXPLICIT_LE,), scu=True))
    long = ["1.3." + "7" * 32_736 + end for end in "12"]
    odd = [*long, "1.3." + "7" * 125, "1.3\x1b[2J", "1.3 4", "", "1.3.\xe4"]
    contexts = tuple(ProposedContext(2 * at + 1, uid, (EXPLICIT_LE,)) for at, uid in enumerate(odd))
    user = {"roles": tuple(Role(uid, True, True) for uid in long)}
    common = tuple(CommonExtended(uid, STORAGE_SERVICE, (CT_IMAGE,)) for uid in odd[2:])
    for more in (user, {"common_extended": common}):
        found = accepted(proposing(*contexts, **more), storing)
        results = [each.result for each in found.answer.contexts]
        assert results == [3, 3, 3, 3, 0, 3, 3], results  # a space is somebody's mistake, and harms nobody
        assert len(encode(found.answer)) < 70_000
    most = tuple(ProposedContext(2 * at + 1, f"1.3.{at:0124}", (EXPLICIT_LE,)) for at in range(128))
    found = accepted(proposing(*most, roles=tuple(Role(each.abstract_syntax, True, True) for each in most)), storing)
    assert len(found.answer.user.roles) == 128 and encode(found.answer)


def test_extended_negotiation_is_the_offers() -> None:
    offer = Offer({CT_IMAGE: Accepts((IMPLICIT_LE,), extended=lambda asked: bytes(each & 1 for each in asked))})
    context = ProposedContext(1, CT_IMAGE, (IMPLICIT_LE,))
    request = proposing(context, extended=(Extended(CT_IMAGE, b"\3\2"), Extended("1.2.3", b"\1")))
    found = accepted(request, offer)
    assert found.answer.user.extended == (Extended(CT_IMAGE, b"\1\0"),) and found.contexts[1].extended == b"\1\0"
    assert agreed(request, found.answer).contexts[1].extended == b"\1\0"
    silent = Offer({CT_IMAGE: Accepts((IMPLICIT_LE,), extended=lambda _asked: None)})
    assert accepted(request, silent).answer.user.extended == ()
    assert accepted(request).answer.user.extended == ()


@pytest.mark.parametrize(
    "asked,offered,answered",
    [
        (None, Window(5, 5), None),
        (Window(3, 2), Window(1, 1), Window(1, 1)),
        (Window(0, 0), Window(4, 0), Window(4, 0)),
        (Window(3, 9), Window(5, 5), Window(3, 5)),
    ],
)
def test_the_window_is_never_wider_than_asked_or_offered(
    asked: Window | None, offered: Window, answered: Window | None
) -> None:
    request = replace(REQUEST, user=replace(REQUEST.user, window=asked))
    found = accepted(request, replace(OFFER, window=offered))
    assert found.answer.user.window == answered
    assert agreed(request, found.answer).window == (answered or Window(1, 1))


def test_an_identity_is_answered_only_where_that_was_requested() -> None:
    for wanted, response, answered in (
        (True, b"ticket", b"ticket"),
        (True, None, b""),
        (False, b"ticket", None),
    ):
        identity = Identity(3, wanted, b"primary")
        request = replace(REQUEST, user=replace(REQUEST.user, identity=identity))
        assert accepted(request, OFFER, response).answer.user.identity_response == answered
    assert accepted(REQUEST, OFFER, b"ticket").answer.user.identity_response is None


def test_an_association_without_a_usable_context_is_accepted() -> None:
    found = accepted(proposing())
    assert found.answer.contexts == () and not found.contexts


# ---------------------------------------------------------------- the requestor


def test_more_than_128_contexts_need_more_requests() -> None:
    wanted = [Wanted(f"1.2.{number}", (IMPLICIT_LE,)) for number in range(300)]
    made = requests(wanted, Caller("SENDER", "ARCHIVE"))
    assert [len(request.contexts) for request in made] == [128, 128, 44]
    assert [context.id for context in made[0].contexts] == list(range(1, 256, 2))
    assert [c.abstract_syntax for request in made for c in request.contexts] == [
        each.abstract_syntax for each in wanted
    ]
    assert len(requests([], Caller("A", "B"))) == 1


def test_a_request_says_what_is_wanted() -> None:
    wanted = [
        Wanted(CT_IMAGE, (JPEG, IMPLICIT_LE), scu=False, scp=True, extended=b"\1"),
        Wanted(VERIFICATION, (IMPLICIT_LE,)),
    ]
    identity = Identity(1, False, b"me")
    (request,) = requests(wanted, Caller("SENDER", "ARCHIVE", 65536, Window(0, 0), identity))
    assert request.user.roles == (Role(CT_IMAGE, False, True),)
    assert request.user.extended == (Extended(CT_IMAGE, b"\1"),)
    assert (request.user.max_length, request.user.window, request.user.identity) == (65536, (0, 0), identity)
    assert decode(1, encode(request)[6:]) == request


def test_only_what_was_proposed_becomes_usable() -> None:
    request = proposing(*(ProposedContext(number, CT_IMAGE, (IMPLICIT_LE,)) for number in (1, 3, 5, 7)))
    answers = (
        AnsweredContext(1, 0, IMPLICIT_LE),
        AnsweredContext(3, 0, JPEG),
        AnsweredContext(5, 3, ""),
        AnsweredContext(9, 0, IMPLICIT_LE),
    )
    user = UserInformation(16384, roles=(Role(CT_IMAGE, True, True),))
    found = agreed(request, AssociateAccept("", "", answers, user))
    assert found == Agreed({1: Context(1, CT_IMAGE, IMPLICIT_LE, True, False)}, found.refused, Window(1, 1), None)
    assert list(found.refused) == [3, 5, 7]
    assert "not proposed" in found.refused[3] and "abstract" in found.refused[5] and found.refused[7] == "not answered"


def test_a_peer_that_takes_next_to_nothing_is_left() -> None:
    with pytest.raises(ProtocolError):
        agreed(REQUEST, AssociateAccept("", "", (), UserInformation(20)))


# ---------------------------------------------------------------- the tables


def test_the_tables_are_complete_and_each_thing_is_there_once() -> None:
    assert (len(COMPOSITE_STORAGE), len(NON_PATIENT_STORAGE)) == (168, 9)
    assert len(set(STORAGE)) == len(STORAGE) and len(set(KEPT)) == len(KEPT) == 61
    for uid in STORAGE:
        row = dictionary.uid(uid)
        assert row is not None and row.kind == "SOP Class", uid
    named = {
        uid
        for stem in (
            "1.2.840.10008.5.1.4.1.1.",
            "1.2.840.10008.5.1.4.34.",
            "1.2.840.10008.5.1.4.3",
            "1.2.840.10008.5.1.1.",
        )
        for uid in _registered(stem)
    }
    assert named - set(STORAGE) == set()
    assert set(RETIRED_STORAGE).isdisjoint(COMPOSITE_STORAGE)


def _registered(stem: str) -> set[str]:
    """Every storage SOP class of the dictionary below `stem`."""
    return {
        uid
        for uid, row in dictionary._uids().items()  # pyright: ignore[reportPrivateUsage]
        if uid.startswith(stem) and row.kind == "SOP Class" and "Storage" in row.name and "Commitment" not in row.name
    }


def test_every_registered_transfer_syntax_is_kept_but_real_time_video() -> None:
    registered = {
        uid
        for uid, row in dictionary._uids().items()  # pyright: ignore[reportPrivateUsage]
        if row.kind == "Transfer Syntax"
    }
    assert set(KEPT) - registered == {"1.2.840.113619.5.2"}
    assert {uid for uid in registered - set(KEPT) if not uid.startswith("1.2.840.10008.1.2.7.")} == set()


def test_what_may_be_storage() -> None:
    assert may_be_storage(PRIVATE) and may_be_storage("1.2.840.10008.5.1.4.1.1.9999")
    assert not may_be_storage("") and not may_be_storage(VERIFICATION) and not may_be_storage(IMPLICIT_LE)
