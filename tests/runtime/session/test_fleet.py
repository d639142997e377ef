"""Away from home a head begins as the fleet's for such frames; the guard has the last word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.fleet_heads import FleetHead, FleetHeads
from ocl_edge_runtime.session.learners import HeadLearner
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from tests.doubles.images import random_image


@pytest.fixture
def session(small_bundle: Bundle) -> Iterator[Session]:
    options = SessionOptions(lr=0.0, restoration=0.0, threads=1, opening=1.0)
    with open_session(small_bundle, options, RealtimeOptions(statistics_limit=1e9)) as opened:
        yield opened


def learner_of(session: Session) -> HeadLearner:
    learner = session.updates.learner
    assert isinstance(learner, HeadLearner)
    return learner


def head_at(session: Session, change: float, mean: float) -> FleetHead:
    """The trained head times 1 + change, for frames whose statistics have this mean."""
    trained = session.weights.trained
    statistics = torch.stack(
        (torch.full_like(session.norms.mixed[0], mean), torch.ones_like(session.norms.mixed[1]))
    )  # type: ignore[attr-defined]
    return FleetHead({name: weight * (1 + change) for name, weight in trained.items()}, statistics)


def with_fleet(session: Session, *heads: FleetHead) -> None:
    learner_of(session).fleet = FleetHeads(heads)


def drift(session: Session) -> float:
    return session.weights.distance_from_trained()


def test_the_first_update_away_begins_with_the_fleets_head(session: Session) -> None:
    with_fleet(session, head_at(session, 0.1, 0.0))
    session.predict(random_image(0))
    assert drift(session) == 0
    assert session.adapt().applied
    assert drift(session) == pytest.approx(0.1, rel=1e-4)


def test_the_head_of_the_nearest_statistics_is_taken(session: Session) -> None:
    with_fleet(session, head_at(session, 0.1, 1e4), head_at(session, 0.05, 0.0))
    session.step(random_image(0))
    assert drift(session) == pytest.approx(0.05, rel=1e-4)


def test_a_head_that_the_guard_refuses_is_never_used(session: Session) -> None:
    with_fleet(session, head_at(session, -2.0, 0.0))  # every class changes
    result = session.step(random_image(0))
    assert result.verdict.applied
    assert learner_of(session).guard.rollbacks == 0
    assert drift(session) == 0
    assert learner_of(session).fleet is None


def test_a_head_that_has_learned_goes_on_with_that(session: Session) -> None:
    learner_of(session).head.load({n: w * 1.2 for n, w in session.weights.trained.items()})
    with_fleet(session, head_at(session, 0.1, 0.0))
    session.step(random_image(0))
    assert drift(session) == pytest.approx(0.2, rel=1e-4)


def test_after_home_it_begins_as_the_fleets_again(session: Session) -> None:
    with_fleet(session, head_at(session, 0.1, 0.0))
    session.step(random_image(0))
    HeadLearner.go_home(learner_of(session), at_once=True)  # whatever the opening
    assert drift(session) == 0
    session.step(random_image(1))
    assert drift(session) == pytest.approx(0.1, rel=1e-4)


def test_hardly_away_it_begins_as_trained(small_bundle: Bundle) -> None:
    options = SessionOptions(lr=0.0, restoration=0.0, threads=1, opening=0.4)
    with open_session(small_bundle, options, RealtimeOptions(statistics_limit=1e9)) as opened:
        with_fleet(opened, head_at(opened, 0.1, 0.0))
        assert opened.step(random_image(0)).verdict.applied
        assert drift(opened) == 0


def test_in_the_background_the_masks_take_it_over(small_bundle: Bundle) -> None:
    options = SessionOptions(lr=0.0, restoration=0.0, threads=1, opening=1.0)
    realtime = replace(RealtimeOptions(statistics_limit=1e9), update="background")
    with open_session(small_bundle, options, realtime) as opened:
        with_fleet(opened, head_at(opened, 0.1, 0.0))
        opened.step(random_image(0))
        opened.settle()
        assert drift(opened) == pytest.approx(0.1, rel=1e-4)
