"""The switch between every run's counts and the long ones."""

from __future__ import annotations

import pytest

from tests import campaign


def test_counts_follow_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "chosen", {})
    monkeypatch.setattr(campaign, "LONG", False)
    assert campaign.count("seeds", 5, 500) == 5
    monkeypatch.setattr(campaign, "LONG", True)
    assert campaign.count("seeds", 5, 500) == 500
    assert campaign.chosen == {"seeds": 500}
