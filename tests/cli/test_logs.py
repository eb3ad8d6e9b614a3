"""A log that cannot be written stops nothing."""

from __future__ import annotations

import io
import sys

import pytest
import structlog

from radiolith.cli import logs


@pytest.fixture
def configured() -> object:
    before = structlog.get_config()
    logs.begin("info")
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("configured")
def test_a_closed_standard_error_costs_only_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    structlog.get_logger().warning("nobody hears this")


@pytest.mark.usefixtures("configured")
def test_lines_go_where_the_standard_error_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = io.StringIO()
    monkeypatch.setattr(sys, "stderr", now)
    structlog.get_logger().warning("here")
    assert "here" in now.getvalue()
