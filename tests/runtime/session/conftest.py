from __future__ import annotations

import pytest

from ocl_edge.method.home import DiscsDistances, SensingNorms


@pytest.fixture
def home_is(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The distance that every session finds, as the test sets it: of its sensing norms alone."""
    told = {"distance": 0.0}
    monkeypatch.setattr(DiscsDistances, "openings_at", lambda _self, _statistics, _opening: (1.0, 0.0))
    monkeypatch.setattr(DiscsDistances, "beyond_home", lambda _self, _statistics, _opening: False)
    monkeypatch.setattr(SensingNorms, "distance", lambda _self, _statistics: told["distance"])
    return told
