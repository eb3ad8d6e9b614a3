"""Negotiation as pure functions, for both roles (PS3.8 7.1, PS3.7 annex D).

Owns: what is answered to a proposal, and what an answer makes usable. Must never: know who may connect (the caller refuses
with one of the REJECT constants), read a clock, or check a user's identity (the caller hands its answer in).

Limits: CONTEXTS_MAX presentation contexts of one association; a requestor that wants more gets several requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from radiolith.dicom.part10 import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from radiolith.dimse.items import (
    CONTEXTS_MAX,
    AnsweredContext,
    Extended,
    Identity,
    ProposedContext,
    ProtocolError,
    Result,
    Role,
    UserInformation,
    Window,
)
from radiolith.dimse.messages import PEER_PDU_MIN, SENT_PDU_MAX
from radiolith.dimse.pdu import APPLICATION_CONTEXT, AssociateAccept, AssociateReject, AssociateRequest
from radiolith.dimse.sopclasses import STORAGE_SERVICE, is_plausible, may_be_storage
from radiolith.dimse.upperlayer import VERSION_NOT_SUPPORTED

APPLICATION_CONTEXT_NOT_SUPPORTED = AssociateReject(1, 1, 2)
CALLING_NOT_RECOGNIZED = AssociateReject(1, 1, 3)
CALLED_NOT_RECOGNIZED = AssociateReject(1, 1, 7)
TEMPORARY_CONGESTION = AssociateReject(2, 3, 1)
LOCAL_LIMIT_EXCEEDED = AssociateReject(2, 3, 2)

ONE_AT_A_TIME = Window(1, 1)
"""What holds where nothing is said of asynchronous operations (PS3.7 D.3.3.3)."""

_RESULTS = {1: "rejected-permanent", 2: "rejected-transient"}
_SOURCES = {1: "service-user", 2: "service-provider (ACSE)", 3: "service-provider (presentation)"}
_REASONS = {
    (1, 1): "no-reason-given",
    (1, 2): "application-context-name-not-supported",
    (1, 3): "calling-AE-title-not-recognized",
    (1, 7): "called-AE-title-not-recognized",
    (2, 1): "no-reason-given",
    (2, 2): "protocol-version-not-supported",
    (3, 1): "temporary-congestion",
    (3, 2): "local-limit-exceeded",
}
_CONTEXT_RESULTS = (
    "acceptance",
    "user-rejection",
    "no-reason (provider rejection)",
    "abstract-syntax-not-supported (provider rejection)",
    "transfer-syntaxes-not-supported (provider rejection)",
)


def reject_text(reject: AssociateReject) -> str:
    """A rejection in the words of PS3.8 table 9-21."""
    reason = _REASONS.get((reject.source, reject.reason), f"reason {reject.reason}")
    result = _RESULTS.get(reject.result, f"result {reject.result}")
    return f"{result}, {_SOURCES.get(reject.source, f'source {reject.source}')}: {reason}"


def result_text(result: int) -> str:
    """The result of a presentation context in the words of PS3.8 table 9-18."""
    return _CONTEXT_RESULTS[result] if 0 <= result < len(_CONTEXT_RESULTS) else f"result {result}"


class Context(NamedTuple):
    """A presentation context that may be used. `scu` and `scp` say what we may be in it."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    scu: bool
    scp: bool
    extended: bytes = b""
    """What the acceptor answered to SOP class extended negotiation, b"" where there was none."""


# ---------------------------------------------------------------- the acceptor


@dataclass(frozen=True, slots=True)
class Accepts:
    """What we accept of one abstract syntax.

    `transfer_syntaxes` in our order of preference; with `theirs_first` the requestor's order decides among them. `scp`
    and `scu`: what we are ready to be. `extended` answers the service class application information of extended
    negotiation (PS3.7 D.3.3.5), None leaves it unanswered.
    """

    transfer_syntaxes: tuple[str, ...]
    scp: bool = True
    scu: bool = False
    theirs_first: bool = False
    extended: Callable[[bytes], bytes | None] | None = None
    rank: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """Transfer syntax -> its place in our order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", {uid: place for place, uid in enumerate(self.transfer_syntaxes)})


@dataclass(frozen=True, slots=True)
class Offer:
    """What an acceptor accepts. `unknown` is for SOP classes that are in no table and may be storage, None refuses them.

    `max_length`: bytes of a P-DATA-TF we take, 0 any. `window`: operations we let be outstanding, where it is asked for.
    """

    accepts: Mapping[str, Accepts]
    unknown: Accepts | None = None
    max_length: int = SENT_PDU_MAX
    window: Window = ONE_AT_A_TIME
    implementation_uid: str = IMPLEMENTATION_UID
    implementation_version: str = IMPLEMENTATION_VERSION


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to send, and what may be used once it is sent, by context id."""

    answer: AssociateAccept
    contexts: Mapping[int, Context] = field(default_factory=dict[int, Context])


