"""The state machine of the upper layer as the tables of PS3.8 9.2: 13 states, 19 events, 28 actions.

Owns: the tables, nothing else. Must never: act; `upperlayer` does what a row says. A cell that the standard leaves empty
is absent: a peer cannot bring it about, and the local user is told that it is not its turn.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class State(IntEnum):
    """Sta1 to Sta13 (PS3.8 tables 9-1 to 9-5)."""

    IDLE = 1
    AWAITING_REQUEST = 2
    AWAITING_LOCAL_ANSWER = 3
    AWAITING_TRANSPORT = 4
    AWAITING_ANSWER = 5
    ESTABLISHED = 6
    AWAITING_RELEASE_REPLY = 7
    AWAITING_LOCAL_RELEASE_REPLY = 8
    COLLISION_REQUESTOR_LOCAL_REPLY = 9
    COLLISION_ACCEPTOR_REPLY = 10
    COLLISION_REQUESTOR_REPLY = 11
    COLLISION_ACCEPTOR_LOCAL_REPLY = 12
    AWAITING_CLOSE = 13


class Happening(IntEnum):
    """Evt1 to Evt19 (PS3.8 table 9-10): `LOCAL_` from the service user, `GOT_` a PDU of the peer."""

    LOCAL_REQUEST = 1
    TRANSPORT_CONFIRMED = 2
    GOT_ACCEPT = 3
    GOT_REJECT = 4
    TRANSPORT_INDICATED = 5
    GOT_REQUEST = 6
    LOCAL_ACCEPT = 7
    LOCAL_REJECT = 8
    LOCAL_DATA = 9
    GOT_DATA = 10
    LOCAL_RELEASE = 11
    GOT_RELEASE = 12
    GOT_RELEASE_REPLY = 13
    LOCAL_RELEASE_REPLY = 14
    LOCAL_ABORT = 15
    GOT_ABORT = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    GOT_INVALID = 19


class Send(IntEnum):
    """What an action writes to the transport."""

    NOTHING = 0
    GIVEN = 1  # the PDU that the service user asked to send
    USER_ABORT = 2
    PROVIDER_ABORT = 3


class Artim(IntEnum):
    """What an action does with the ARTIM timer (association request, reject, release)."""

    UNTOUCHED = 0
    START = 1  # or restart
    STOP = 2


class Action(NamedTuple):
    """One row of PS3.8 tables 9-6 to 9-9.

    `next` has two states where the standard decides between them: AE-6 by whether the request is acceptable to the
    provider, AR-8 by the role. `indicate`: the service user is told. `close`: the transport connection is closed.
    """

    name: str
    next: tuple[State, ...]
    send: Send = Send.NOTHING
    artim: Artim = Artim.UNTOUCHED
    indicate: bool = False
    close: bool = False


_S = State
_ACTIONS = (
    Action("AE-1", (_S.AWAITING_TRANSPORT,)),
    Action("AE-2", (_S.AWAITING_ANSWER,), Send.GIVEN),
    Action("AE-3", (_S.ESTABLISHED,), indicate=True),
    Action("AE-4", (_S.IDLE,), indicate=True, close=True),
    Action("AE-5", (_S.AWAITING_REQUEST,), artim=Artim.START),
    Action("AE-6", (_S.AWAITING_LOCAL_ANSWER, _S.AWAITING_CLOSE), artim=Artim.STOP, indicate=True),
    Action("AE-7", (_S.ESTABLISHED,), Send.GIVEN),
    Action("AE-8", (_S.AWAITING_CLOSE,), Send.GIVEN, Artim.START),
    Action("DT-1", (_S.ESTABLISHED,), Send.GIVEN),
    Action("DT-2", (_S.ESTABLISHED,), indicate=True),
    Action("AR-1", (_S.AWAITING_RELEASE_REPLY,), Send.GIVEN),
    Action("AR-2", (_S.AWAITING_LOCAL_RELEASE_REPLY,), indicate=True),
    Action("AR-3", (_S.IDLE,), indicate=True, close=True),
    Action("AR-4", (_S.AWAITING_CLOSE,), Send.GIVEN, Artim.START),
    Action("AR-5", (_S.IDLE,), artim=Artim.STOP),
    Action("AR-6", (_S.AWAITING_RELEASE_REPLY,), indicate=True),
    Action("AR-7", (_S.AWAITING_LOCAL_RELEASE_REPLY,), Send.GIVEN),
    Action("AR-8", (_S.COLLISION_REQUESTOR_LOCAL_REPLY, _S.COLLISION_ACCEPTOR_REPLY), indicate=True),
    Action("AR-9", (_S.COLLISION_REQUESTOR_REPLY,), Send.GIVEN),
    Action("AR-10", (_S.COLLISION_ACCEPTOR_LOCAL_REPLY,), indicate=True),
    Action("AA-1", (_S.AWAITING_CLOSE,), Send.USER_ABORT, Artim.START),
    Action("AA-2", (_S.IDLE,), artim=Artim.STOP, close=True),
    Action("AA-3", (_S.IDLE,), indicate=True, close=True),
    Action("AA-4", (_S.IDLE,), indicate=True),
    Action("AA-5", (_S.IDLE,), artim=Artim.STOP),
    Action("AA-6", (_S.AWAITING_CLOSE,)),
    Action("AA-7", (_S.AWAITING_CLOSE,), Send.PROVIDER_ABORT),
    Action("AA-8", (_S.AWAITING_CLOSE,), Send.PROVIDER_ABORT, Artim.START, indicate=True),
)
ACTIONS = {action.name: action for action in _ACTIONS}


# PS3.8 table 9-10, one row an event, one column a state; a dot is an empty cell.
_TABLE = """
      1     2     3     4     5     6     7     8     9     10    11    12    13
 1    AE-1  .     .     .     .     .     .     .     .     .     .     .     .
 2    .     .     .     AE-2  .     .     .     .     .     .     .     .     .
 3    .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
 4    .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
 5    AE-5  .     .     .     .     .     .     .     .     .     .     .     .
 6    .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
 7    .     .     AE-7  .     .     .     .     .     .     .     .     .     .
 8    .     .     AE-8  .     .     .     .     .     .     .     .     .     .
 9    .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
10    .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
11    .     .     .     .     .     AR-1  .     .     .     .     .     .     .
12    .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
13    .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
14    .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
15    .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
16    .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
17    .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
18    .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
19    .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""


def _read() -> dict[tuple[State, Happening], Action]:
    _, columns, *rows = _TABLE.rstrip().split("\n")
    states = [State(int(column)) for column in columns.split()]
    return {
        (state, Happening(int(event))): ACTIONS[cell]
        for event, *cells in map(str.split, rows)
        for state, cell in zip(states, cells, strict=True)
        if cell != "."
    }


TABLE = _read()
"""(state, event) -> action."""
