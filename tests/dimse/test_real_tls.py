"""Images to peers with TLS, by real processes: C-MOVE, the outbox and a command to DCMTK's storescp, and why one waits."""

from __future__ import annotations

import json
import ssl
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE

from radiolith.dimse.sopclasses import STUDY_ROOT
from tests.archive.objects import ROOT, Made
from tests.dimse.authorities import Authority, Pair
from tests.dimse.peers import program
from tests.dimse.real import Node, serving
from tests.dimse.test_delivery import written
from tests.dimse.test_real_peers import daemon
from tests.kill.running import run, wait
from tests.ports import free_port

CERTIFIED = "station.example"


@dataclass
class Station:
    """storescp with TLS, which asks for a certificate of ours; it writes what comes exactly as it comes."""

    folder: Path
    authority: Authority
    port: int

    @contextmanager
    def listening(self, pair: Pair | None) -> Generator[None]:
        """pair: its certificate; None: without TLS."""
        self.folder.mkdir(exist_ok=True)
        tls = ("+tls", pair.key, pair.certificate, "+cf", self.authority.file, "-rc") if pair else ()
        with daemon(program("storescp"), "+B", "-od", str(self.folder), *tls, str(self.port), port=self.port):
            yield

    def got(self) -> dict[str, bytes]:
        return {sop: data for sop, (_, data) in written(self.folder).items()}


def study(number: int) -> list[Made]:
    uid = f"{ROOT}.98.{number}"
    return [Made(uid, f"{uid}.1", f"{uid}.1.{n}", number=n, pixels=bytes(5000 * n)) for n in range(1, 5)]


def as_sent(objects: Sequence[Made]) -> dict[str, bytes]:
    return {each.sop: each.dataset() for each in objects}


def ordered(node: Node, peer: str, *objects: Made) -> None:
    body = {"peer": peer, "places": [{"study": objects[0].study}]}
    answer = node.ask("POST", "/api/v1/outbox", json.dumps(body).encode(), {"Content-Type": "application/json"})
    assert answer.status == 201, answer


def why(node: Node, peer: str, words: str) -> None:
    """The transfer waits, and says so."""
    wait(lambda: any(words in json.dumps(one) for one in node.transfers(peer=peer)), f"'{words}' for {peer}")
    assert {one["state"] for one in node.transfers(peer=peer)} != {"delivered"}


def move(port: int, context: ssl.SSLContext, destination: str, uid: str) -> None:
    """A C-MOVE that is asked for over TLS, by pynetdicom; all of it went well."""
    entity = AE(ae_title="MOVER")
    entity.add_requested_context(STUDY_ROOT.move)
    association = entity.associate("127.0.0.1", port, ae_title="RADIOLITH", tls_args=(context, "127.0.0.1"))
    assert association.is_established
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", uid
    *_, (last, _) = association.send_c_move(keys, destination, STUDY_ROOT.move)
    association.release()
    assert (last.Status, last.NumberOfCompletedSuboperations, last.NumberOfFailedSuboperations) == (0, 4, 0)


def test_stations_with_tls(tmp_path: Path) -> None:
    authority, foreign = Authority(tmp_path), Authority(tmp_path, "foreign")
    own = authority.sign("127.0.0.1", file="own")
    pair, false = authority.sign(CERTIFIED, file="station"), foreign.sign(CERTIFIED, file="false")
    settings = {"CERTIFICATE": own.certificate, "KEY": own.key, "AUTHORITIES": authority.file, "PORT": str(free_port())}
    environ = {f"RADIOLITH_DIMSE_TLS_{name}": value for name, value in settings.items()}
    moved, sent, late, plain = study(1), study(2), study(3), study(4)
    good, lying, bare = (Station(tmp_path / name, authority, free_port()) for name in ("good", "lying", "bare"))
    with serving(tmp_path / "node", environ=environ) as node:
        assert node.put([each.part10() for each in (*moved, *sent, *late, *plain)]) == {0: 16}
        for name, station in (("good", good), ("lying", lying), ("bare", bare)):
            node.peer(name, station.port, "--tls", "--certificate", CERTIFIED)
        node.peer("misnamed", good.port, "--tls")  # its certificate is not for 127.0.0.1
        with good.listening(pair):
            context = ssl.create_default_context(cafile=authority.file)
            context.load_cert_chain(pair.certificate, pair.key)
            move(int(settings["PORT"]), context, "GOOD", moved[0].study)
            node.ended("good")
            assert good.got() == as_sent(moved)

            path = tmp_path / "one.dcm"
            path.write_bytes(sent[0].part10())
            words = ("--home", str(node.home), "good", str(path), sent[0].study)
            run("send", *words, environ=environ)
            assert good.got() == as_sent([*moved, *sent])

            ordered(node, "misnamed", *late)
            with lying.listening(false), bare.listening(None):
                ordered(node, "lying", *late)
                ordered(node, "bare", *plain)
                why(node, "lying", "not trusted here")
                why(node, "bare", "TLS")
                why(node, "misnamed", "another name")
            assert lying.got() == bare.got() == {}
        with lying.listening(pair):  # somebody has mended it
            node.ended("lying")
            assert lying.got() == as_sent(late)
