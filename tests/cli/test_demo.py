"""`radiolith demo` as a stranger meets it: one command, then a browser at the printed address."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx2
import pytest
from PIL import Image

READY_SECONDS = 120
"""From the command to the printed password: 197 objects computed and imported, on a busy machine."""


class Demo:
    """The running demo: its process, and what it printed."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.said = process, ""
        self._read_until("Ctrl-C")
        self.url = self._printed(r"(http://\S+?)/\s")
        self.password = self._printed(r"password\s+(\S+)")

    def _read_until(self, words: str) -> None:
        assert self.process.stdout is not None
        deadline = time.monotonic() + READY_SECONDS
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while words not in self.said:
                assert ready.select(max(deadline - time.monotonic(), 0)), self.said
                piece = os.read(self.process.stdout.fileno(), 1 << 16)
                assert piece, self.said
                self.said += piece.decode()

    def _printed(self, pattern: str) -> str:
        found = re.search(pattern, self.said)
        assert found, self.said
        return found[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    command = [str(Path(sys.executable).parent / "radiolith"), "demo", "--workers", "2"]
    temporary = tmp_path_factory.mktemp("temporary")
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    ) as process:
        try:
            yield Demo(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert list(temporary.iterdir()) == [], "the demo leaves something behind"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def browser(demo: Demo) -> Iterator[httpx2.Client]:
    """Signed in, as a browser is."""
    retrying = httpx2.HTTPTransport(retries=5)  # the workers may need a moment more than the printed line
    with httpx2.Client(base_url=demo.url, timeout=60, transport=retrying) as client:
        form = {"user": "demo", "password": demo.password}
        answer = client.post("/sign-in", data=form, headers={"origin": demo.url})
        assert answer.status_code == 303, answer.text
        yield client


def test_the_list_shows_every_study_with_a_picture(browser: httpx2.Client) -> None:
    page = browser.get("/").text
    for name in ("Müller, Jörg", "Lefèvre, Anaïs", "Иванова, Мария", "山田 太郎", "Ångström, Åsa"):
        assert name in page
    pictures = re.findall(r'src="(/dicom-web/studies/[^"]+/thumbnail)"', page)
    assert len(pictures) == 6
    for address in pictures:
        answer = browser.get(address)
        assert answer.status_code == 200, (address, answer.text)
        with Image.open(BytesIO(answer.content)) as picture:
            low, high = picture.convert("L").getextrema()
            assert high - low > 100, f"{address} is grey in grey"


def test_every_page_can_be_walked_to(browser: httpx2.Client) -> None:
    """From the list to the studies, series and images: every link and every picture answers."""
    seen, todo = set[str](), ["/"]
    while todo and len(seen) < 80:
        address = todo.pop(0)
        if address in seen:
            continue
        seen.add(address)
        answer = browser.get(address)
        assert answer.status_code == 200, (address, answer.text[:300])
        if answer.headers["content-type"].startswith("text/html") and not address.startswith("/dicom-web"):
            links = re.findall(r'(?:href|src)="(/[^"]*)"', answer.text)
            todo += [link.replace("&amp;", "&") for link in links]
    assert any("/image?" in address for address in seen)


def test_searching_finds_names_however_they_are_written(browser: httpx2.Client) -> None:
    for asked, name in (("mueller", "Müller"), ("LEFEVRE", "Lefèvre"), ("山田", "山田"), ("yamada", "山田")):
        page = browser.get("/", params={"name": asked}).text
        assert name in page, asked
        assert page.count("/thumbnail") <= 2, asked


def test_without_signing_in_there_is_nothing_to_see(demo: Demo) -> None:
    assert "Müller" not in httpx2.get(demo.url).text
    assert httpx2.get(f"{demo.url}/dicom-web/studies").status_code == 401
    assert httpx2.get(f"{demo.url}/health/ready").status_code == 200
