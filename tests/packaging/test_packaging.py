"""What is handed out: the wheel, the bundle without Internet, the unit of systemd, the container files.

What cannot run here is said in docs/install.md: no image is built and no unit started where there is no container engine and no
systemd; then it is the files that are checked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from radiolith import __version__, config
from tests import campaign
from tests.kill.running import wait
from tests.ports import free_port

PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
EXPOSURE = 25  # tenths, of systemd-analyze security: from 100, open to everything, down to 0


@pytest.fixture(scope="module")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves nothing in the project
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project / name, source)
    shutil.copytree(project / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        (*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@contextmanager
def serving(command: Path, home: Path) -> Iterator[str]:
    """The installed program serves: its address."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("RADIOLITH_", "PYTHON"))}
    environ |= {"RADIOLITH_DIMSE_PORT": "0"}
    subprocess.run((command, "init", "--home", home), env=environ, check=True, capture_output=True)
    address = f"127.0.0.1:{free_port()}"
    with (home.parent / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            (command, "serve", "--home", home, "--http", address, "--workers", "1"), env=environ, stdout=log, stderr=log
        )
    try:

        def ready() -> bool:
            assert server.poll() is None, (home.parent / "serve.log").read_text()
            try:
                with urllib.request.urlopen(f"http://{address}/health/ready", timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        wait(ready, "the installed program to serve")
        yield f"http://{address}"
        server.terminate()
        assert server.wait(40) == 0
    finally:
        server.kill()
        server.wait()


def test_the_wheel_has_everything_that_is_not_made_when_it_runs(project: Path, wheel: Path) -> None:
    assert wheel.name == f"radiolith-{__version__}-py3-none-any.whl"
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("radiolith/")}
    source = project / "src"
    expected = {
        str(path.relative_to(source))
        for path in (source / "radiolith").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == expected
    kinds = {Path(name).suffix for name in inside}
    assert {".py", ".html", ".css", ".svg", ".tsv", ".typed"} <= kinds


def test_the_wheel_alone_serves(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, beside dependencies as they are here; nothing of the source tree."""
    place = tmp_path / "venv"
    subprocess.run((sys.executable, "-m", "venv", "--without-pip", place), check=True)
    subprocess.run((*PIP, "--python", place, "install", "--no-deps", "--no-index", wheel), check=True)
    packages = next((place / "lib").glob("python*/site-packages"))
    dependencies = tmp_path / "dependencies"
    dependencies.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "radiolith" not in entry.name and entry.suffix != ".pth":
            (dependencies / entry.name).symlink_to(entry)
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    command = place / "bin" / "radiolith"
    version = subprocess.run((command, "--version"), capture_output=True, text=True, env={})
    assert version.stdout.split() == ["radiolith", __version__]
    where = subprocess.run(
        (place / "bin" / "python", "-c", "import radiolith.web; print(radiolith.web.__file__)"),
        capture_output=True, text=True, env={},
    )  # fmt: skip
    assert where.stdout.startswith(str(place))
    with serving(command, tmp_path / "home") as address:
        page = urllib.request.urlopen(address, timeout=30).read().decode()
        assert 'name="password"' in page
        style = re.search(r'href="(/static/[^"]+\.css)"', page)
        assert style and urllib.request.urlopen(address + style[1], timeout=30).status == 200


@pytest.mark.skipif(not campaign.LONG, reason="fetches and installs every dependency: in the long run")
def test_the_bundle_installs_and_serves_without_a_network(project: Path, tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHON": sys.executable}
    made = subprocess.run(
        ("sh", "packaging/bundle", tmp_path), cwd=project, env=environ, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    with tarfile.open(made.stdout.strip().splitlines()[-1]) as bundle:
        bundle.extractall(tmp_path, filter="data")
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    alone = (
        ("unshare", "-rn") if subprocess.run(("unshare", "-rn", "true"), capture_output=True).returncode == 0 else ()
    )
    target = tmp_path / "opt"
    command = (*alone, "sh", folder / "install", target)
    quiet = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr
    assert f"radiolith {__version__}" in done.stdout
    with serving(target / "bin" / "radiolith", tmp_path / "home") as address:
        assert urllib.request.urlopen(address, timeout=30).status == 200
    (folder / "requirements.txt").write_text("# altered\n")
    again = subprocess.run(command, capture_output=True, text=True, env=quiet)
    assert again.returncode == 1 and "damaged" in again.stderr


def test_the_scripts_are_scripts(project: Path) -> None:
    for name in ("bundle", "install"):
        done = subprocess.run(("sh", "-n", project / "packaging" / name), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_unit_is_one_that_systemd_takes_and_finds_closed(project: Path, tmp_path: Path) -> None:
    text = (project / "packaging" / "radiolith.service").read_text("utf-8")
    assert "ExecStart=/opt/radiolith/bin/radiolith serve --home /srv/radiolith\n" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine (Debian: systemd)")
    unit = tmp_path / "radiolith.service"
    unit.write_text(text.replace("/opt/radiolith/bin/radiolith", "/bin/true"))
    checked = subprocess.run(("systemd-analyze", "verify", unit), capture_output=True, text=True)
    assert checked.returncode == 0 and "radiolith.service" not in checked.stderr, checked.stderr
    command = ("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    judged = subprocess.run(command, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout.splitlines()[-1]


def test_container_files_name_what_there_is(project: Path) -> None:
    settings = {config.variable(name) for name, _, _ in config._entries(config.Settings)}
    both = ""
    for name in ("Containerfile", "compose.yaml"):
        text = (project / "packaging" / name).read_text("utf-8")
        both += text
        for variable in re.findall(r"\b(RADIOLITH_[A-Z_]+)[=:]", text):
            assert variable in settings | {"RADIOLITH_HOME"}, f"{name}: {variable}"
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", both, re.MULTILINE):
        assert all((project / name).exists() for name in source.split()), source
    assert "EXPOSE 8050 11112" in both and (config.Http().port, config.Dimse().port) == (8050, 11112)
    images = re.findall(r"(?:FROM|image:) (\S+)", both)
    assert all(
        image.startswith("docker.io/") and ":" in image.removeprefix("docker.io/")
        for image in images
        if image != "radiolith"
    )
