"""The switch between every run's counts and the long ones."""

from __future__ import annotations

import pytest

from tests import campaign


@pytest.mark.parametrize(("share", "wanted"), [(0, 5), (1, 500), (0.1, 50), (0.001, 5)])
def test_counts_follow_the_switch(share: float, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "chosen", {})
    monkeypatch.setattr(campaign, "SHARE", share)
    monkeypatch.setattr(campaign, "LONG", share > 0)
    assert campaign.count("seeds", 5, 500) == wanted
    assert campaign.chosen == {"seeds": wanted}
