"""A frame whose norms do not tell enough gets a second look, and is seen where its classes part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.home import DiscsDistances
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.session import segmenter
from ocl_edge_runtime.session.across import LATE_S, SOON_S, Across, Comparison
from ocl_edge_runtime.session.frames import FrameResult
from ocl_edge_runtime.session.norm_vectors import NormVectors
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sources import NoiseSource
from tests.doubles.clock import SimulatedClock

Pixels = NDArray[np.uint8]
OPTIONS = SessionOptions(backend="onnxruntime", prior=0.5, lr=0.05, restoration=0.0, threads=1)
MODES = [None, RealtimeOptions(adapt_every=1, statistics_limit=1e9)]
HOME, BORDER, AWAY = 0.5, 1.325, 3.0
(CLEAR,) = (frame.image for frame in NoiseSource(120, 160, 1, seed=5))
GROWS, STANDS, SHRINKS = 1.3, 1.05, 0.9
"""Lead wide open over the lead shut."""


class Leads:
    """What both looks at a frame find, the first one first, and how many frames were looked at so."""

    def __init__(self) -> None:
        self.grown = STANDS
        self.session: Session | None = None
        self.own_is_open = False
        self._looks, self._count = self._answers(), 0

    @property
    def frames(self) -> int:
        return self._count // 2

    def __call__(self, _logits: Tensor) -> float:
        return next(self._looks)

    def _answers(self) -> Iterator[float]:
        while True:
            assert self.session is not None
            assert self.session.norms.openness is not None
            own_is_open = self.own_is_open or self.session.norms.openness.value > 0.5
            for is_open in (own_is_open, not own_is_open):
                self._count += 1
                yield self.grown if is_open else 1.0


@pytest.fixture
def leads(monkeypatch: pytest.MonkeyPatch, home_is: dict[str, float]) -> Leads:
    """All norms see more than home in every frame, and the sensing ones home, if nobody says otherwise."""
    told = Leads()
    home_is["distance"] = HOME
    monkeypatch.setattr(DiscsDistances, "beyond_home", lambda _self, _statistics, _opening: True)
    monkeypatch.setattr(segmenter, "lead_of_best", told)
    return told


def session_of(bundle: Bundle, mode: RealtimeOptions | None, leads: Leads | None = None) -> Session:
    session = open_session(bundle, OPTIONS, mode, SimulatedClock())
    if leads is not None:
        leads.session = session
    return session


def fixed(bundle: Bundle, mode: RealtimeOptions | None, opening: float) -> Session:
    return open_session(bundle, replace(OPTIONS, opening=opening), mode, SimulatedClock())


def picture(index: int, foggy: bool = False) -> Pixels:
    """The same street with another grain: no repeated frame, and none that looks new but in fog."""
    grainy = CLEAR + np.random.default_rng(index).normal(0, 1, CLEAR.shape)
    return (grainy * 0.7 + 70 if foggy else grainy).clip(0, 255).astype(np.uint8)


def play(session: Session, frames: range, fps: float = 1.0, foggy: bool = False) -> list[FrameResult]:
    return [session.step(picture(index, foggy), index / fps) for index in frames]


@pytest.mark.parametrize("mode", MODES)
def test_drops_on_a_lens_open_though_all_norms_would_stay_home_and_close_when_they_are_gone(
    small_bundle: Bundle, leads: Leads, mode: RealtimeOptions | None
) -> None:
    session, shut, wide = (
        session_of(small_bundle, mode, leads),
        fixed(small_bundle, mode, 0),
        fixed(small_bundle, mode, 1),
    )
    leads.grown = GROWS
    (first,) = play(session, range(1))
    assert (first.opening, first.again) == (1, True)
    assert np.array_equal(first.mask, wide.predict(picture(0), 0.0))
    stays = play(session, range(1, 4))
    assert [(r.opening, r.again) for r in stays] == [(1, False)] * 3
    assert leads.frames == 4
    leads.grown = SHRINKS
    assert session.weights.distance_from_trained() > 0
    (back,) = play(session, range(4, 5))
    assert (back.opening, back.again) == (0, True)
    assert np.array_equal(back.mask, shut.predict(picture(4), 4.0))
    assert session.weights.distance_from_trained() == 0


def test_where_the_lead_neither_grows_nor_shrinks_the_norms_are_followed(
    small_bundle: Bundle, leads: Leads, home_is: dict[str, float]
) -> None:
    session = session_of(small_bundle, MODES[1], leads)
    leads.grown = GROWS
    play(session, range(1))
    leads.grown = STANDS
    results = play(session, range(1, 12))
    assert not any(r.again for r in results)
    assert [0 < r.opening < 1 for r in results[1:4]] == [True] * 3
    assert results[10].opening == 0
    home_is["distance"] = BORDER
    assert play(session, range(12, 30))[-1].opening == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("grown", "opening"), [(GROWS, 1), (STANDS, 1), (SHRINKS, 0)])
def test_the_first_frame_of_weather_is_seen_open_if_it_is_no_dazzled_one(
    small_bundle: Bundle, leads: Leads, home_is: dict[str, float], grown: float, opening: float
) -> None:
    session = session_of(small_bundle, MODES[1], leads)
    play(session, range(6))
    home_is["distance"], leads.grown = AWAY, grown
    (result,) = play(session, range(6, 7), foggy=True)
    assert (result.opening, result.again) == (opening, opening == 1)


def test_a_frame_that_jumps_anyway_is_not_compared(
    small_bundle: Bundle, leads: Leads, home_is: dict[str, float]
) -> None:
    home_is["distance"] = AWAY
    (result,) = play(session_of(small_bundle, MODES[1], leads), range(1))
    assert (result.opening, result.again, leads.frames) == (1, True, 0)


def test_a_comparison_does_not_count_as_the_time_of_one_look(
    small_bundle: Bundle, leads: Leads, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, took = session_of(small_bundle, MODES[1], leads), []
    monkeypatch.setattr(NormVectors, "took", lambda _self, seconds: took.append(seconds))
    results = play(session, range(8))
    assert leads.frames == 2
    assert len(took) == sum(r.decided.measured for r in results if r.decided) - 2 > 0


@pytest.mark.parametrize(("grown", "opening"), [(SHRINKS, 0.0), (STANDS, 0.0), (GROWS, 0.5)])
def test_a_half_open_frame_that_may_be_back_home_is_looked_at_shut(
    small_bundle: Bundle, leads: Leads, home_is: dict[str, float], grown: float, opening: float
) -> None:
    session = session_of(small_bundle, MODES[1], leads)
    home_is["distance"] = BORDER
    assert play(session, range(1))[0].opening == pytest.approx(0.5)
    home_is["distance"], leads.grown, leads.own_is_open = HOME, grown, True
    (result,) = play(session, range(1, 2), foggy=True)
    assert (result.opening, result.again, leads.frames) == (pytest.approx(opening), opening == 0, 1)
    assert session.norms.openness is not None
    assert session.norms.openness.value == pytest.approx(opening)


def test_at_home_nothing_is_compared(
    small_bundle: Bundle, leads: Leads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiscsDistances, "beyond_home", lambda _self, _statistics, _opening: False)
    leads.grown = GROWS
    results = play(session_of(small_bundle, MODES[1], leads), range(8))
    assert (max(r.opening for r in results), leads.frames) == (0, 0)


def test_what_the_lead_opened_stays_so_until_the_next_look_whatever_the_norms_want(
    small_bundle: Bundle, leads: Leads
) -> None:
    session = session_of(small_bundle, MODES[1], leads)
    leads.grown = GROWS
    play(session, range(1))
    leads.grown = SHRINKS
    results = play(session, range(1, 12), fps=10, foggy=True)
    assert [r.opening for r in results] == [1] * 9 + [0] * 2
    assert [r.again for r in results] == [False] * 9 + [True, False]


@pytest.mark.parametrize("fps", [1.0, 10.0])
def test_what_finds_nothing_happens_every_fifth_second(
    small_bundle: Bundle, leads: Leads, fps: float
) -> None:
    results = play(session_of(small_bundle, MODES[1], leads), range(int(11 * fps)), fps)
    assert max(r.opening for r in results) == 0
    assert leads.frames == 3


def test_no_frame_is_compared_where_its_mask_would_be_late(small_bundle: Bundle, leads: Leads) -> None:
    session = session_of(small_bundle, replace(MODES[1], period_s=0.1), leads)
    session.norms.took(0.06)
    leads.grown = GROWS
    assert play(session, range(1))[0].opening == leads.frames == 0


def test_a_resumed_stream_goes_on_open(small_bundle: Bundle, leads: Leads) -> None:
    whole, resumed = session_of(small_bundle, MODES[1], leads), session_of(small_bundle, MODES[1])
    leads.grown = GROWS
    play(whole, range(2))
    resumed.import_state(*whole.export_state())
    moments = whole.learned.moments
    assert moments["looked_across_at"] == 1.0
    resumed.learned.moments = {**moments, "looked_across_at": 1.1}
    assert play(resumed, range(2, 3), fps=1.5)[0].opening == 1
    assert resumed.norms.openness is not None
    assert resumed.norms.openness.value == 1
    assert resumed.norms.openness.across.looked_at == 1.1
    assert leads.frames == 2


@pytest.mark.parametrize(
    ("grown", "at_s", "looks_new", "due", "wish"),
    [
        (GROWS, SOON_S / 2, True, False, 1.0),
        (GROWS, SOON_S, False, True, 1.0),
        (GROWS, LATE_S, False, True, 0.0),
        (STANDS, SOON_S, False, False, 0.0),
        (STANDS, SOON_S, True, True, 0.0),
        (STANDS, LATE_S, False, True, 0.0),
        (GROWS, -1.0, False, True, 1.0),  # a recording begins anew
    ],
)
def test_when_the_next_look_is_due_and_how_long_the_last_one_holds(
    grown: float, at_s: float, looks_new: bool, due: bool, wish: float
) -> None:
    across = Across()
    assert across.is_due(0.0, looks_new=False)
    across.take(0.0, Comparison(0.0, 1.0, 0.0), 1.0, grown)
    assert across.is_due(at_s, looks_new) is due
    assert across.wish(at_s) == wish


@pytest.mark.parametrize(
    ("opening", "norms_want", "own", "across", "moves", "wish"),
    [
        (0.0, 0.0, 1.0, GROWS, True, 1.0),
        (0.0, 0.7, 1.0, STANDS, False, 0.0),
        (0.0, 0.8, 1.0, STANDS, True, 0.0),
        (0.0, 1.0, 1.0, SHRINKS, False, 0.0),
        (0.0, 1.0, 1.0, float("nan"), False, 0.0),
        (1.0, 0.0, GROWS, 1.0, False, 1.0),
        (1.0, 0.0, STANDS, 1.0, False, 0.0),
        (1.0, 0.2, SHRINKS, 1.0, True, 0.0),
        (1.0, 0.3, STANDS, 1.0, False, 0.0),
        (1.0, 0.3, GROWS, 1.0, False, 1.0),
        (1.0, 0.0, float("nan"), 1.0, False, 0.0),
    ],
)
def test_where_a_frame_belongs(
    opening: float, norms_want: float, own: float, across: float, moves: bool, wish: float
) -> None:
    looks = Across()
    assert looks.take(0.0, Comparison(opening, 1 - opening, norms_want), own, across) is moves
    assert looks.wish(0.0) == wish


@pytest.mark.parametrize(("own", "moves"), [(1.1, True), (1.03, True), (1.2, False)])
def test_nearer_home_a_frame_is_seen_as_its_norms_want_unless_the_lead_grows(own: float, moves: bool) -> None:
    assert Across().take(0.0, Comparison(1.0, 0.4, 0.4), own * 0.6 + 0.4, 1.0) is moves


@pytest.mark.parametrize(
    ("grown", "held_shut", "opening"), [(GROWS, 0, 1), (STANDS, 0, 1), (SHRINKS, 0, 0), (SHRINKS, 1, 1)]
)
def test_what_all_norms_hold_open_wide_open_alone_closes_where_the_lead_shrinks(
    small_bundle: Bundle,
    leads: Leads,
    home_is: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    grown: float,
    held_shut: float,
    opening: float,
) -> None:
    session = session_of(small_bundle, MODES[1], leads)
    home_is["distance"] = AWAY
    play(session, range(3))
    assert leads.frames == 0, "the sensing norms see it as well"
    held = {0.0: held_shut, 1.0: 1.0}
    monkeypatch.setattr(DiscsDistances, "openings_at", lambda _self, _seen, at: (1.0, held[round(at)]))
    home_is["distance"], leads.grown = HOME, grown
    (result,) = play(session, range(3, 4))
    assert (result.opening, leads.frames) == (opening, 1)
