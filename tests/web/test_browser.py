"""The pages in a real browser: with the security policy they carry, styles and pictures must still arrive.

Chromium draws the study list of a small world; the picture it makes is looked at. Skipped where there is no Chromium.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from radiolith.model import Level
from tests.web.world import World, study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
THUMBNAIL = (200, 30, 160)
"""A colour that appears nowhere in the pages themselves."""
GROUND = (12, 16, 18)
"""--ground of pages.css."""


class SignedIn:
    """An application like the one it wraps, for a browser that is signed in already."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], (b"cookie", b"radiolith=session-1")]
        await self._app(scope, receive, send)


async def thumbnail(request: Request) -> Response:
    picture = BytesIO()
    Image.new("RGB", (96, 96), THUMBNAIL).save(picture, "PNG")
    return Response(picture.getvalue(), media_type="image/png")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server in a thread; gives its address and stops it."""
    world = World(tmp_path)
    world.query.rows[Level.STUDY] = [study(f"1.2.{number}", "山田^太郎") for number in range(3)]
    pictures = Route("/dicom-web/studies/{uid}/thumbnail", thumbnail)
    app = SignedIn(Starlette(routes=[pictures, Mount("/", world.app)]))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: chromium)")
def test_a_browser_gets_styles_and_pictures(address: str, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={shot}",
        "--window-size=1200,700",
        "--hide-scrollbars",
        "--virtual-time-budget=10000",
        address,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert shot.exists(), done.stderr
    with Image.open(shot) as picture:
        colours = {colour: count for count, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert colours.get(GROUND, 0) > 100_000, "the style sheet was not applied"
    assert colours.get(THUMBNAIL, 0) > 3 * 80 * 80, "the pictures were not shown"
    assert "Content Security Policy" not in done.stderr
