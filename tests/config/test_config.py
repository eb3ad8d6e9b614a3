"""Settings: three sources, one table, and no name without effect."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from radiolith import config
from radiolith.model import BadInput, NotFound


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "archive"
    home.mkdir()
    config.write_default(home)
    return home


def test_defaults_are_derived_from_the_home(home: Path) -> None:
    settings = config.load(home, {})
    assert settings.database.url == f"sqlite:///{home}/index.db"
    assert settings.tiers.hot.url == f"file://{home}/tier"
    assert settings.keys.root == f"{home}/root.key"
    assert settings.keys.keyring == (f"file://{home}/keyring", f"file://{home}/tier/keyring")
    assert settings.http.host == "127.0.0.1"
    assert settings.versions.policy == "first"


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(home: Path) -> None:
    (home / config.FILE).write_text("workers = 3\n[http]\nport = 9000\n[versions.peers]\nCT1 = 'newest'\n")
    settings = config.load(home, {"RADIOLITH_HTTP_PORT": "9001", "RADIOLITH_TIERS_HOT_URL": "s3://bucket/a"})
    assert (settings.workers, settings.http.port) == (3, 9001)
    assert settings.versions.peers == {"CT1": "newest"}
    assert settings.keys.keyring[1] == "s3://bucket/a/keyring"


def test_every_setting_has_a_variable(home: Path) -> None:
    environ = {
        "RADIOLITH_TIERS_HOT_ALLOW_HTTP": "yes",
        "RADIOLITH_KEYS_KEYRING": "file://{home}/a, file:///b",
        "RADIOLITH_VERSIONS_PEERS": "CT1=newest,MR=ask",
        "RADIOLITH_LONG": "1",
        "RADIOLITH_TEST_CORPUS": "elsewhere",
        "HOME": "/root",
    }
    settings = config.load(home, environ)
    assert settings.tiers.hot.allow_http is True
    assert settings.keys.keyring == (f"file://{home}/a", "file:///b")
    assert settings.versions.peers == {"CT1": "newest", "MR": "ask"}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"databse": {"url": "x"}}, "database.url"),
        ({"limits": {"pool_byte": 1}}, "limits.pool_bytes"),
        ({"worker": 1}, "workers"),
    ],
)
def test_an_unknown_name_names_the_nearest(tmp_path: Path, document: dict[str, object], named: str) -> None:
    with pytest.raises(BadInput, match=f"Did you mean '{re.escape(named)}'"):
        config.resolve(tmp_path, document, {})


def test_an_unknown_variable_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean 'RADIOLITH_DATABASE_URL'"):
        config.resolve(tmp_path, {}, {"RADIOLITH_DATABSE_URL": "x"})


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"http": {"port": "80"}}, "whole number"),
        ({"http": {"port": True}}, "whole number"),
        ({"http": {"port": 70000}}, "TCP port"),
        ({"limits": {"pool_bytes": 0}}, "cannot be 0"),
        ({"versions": {"policy": "last"}}, "first, newest, ask"),
        ({"versions": {"peers": {"CT": "last"}}}, "first, newest, ask"),
        ({"log": {"level": "loud"}}, "debug, info"),
        ({"amend": {"system": " "}}, "1 to 64 printable"),
        ({"amend": {"system": "a\\b"}}, "no backslash"),
        ({"amend": {"system": "x" * 65}}, "1 to 64 printable"),
        ({"http": {"cors_origins": ["*"]}}, "every page there is"),
        ({"http": {"cors_origins": ["null"]}}, "https://HOST"),
        ({"http": {"cors_origins": ["https://viewer.example/"]}}, "nothing behind it"),
        ({"http": {"cors_origins": ["https://Viewer.example"]}}, "small letters"),
        ({"keys": {"keyring": ["file:///one"]}}, "two places"),
        ({"keys": {"keyring": "file:///one"}}, "list of texts"),
    ],
)
def test_a_wrong_value_says_what_is_right(tmp_path: Path, document: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        config.resolve(tmp_path, document, {})


def test_origins_in_file_and_environment(tmp_path: Path) -> None:
    assert config.resolve(tmp_path, {}, {}).http.cors_origins == ()
    listed = {"http": {"cors_origins": ["https://viewer.example", "http://localhost:3000"]}}
    assert config.resolve(tmp_path, listed, {}).http.cors_origins == ("https://viewer.example", "http://localhost:3000")
    given = {"RADIOLITH_HTTP_CORS_ORIGINS": "https://a.example, https://[::1]:8443"}
    assert config.resolve(tmp_path, listed, given).http.cors_origins == ("https://a.example", "https://[::1]:8443")


def test_no_home_says_what_to_do(home: Path) -> None:
    with pytest.raises(NotFound, match=f"Did you mean {re.escape(str(home))}"):
        config.load(home.parent / "archve", {})
    with pytest.raises(NotFound, match="radiolith init --home"):
        config.load(home.parent / "zzz" / "elsewhere", {})


def test_a_broken_file_is_one_sentence(home: Path) -> None:
    (home / config.FILE).write_text("[http\n")
    with pytest.raises(BadInput, match=r"radiolith\.toml cannot be read"):
        config.load(home, {})


def test_the_written_file_with_every_mark_removed_says_the_defaults(home: Path) -> None:
    text = (home / config.FILE).read_text("utf-8")
    switched_on = re.sub(r"(?m)^#(?! )", "", text)
    document = tomllib.loads(switched_on)
    assert dataclasses.asdict(config.resolve(home, document, {})) == dataclasses.asdict(config.load(home, {}))
    assert len(tomllib.loads(switched_on)["limits"]) == len(dataclasses.fields(config.Limits))


def test_the_default_file_never_replaces_one(home: Path) -> None:
    with pytest.raises(FileExistsError):
        config.write_default(home)
