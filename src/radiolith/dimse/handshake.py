"""TLS before an association: connections on the port for TLS, until their handshake is over, and why some are not let in.

Owns: accepting on that port, the time a handshake may take, and the words for one that fails. Must never: decide who a
device is (`trust.devices`), or fall back to plain TCP. A connection is handed on when both sides have proved what they
were asked to; until then it costs a slot that its owner counts, and no byte of DICOM is read.

Limits: HANDSHAKE_SECONDS; after SHORT_SECONDS the port is tried again when the system has no descriptor left.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import structlog

from radiolith.dimse.wire import Wire
from radiolith.model import Failure
from radiolith.trust.certificates import Certificates

HANDSHAKE_SECONDS = 10.0
"""Two round trips and two signatures: enough for a device behind a slow line."""
SHORT_SECONDS = 1.0
log = structlog.get_logger()

_REASONS = {
    "WRONG_VERSION_NUMBER": "the peer speaks no TLS here: plain DICOM, most likely",
    "PACKET_LENGTH_TOO_LONG": "the peer speaks no TLS here: plain DICOM, most likely",
    "RECORD_LAYER_FAILURE": "the peer speaks no TLS here: plain DICOM, most likely",
    "HTTP_REQUEST": "the peer speaks HTTP, this port speaks DICOM over TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer shows no certificate",
    "UNSUPPORTED_PROTOCOL": "the peer's TLS is too old: 1.2 or later is spoken here",
    "VERSION_TOO_LOW": "the peer's TLS is too old: 1.2 or later is spoken here",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer does not speak TLS 1.2 or 1.3",
    "NO_SHARED_CIPHER": "the peer offers no cipher suite of BCP 195",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer ended the handshake: no common cipher suite, or it wants a certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer asks for a certificate of ours, and there is none",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know the CA of our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the peer says that our certificate was revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the peer does not accept our certificate",
    "TLSV1_ALERT_DECRYPT_ERROR": "the peer could not verify our certificate",
}
"""OpenSSL's reason -> what it means to whoever has to mend it."""
_EXPIRED, _NOT_YET, _NAME, _ADDRESS = 10, 9, 62, 64
_UNKNOWN_CA = (2, 18, 19, 20, 21, 27)
"""OpenSSL's X509_V_ERR_...: expired, not yet valid, another name, another address; no way to a CA that is believed."""


def reason(error: BaseException) -> str:
    """Why there is no TLS with a peer, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate {_unbelieved(error)}"
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "", error.reason or str(error) or "the handshake failed")
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return f"the handshake was not over within {HANDSHAKE_SECONDS:.0f} s"
    return "the peer went away in the handshake"


def _unbelieved(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return "has expired"
    if error.verify_code == _NOT_YET:
        return "is not valid yet: one of the two clocks is wrong"
    if error.verify_code in (_NAME, _ADDRESS):
        return f"is for another name ({error.verify_message})"
    if error.verify_code in _UNKNOWN_CA:
        return f"is of an authority that is not trusted here ({error.verify_message})"
    return f"is not accepted ({error.verify_message})"


class Listener:
    """The port for TLS in this process. `room` takes a slot for an address, or says no; then one of `opened` and `failed`
    is called, the first with a wire that stands, the other with the reason: it is theirs to give the slot back."""

    def __init__(
        self,
        certificates: Certificates,
        room: Callable[[str], bool],
        opened: Callable[[Wire, str], None],
        failed: Callable[[str, str], None],
    ):
        self._certificates, self._room, self._opened, self._failed = certificates, room, opened, failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None

    def start(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        self._socket = listening
        self._begin(self._accept(listening))

    def _begin(self, work: object) -> None:
        task = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """No more connections; handshakes under way are given up."""
        under_way = list(self._tasks)
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        if self._socket is not None:
            self._socket.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, peer = await loop.sock_accept(listening)
            except OSError as error:  # no descriptor left, or the peer is gone already
                log.warning("no connection could be accepted", reason=error.strerror)
                await asyncio.sleep(SHORT_SECONDS)
                continue
            address = str(peer[0])
            if self._room(address):
                self._begin(self._shake(connected, address))
            else:
                connected.close()

    async def _shake(self, connected: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            context = self._certificates.server()
            wire = Wire()  # not what comes back: with uvloop that is the protocol of TLS
            await loop.connect_accepted_socket(
                lambda: wire, connected, ssl=context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except Failure as failure:
            connected.close()
            self._failed(address, str(failure))
        except OSError as error:
            self._failed(address, reason(error))
        except BaseException:
            self._failed(address, "the archive was stopping")
            raise
        else:
            self._opened(wire, address)