@dataclass(frozen=True, slots=True)
class Rejected:
    """The refusal to send."""

    answer: AssociateReject
    text: str


def negotiate(request: AssociateRequest, offer: Offer, identity_response: bytes | None = None) -> Accepted | Rejected:
    """Answer a request. `identity_response`: the server's answer to a user identity that was found good (PS3.7 D.3.3.7).

    An association without any accepted context is accepted all the same, as the standard has it: the results say why.
    """
    refusal = _refusal(request)
    if refusal:
        return refusal
    roles = {role.sop_class: role for role in request.user.roles}
    informations = {each.sop_class: each.information for each in request.user.extended}
    answers: list[AnsweredContext] = []
    usable: dict[int, Context] = {}
    answered_roles: dict[str, Role] = {}
    extended: dict[str, bytes] = {}
    for proposed in request.contexts:
        uid = proposed.abstract_syntax
        accepts = _accepts(uid, request, offer)
        answer, role = _answer(proposed, accepts, roles.get(uid))
        answers.append(answer)
        if accepts is None or answer.result != Result.ACCEPTED:
            continue
        if uid in roles:
            answered_roles[uid] = role
        if uid in informations and uid not in extended and accepts.extended is not None:
            information = accepts.extended(informations[uid])
            if information is not None:
                extended[uid] = information
        usable[proposed.id] = Context(
            proposed.id, uid, answer.transfer_syntax, role.scp, role.scu, extended.get(uid, b"")
        )
    user = UserInformation(
        offer.max_length,
        offer.implementation_uid,
        offer.implementation_version,
        _window(request.user.window, offer.window),
        tuple(answered_roles.values()),
        tuple(Extended(uid, information) for uid, information in extended.items()),
        identity_response=_identity_response(request.user.identity, identity_response),
    )
    return Accepted(AssociateAccept(request.called, request.calling, tuple(answers), user), usable)


def _refusal(request: AssociateRequest) -> Rejected | None:
    """What makes a request unacceptable whatever is offered."""
    reject, why = None, ""
    if not request.protocol_version & 1:
        reject = VERSION_NOT_SUPPORTED
    elif request.application_context != APPLICATION_CONTEXT:
        reject, why = APPLICATION_CONTEXT_NOT_SUPPORTED, f" ({request.application_context[:64]!r})"
    elif 0 < request.user.max_length < PEER_PDU_MIN:
        reject, why = LOCAL_LIMIT_EXCEEDED, f" (maximum length {request.user.max_length})"
    return None if reject is None else Rejected(reject, reject_text(reject) + why)


def _accepts(uid: str, request: AssociateRequest, offer: Offer) -> Accepts | None:
    """What we accept of a proposed abstract syntax; one not in the table may say itself what it specializes."""
    found = offer.accepts.get(uid)
    if found is not None:
        return found
    if not is_plausible(uid):
        return None
    for common in request.user.common_extended:
        if common.sop_class == uid and common.service_class == STORAGE_SERVICE:
            related = next((offer.accepts[each] for each in common.related if each in offer.accepts), None)
            return related or offer.unknown
    return offer.unknown if may_be_storage(uid) else None


def _answer(proposed: ProposedContext, accepts: Accepts | None, role: Role | None) -> tuple[AnsweredContext, Role]:
    """The answer to one context and the roles agreed on, of the requestor (PS3.7 D.3.3.4)."""
    nothing = Role(proposed.abstract_syntax, False, False)
    first = proposed.transfer_syntaxes[0] if proposed.transfer_syntaxes else ""
    if accepts is None:
        return AnsweredContext(proposed.id, Result.ABSTRACT_SYNTAX_NOT_SUPPORTED, first), nothing
    asked = role or Role(proposed.abstract_syntax, scu=True, scp=False)
    agreed = Role(proposed.abstract_syntax, asked.scu and accepts.scp, asked.scp and accepts.scu)
    if not (agreed.scu or agreed.scp):
        return AnsweredContext(proposed.id, Result.USER_REJECTION, first), nothing
    syntax = _choose(proposed.transfer_syntaxes, accepts)
    if not syntax:
        return AnsweredContext(proposed.id, Result.TRANSFER_SYNTAXES_NOT_SUPPORTED, first), nothing
    return AnsweredContext(proposed.id, Result.ACCEPTED, syntax), agreed


def _choose(proposed: tuple[str, ...], accepts: Accepts) -> str:
    rank = accepts.rank
    known = (syntax for syntax in proposed if syntax in rank)
    return next(known, "") if accepts.theirs_first else min(known, key=rank.__getitem__, default="")


