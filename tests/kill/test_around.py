"""What stands around the workers: the decoders' parent, the one serve of a home, the address it may listen on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from radiolith.model import BadInput, Conflict
from tests.archive.objects import Made
from tests.kill.running import Server, made_home, wait


def decoders_parent(server: Server) -> int:
    """The child of the server's parent that runs the zygote's program, 0 when there is none."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for child in map(int, children):
        if b"codecs.zygote" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    return 0


def test_pictures_come_again_after_the_decoders_parent_was_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = Server(home, made_home(home))
    server.start()
    try:
        image = Made("1.2", "1.2.1", "1.2.1.1", pixels=os.urandom(2 * 16 * 16))
        assert server.store([image.part10()]).status == 200
        first = decoders_parent(server)
        os.kill(first, signal.SIGKILL)
        wait(lambda: decoders_parent(server) not in (0, first), "another parent of the decoders")
        frame = "/dicom-web/studies/1.2/series/1.2.1/instances/1.2.1.1/frames/1/rendered"
        wait(lambda: server.get(frame, "image/jpeg").status == 200, "a picture")
    finally:
        server.stop()


def test_a_home_is_served_once(tmp_path: Path) -> None:
    from radiolith import app

    home = tmp_path / "home"
    server = Server(home, made_home(home))
    server.start()
    try:
        with pytest.raises(Conflict, match="another"):
            app.serve(home, app.Doors("127.0.0.1:0"))
    finally:
        server.stop()


def test_plain_http_stays_on_this_machine(tmp_path: Path) -> None:
    from radiolith import app

    app.initialise(tmp_path / "home")
    with pytest.raises(BadInput, match="behind_tls"):
        app.serve(tmp_path / "home", app.Doors("0.0.0.0:0"))
