from __future__ import annotations

import pytest

from ocl_edge.bundle.fleet import trained_head
from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.fleet.contribution import Border
from tests.doubles.fleets import Learned, learned_by


@pytest.fixture(scope="session")
def border(small_bundle: Bundle) -> Border:
    return Border(small_bundle, trained_head(small_bundle))


@pytest.fixture
def learned(border: Border) -> Learned:
    """What vehicle ``seed`` has learned: near the others of its ``weather``, not the same."""
    return learned_by(border)