def _window(asked: Window | None, offered: Window) -> Window | None:
    """No more than was asked for; 0 is unlimited (PS3.7 D.3.3.3). Unanswered where it was not asked."""
    if asked is None:
        return None

    def smaller(a: int, b: int) -> int:
        return min(a, b) if a and b else a or b

    return Window(smaller(asked.invoked, offered.invoked), smaller(asked.performed, offered.performed))


def _identity_response(asked: Identity | None, response: bytes | None) -> bytes | None:
    """Only where a positive response was requested; empty for the types that have none to give (PS3.7 D.3.3.7.2)."""
    return (response or b"") if asked is not None and asked.response_requested else None


# ---------------------------------------------------------------- the requestor


@dataclass(frozen=True, slots=True)
class Wanted:
    """A presentation context to propose. `scu`, `scp`: what we want to be; `extended`: application information."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    scu: bool = True
    scp: bool = False
    extended: bytes = b""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks whom, and with what; `window` None asks for nothing, which means (1, 1)."""

    calling: str
    called: str
    max_length: int = SENT_PDU_MAX
    window: Window | None = None
    identity: Identity | None = None
    implementation_uid: str = IMPLEMENTATION_UID
    implementation_version: str = IMPLEMENTATION_VERSION


def requests(wanted: Sequence[Wanted], caller: Caller) -> list[AssociateRequest]:
    """The requests that together propose what is wanted: one, or more when it is more than CONTEXTS_MAX contexts.

    Roles and extended negotiation belong to a SOP class, so what is said of it must be the same in all its contexts.
    """
    return [
        _request(wanted[start : start + CONTEXTS_MAX], caller) for start in range(0, max(1, len(wanted)), CONTEXTS_MAX)
    ]


def _request(wanted: Sequence[Wanted], caller: Caller) -> AssociateRequest:
    contexts = tuple(
        ProposedContext(2 * place + 1, each.abstract_syntax, each.transfer_syntaxes)
        for place, each in enumerate(wanted)
    )
    roles = {each.abstract_syntax: Role(each.abstract_syntax, each.scu, each.scp) for each in wanted if each.scp}
    extended = {each.abstract_syntax: Extended(each.abstract_syntax, each.extended) for each in wanted if each.extended}
    user = UserInformation(
        caller.max_length,
        caller.implementation_uid,
        caller.implementation_version,
        caller.window,
        tuple(roles.values()),
        tuple(extended.values()),
        identity=caller.identity,
    )
    return AssociateRequest(caller.called, caller.calling, contexts, user)


@dataclass(frozen=True, slots=True)
class Agreed:
    """What an answer gives: usable contexts by id, and for the others why not, by id."""

    contexts: Mapping[int, Context]
    refused: Mapping[int, str]
    window: Window
    identity_response: bytes | None


def agreed(request: AssociateRequest, accept: AssociateAccept) -> Agreed:
    """What may be used of an association that a peer accepted; ProtocolError when nothing could be sent on it.

    An answer to something that was not proposed is not used: a context, a transfer syntax or a role.
    """
    if 0 < accept.user.max_length < PEER_PDU_MIN:
        raise ProtocolError(f"the peer takes PDUs of {accept.user.max_length} bytes, less than {PEER_PDU_MIN}")
    answers = {context.id: context for context in accept.contexts}
    asked = {role.sop_class: role for role in request.user.roles}
    roles = {role.sop_class: role for role in accept.user.roles}
    extended = {each.sop_class: each.information for each in accept.user.extended}
    usable: dict[int, Context] = {}
    refused: dict[int, str] = {}
    for proposed in request.contexts:
        answer = answers.get(proposed.id)
        if answer is None:
            refused[proposed.id] = "not answered"
        elif answer.result != Result.ACCEPTED:
            refused[proposed.id] = result_text(answer.result)
        elif answer.transfer_syntax not in proposed.transfer_syntaxes:
            refused[proposed.id] = f"accepted with {answer.transfer_syntax[:64]!r}, which was not proposed"
        else:
            uid = proposed.abstract_syntax
            scu, scp = _our_roles(asked.get(uid), roles.get(uid))
            usable[proposed.id] = Context(proposed.id, uid, answer.transfer_syntax, scu, scp, extended.get(uid, b""))
    window = _window(request.user.window, accept.user.window or ONE_AT_A_TIME) or ONE_AT_A_TIME
    return Agreed(usable, refused, window, accept.user.identity_response)


def _our_roles(asked: Role | None, answered: Role | None) -> tuple[bool, bool]:
    """(SCU, SCP) of the requestor; without an answer the roles are the usual ones (PS3.7 D.3.3.4)."""
    if asked is None or answered is None:
        return True, False
    return asked.scu and answered.scu, asked.scp and answered.scp
