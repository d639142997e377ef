"""A frame that is somewhere else than the stream was is seen where it belongs, away as well as back home."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.home import HOME_OF_DISCS, DiscsDistances, HomeDistances, SensingNorms
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.opening import FollowingOpening
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.records.tape import Tape, TapeWriter
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.session.norm_vectors import NormVectors
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.openness import Openness
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sources import NoiseSource
from tests.doubles.clock import SimulatedClock

Pixels = NDArray[np.uint8]
OPTIONS = SessionOptions(backend="onnxruntime", prior=0.5, lr=0.05, restoration=0.0, threads=1)
(CLEAR,) = (frame.image for frame in NoiseSource(120, 160, 1, seed=5))
HOME, HALFWAY, AWAY = 0.5, 1.325, 3.0
MODES = [None, RealtimeOptions(adapt_every=1, statistics_limit=1e9)]


def session_of(bundle: Bundle, mode: RealtimeOptions | None, opening: float | None = None) -> Session:
    options = OPTIONS if opening is None else replace(OPTIONS, opening=opening)
    return open_session(bundle, options, mode, SimulatedClock())


def picture(index: int, foggy: bool = False) -> Pixels:
    """The same street with another grain, so that it is no repeated frame."""
    grainy = CLEAR + np.random.default_rng(index).normal(0, 1, CLEAR.shape)
    return (grainy * 0.7 + 70 if foggy else grainy).clip(0, 255).astype(np.uint8)


def play(
    session: Session, told: dict[str, float], weather: Iterable[bool], fps: float = 1.0, first: int = 0
) -> list[FrameResult]:
    """Results of frames in fog where ``weather`` is True, and else of clear ones at home."""
    results = []
    for index, foggy in enumerate(weather, first):
        told["distance"] = AWAY if foggy else HOME
        results.append(session.step(picture(index, foggy), index / fps))
    return results


@pytest.mark.parametrize("mode", MODES)
def test_the_first_frame_of_a_stream_is_seen_open_and_the_first_one_back_home_shut(
    small_bundle: Bundle, home_is: dict[str, float], mode: RealtimeOptions | None
) -> None:
    session, shut, wide = (session_of(small_bundle, mode, opening) for opening in (None, 0.0, 1.0))
    results = play(session, home_is, [True] * 3 + [False] * 2)
    assert [r.opening for r in results] == [1, 1, 1, 0, 0]
    assert [r.again for r in results] == [True, False, False, True, False]
    assert np.array_equal(results[0].mask, wide.predict(picture(0, True), 0.0))
    assert not np.array_equal(results[0].mask, shut.predict(picture(0, True), 0.0))
    assert np.array_equal(results[4].mask, shut.predict(picture(4), 4.0))
    assert session.weights.distance_from_trained() == 0


@pytest.mark.parametrize("mode", MODES)
def test_one_dazzled_frame_between_others_opens_nothing(
    small_bundle: Bundle, home_is: dict[str, float], mode: RealtimeOptions | None
) -> None:
    results = play(session_of(small_bundle, mode), home_is, [False] * 2 + [True] + [False] * 3)
    assert not any(r.opening or r.again for r in results)


@pytest.mark.parametrize("mode", MODES)
def test_weather_that_comes_is_seen_open_from_its_second_second_on(
    small_bundle: Bundle, home_is: dict[str, float], mode: RealtimeOptions | None
) -> None:
    session, wide = session_of(small_bundle, mode), session_of(small_bundle, mode, 1.0)
    results = play(session, home_is, [False, True, True, True])
    assert [r.opening for r in results] == [0, 0, 1, 1]
    assert [r.again for r in results] == [False, False, True, False]
    assert np.array_equal(results[2].mask, wide.predict(picture(2, True), 2.0))


@pytest.mark.parametrize(("times", "opening"), [(1.0, 1.0), (9.0, 0.0), (None, 0.0)])
def test_noise_opens_a_session_whose_sensing_norms_find_home_by_the_distance_of_discs(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, times: float | None, opening: float
) -> None:
    """None: a bundle that was exported before anybody drew them."""
    discs = small_bundle.manifest.discs_distance
    assert discs is not None
    manifest = small_bundle.manifest.model_copy(update={"discs_distance": times and times * discs})
    monkeypatch.setattr(SensingNorms, "distance", lambda _self, _statistics: HOME)
    (noisy,) = (frame.image for frame in NoiseSource(120, 160, 1, seed=6))
    result = session_of(replace(small_bundle, manifest=manifest), MODES[1]).step(noisy, 0.0)
    assert (result.opening, result.distance, result.again) == (opening, HOME, opening == 1)


def test_a_faster_camera_waits_for_the_same_second(small_bundle: Bundle, home_is: dict[str, float]) -> None:
    session = session_of(small_bundle, MODES[1])
    results = play(session, home_is, [False] * 4 + [True] * 7, fps=4.0)
    assert [index for index, r in enumerate(results) if r.again] == [8]  # of 4, the first in fog, and 5 to 8
    assert 0 < results[7].opening < 0.5
    assert [r.opening for r in results[8:]] == [1, 1, 1]


def test_weather_that_breaks_off_waits_for_a_second_anew(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    session = session_of(small_bundle, MODES[1])
    results = play(session, home_is, [False, True, True, False, True, True, True, True], fps=4.0)
    assert not any(r.again for r in results)


def test_norms_alone_are_the_frozen_networks_on_the_very_first_frame_back(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    session = open_session(small_bundle, replace(OPTIONS, method="norm"), MODES[1], SimulatedClock())
    shut = session_of(small_bundle, MODES[1], 0.0)
    back = play(session, home_is, [True, True, False])[-1]
    assert np.array_equal(back.mask, shut.predict(picture(2), 2.0))


def test_a_frame_nearer_home_meets_the_trained_head_and_is_learned_from(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    session, half = session_of(small_bundle, MODES[1]), session_of(small_bundle, MODES[1], 0.5)
    play(session, home_is, [True] * 3)
    taught = session.weights.distance_from_trained()
    assert taught > 0
    home_is["distance"] = HALFWAY
    result = session.step(picture(3), 3.0)
    assert (result.opening, result.again) == (pytest.approx(0.5), True)
    assert np.array_equal(result.mask, half.predict(picture(3), 3.0))
    assert session.weights.distance_from_trained() != taught


def test_a_picture_that_does_not_look_new_is_followed_slowly(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    session = session_of(small_bundle, MODES[1])
    play(session, home_is, [True])
    home_is["distance"] = HOME
    results = [session.step(picture(second, True), float(second)) for second in range(1, 4)]
    assert not any(r.again for r in results)
    assert 0 < results[-1].opening < 1


@pytest.mark.parametrize(("mode", "fps"), [(MODES[0], 1), (MODES[1], 1), (MODES[1], 30)])
def test_flicker_is_looked_at_again_no_oftener_than_once_from_there_and_back(
    small_bundle: Bundle, home_is: dict[str, float], mode: RealtimeOptions | None, fps: int
) -> None:
    session = session_of(small_bundle, mode and replace(mode, adapt_every=1000))
    results = play(session, home_is, [True, False] * 8, fps)
    assert [r.again for r in results] == [True, True] + [False] * 14


@pytest.mark.parametrize(("predicted_s", "again"), [(0.04, True), (0.06, False)])
def test_no_frame_is_looked_at_again_where_its_mask_would_be_late(
    small_bundle: Bundle, home_is: dict[str, float], predicted_s: float, again: bool
) -> None:
    session = session_of(small_bundle, replace(MODES[1], period_s=0.1))
    session.norms.took(predicted_s)
    (result,) = play(session, home_is, [True])
    assert result.decided is not None
    assert (result.again, result.decided.twice) == (again, again)


def test_a_second_look_does_not_count_as_the_time_of_one(
    small_bundle: Bundle, home_is: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, took = session_of(small_bundle, MODES[1]), []
    monkeypatch.setattr(NormVectors, "took", lambda _self, seconds: took.append(seconds))
    results = play(session, home_is, [True] * 3)
    assert len(took) == sum(not r.again for r in results) == 2


def test_a_tape_replays_what_time_let_be_looked_at_again(
    small_bundle: Bundle, home_is: dict[str, float], tmp_path: Path
) -> None:
    path, weather = tmp_path / "tape.jsonl", [True, False, True, True, False]
    mode = replace(MODES[1], period_s=0.1)
    session = session_of(small_bundle, mode)
    with TapeWriter(path, session) as writer:
        results = play(session, home_is, weather[:1], 10.0)
        session.norms.took(0.001)  # there was no time before
        results += play(session, home_is, weather[1:], 10.0, 1)
        for index, result in enumerate(results):
            writer.frame(Frame(CLEAR, index, str(index), 0.0), result)
        writer.finish()
    tape, replayed = Tape.read(path), session_of(small_bundle, mode)
    assert [frame.twice for frame in tape.frames.values()] == [False, True, True, True, True]
    assert [r.again for r in results] == [False, True, False, False, False]
    replay = tape.play_in(replayed)
    play(replayed, home_is, weather)
    assert "bit for bit" in replay.check_end()


def test_a_resumed_stream_does_not_begin_again(small_bundle: Bundle, home_is: dict[str, float]) -> None:
    whole, resumed = session_of(small_bundle, MODES[1]), session_of(small_bundle, MODES[1])
    play(whole, home_is, [True, False, True])
    tensors, facts = whole.export_state()
    resumed.import_state(tensors, {**facts, "saved_at": 0.0})  # its clock stands at 0, too
    for session in (whole, resumed):
        rest = play(session, home_is, [True, True, False], first=3)
        assert [r.again for r in rest] == [True, False, True]  # it had seen one frame in fog


def test_in_between_a_picture_that_looks_new_is_measured(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    session = session_of(small_bundle, replace(MODES[1], norm_every=8))
    results = play(session, home_is, [True] * 3 + [False] * 2, fps=10)
    assert [r.decided.measured for r in results] == [True, False, False, True, False]  # type: ignore[union-attr]
    assert [r.opening for r in results] == [1, 1, 1, 0, 0]


class Norms:
    """Statistics of one norm of one channel, whose mean is as far away as told."""

    @staticmethod
    def at(distance: float) -> Tensor:
        return torch.tensor([[distance], [1.0]])


class Sensing:
    def __init__(self) -> None:
        self.distance_is = AWAY

    def distance(self, _statistics: Tensor) -> float:
        return self.distance_is


def openness_at(opening: float, home: bool = True) -> tuple[Openness, Sensing]:
    """Home's quantile is 1, at every opening; without home frames it is taken as that."""
    from ocl_edge.method.norms import NormsAsTrained

    one, zero = torch.ones(1), torch.zeros(1)
    trained = NormsAsTrained(zero, one, one, zero, zero)
    following, sensing = FollowingOpening(), Sensing()
    following.jump(opening)
    of_home = HomeDistances(trained.statistics, [1], [1.0, 1.0, 1.0])
    of_discs = DiscsDistances(trained.statistics, 1 / HOME_OF_DISCS[round(opening)])
    mixing, told = Mixing.of_prior([1], (0.5, 0.5)), of_home if home else of_discs
    return Openness(trained, mixing, following, sensing, all_norms=told), sensing  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("opening", "sensed", "all_norms", "expected"),
    [
        (0.0, AWAY, 1.0, 0.0),  # all norms find it at home
        (0.0, AWAY, 2.0, 1.0),
        (0.0, HOME, 1.5, 0.0),  # the sensing norms do
        (0.0, HOME, 2.0, 1.0),  # all norms see what home never has
        (1.0, AWAY, 1.0, 1.0),  # what is open hides from all norms
        (1.0, HOME, 1.25, 0.0),
        (1.0, HOME, 1.5, 1.0),  # fewer multiples are enough where norms are mixed
        (0.5, AWAY, 1.3, 0.5),
    ],
)
def test_all_norms_may_keep_a_session_shut_and_do_not_close_what_is_open(
    opening: float, sensed: float, all_norms: float, expected: float
) -> None:
    openness, sensing = openness_at(opening)
    sensing.distance_is = sensed
    for second in range(60):
        openness.follow(Norms.at(all_norms), float(second))
    assert openness.value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("opening", "sensed", "all_norms", "expected"),
    [
        (0.0, AWAY, 1.0, 1.0),
        (0.0, HOME, 1.5, 0.0),
        (0.0, HOME, 2.0, 1.0),
        (1.0, HOME, 1.25, 0.0),
    ],
)
def test_without_home_frames_all_norms_open_where_they_are_sure_and_limit_nothing(
    opening: float, sensed: float, all_norms: float, expected: float
) -> None:
    openness, sensing = openness_at(opening, home=False)
    sensing.distance_is = sensed
    for second in range(60):
        openness.follow(Norms.at(all_norms), float(second))
    assert openness.value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("sensed", "all_norms", "goes_to", "ends_at"),
    [
        (HALFWAY, 1.0, 0.0, 0.5),  # shut, all norms find it away after all
        (HALFWAY, 1.375, 0.5, 0.5),  # half sure of it while they are mixed
        (HOME, 1.25, 0.0, 0.0),
        (HOME, 9.0, None, 1.0),  # all norms would stay
        (AWAY, 1.0, None, 1.0),  # the sensing norms would stay
        (float("nan"), 1.0, None, 1.0),
    ],
)
def test_a_picture_that_looks_new_goes_home_where_the_sensing_norms_say_so(
    sensed: float, all_norms: float, goes_to: float | None, ends_at: float
) -> None:
    openness, sensing = openness_at(1.0)
    sensing.distance_is = sensed
    openness.rests(CLEAR, 0.0)
    jumps = openness.jumps(Norms.at(all_norms))
    assert jumps is (goes_to is not None)
    if jumps:
        assert openness.value == pytest.approx(goes_to, abs=1e-3)
        openness.follow(Norms.at(1.5), 0.0, at_once=True)
    assert openness.value == pytest.approx(ends_at)


def test_facts_of_a_state_are_moments_or_none(small_bundle: Bundle, home_is: dict[str, float]) -> None:
    session = session_of(small_bundle, MODES[1])
    play(session, home_is, [True, True])
    facts: Mapping[str, object] = session.export_state()[1]
    assert facts["followed_at"] == 1.0
