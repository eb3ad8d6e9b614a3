"""What a running server opens is on record beside what it accepts: in the command, the API and the metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.archive.objects import CT, EXPLICIT
from tests.dimse.real import Node, Sink, serving, until
from tests.dimse.test_real_outbox import Mover, images, stored
from tests.ports import free_port


def outgoing(node: Node, called: str) -> list[dict[str, Any]]:
    answer = node.get("/api/v1/associations", "application/json")
    assert answer.status == 200, answer
    return [each for each in json.loads(answer.body) if each["direction"] == "outgoing" and each["called"] == called]


def test_moves_commitment_and_peers_that_are_away_are_on_record(tmp_path: Path) -> None:
    study = images(30, 4)
    with serving(tmp_path) as node, Sink([CT], [EXPLICIT]) as sink:
        stored(node, *study)
        node.peer("station", sink.port, "--commitment")
        node.peer("gone", free_port())
        assert Mover(node, "STATION", study[0].study).run().status == 0
        assert Mover(node, "GONE", study[0].study).run().status == 0xA702

        until(lambda: len(outgoing(node, "STATION")) >= 2, "the request for storage commitment")
        *_, asked, sent = outgoing(node, "STATION")
        assert sent["operations"] == [{"operation": "C-STORE", "status": "0000", "count": 4}]
        assert (sent["outcome"], sent["end"], sent["problem"], sent["principal"]) == (
            "accepted",
            "released",
            False,
            "station",
        )
        assert asked["problem"] and "takes nothing of 'Storage Commitment" in asked["hints"][0]
        (away, *_) = outgoing(node, "GONE")
        assert away["outcome"] == "no connection" and "Nothing listens" in away["hints"][0]

        listed = json.loads(node.command("associations", "--json"))
        assert {each["direction"] for each in listed} == {"incoming", "outgoing"}
        assert not any(each.sop in json.dumps(listed) or each.study in json.dumps(listed) for each in study)
        shown = node.command("associations", "show", next(each["id"] for each in listed if each["called"] == "GONE"))
        assert f"RADIOLITH called GONE at {away['address']}" in shown and "peer test gone" in shown

        metrics = node.get("/metrics", "text/plain").body.decode()
        counted = 'radiolith_dimse_operations_total{direction="outgoing",service="C-STORE",status="success"} 4.0'
        assert counted in metrics
        assert 'radiolith_dimse_associations_total{direction="outgoing",outcome="no-connection"}' in metrics
