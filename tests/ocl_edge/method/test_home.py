"""Distance, opening and pace, with numbers computed another way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from ocl_edge.method.home import (
    DiscsDistances,
    HomeDistances,
    SensingNorms,
    StatisticsLimits,
    opening_at,
    opening_wanted,
)
from ocl_edge.method.opening import FixedOpening, FollowingOpening, paced
from ocl_edge.method.settings import AdaptationDefaults

HOME, AWAY = 0.5, 3.0


def test_spread_and_shift_are_means_over_the_sensing_channels() -> None:
    rng = np.random.default_rng(0)
    channels, sensing = (2, 3, 4), (0, 2)
    trained = np.stack([rng.normal(size=9), rng.uniform(0.5, 2, 9)])
    found = np.stack([rng.normal(size=9), rng.uniform(0.5, 2, 9)])
    spreads, shifts = [], []
    for start, end in ((0, 2), (5, 9)):
        ratios = [math.log((found[1, c] + 1e-5) / (trained[1, c] + 1e-5)) / 2 for c in range(start, end)]
        spreads += [abs(ratio - sum(ratios) / len(ratios)) for ratio in ratios]
        shifts += [
            abs(found[0, c] - trained[0, c]) / math.sqrt(trained[1, c] + 1e-5) for c in range(start, end)
        ]
    spread, shift = sum(spreads) / 6, sum(shifts) / 6
    norms = SensingNorms(torch.tensor(trained, dtype=torch.float32), channels, sensing)
    statistics = torch.tensor(found, dtype=torch.float32)
    assert norms.parts(statistics) == pytest.approx((spread, shift), rel=1e-4)
    expected = ((spread / 0.16) ** 3 + (shift / 0.25) ** 3) ** (1 / 3)
    assert norms.distance(statistics) == pytest.approx(expected, rel=1e-4)


def test_another_exposure_is_no_distance_and_noise_is_one() -> None:
    trained = torch.stack((torch.zeros(4), torch.tensor([1.0, 2.0, 0.5, 0.1])))
    norms = SensingNorms(trained, (4,), (0,))
    darker = torch.stack((trained[0], 0.25 * trained[1]))
    noisier = torch.stack((trained[0], trained[1] + torch.tensor([0.0, 0.0, 1.0, 1.0])))
    assert norms.distance(darker) < 0.01
    assert opening_at(norms.distance(noisier)) == 1
    assert opening_at(norms.distance(torch.full((2, 4), torch.nan))) == 0


def test_the_opening_rises_between_its_two_distances() -> None:
    assert [opening_at(d) for d in (0.0, 1.15, 1.325, 1.5, 9.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert opening_at(math.nan) == opening_at(math.inf) == 0


def test_the_first_frame_is_followed_at_once_and_one_dazzled_frame_opens_nothing() -> None:
    away, home = FollowingOpening(), FollowingOpening()
    assert away.value == 0
    away.follow(opening_at(AWAY), 0.0)
    assert away.value == 1
    for distance in (HOME, AWAY, HOME, HOME):
        home.follow(opening_at(distance), 1.0)
        assert home.value == 0
        assert home.at_home


def test_it_opens_by_stream_time_and_not_by_frames() -> None:
    slow, fast = FollowingOpening(), FollowingOpening()
    for opening in (slow, fast):
        opening.follow(opening_at(HOME), 1.0)
        opening.follow(opening_at(AWAY), 1.0)
    slow.follow(opening_at(AWAY), 1.0)
    for _ in range(30):
        fast.follow(opening_at(AWAY), 1 / 30)
    assert slow.value == pytest.approx(1 - math.exp(-1 / 1.5))
    assert fast.value == pytest.approx(slow.value)


@pytest.mark.parametrize("fps", [1, 8, 30])
def test_back_home_the_tenth_frame_is_seen_at_0(fps: int) -> None:
    opening = FollowingOpening()
    opening.follow(opening_at(AWAY), 0.0)
    seen_at = []
    for _ in range(10):
        seen_at.append(opening.value)
        opening.follow(opening_at(HOME), 1 / fps)
    assert seen_at[-1] == 0
    assert seen_at == sorted(seen_at, reverse=True)
    assert max(a - b for a, b in itertools.pairwise(seen_at)) < 0.5  # no jump


def test_frames_that_were_not_measured_count_when_it_closes() -> None:
    each, eighth = FollowingOpening(), FollowingOpening()
    for opening in (each, eighth):
        opening.follow(opening_at(AWAY), 0.0)
    for _ in range(4):
        each.follow(opening_at(HOME), 0.01)
    eighth.follow(opening_at(HOME), 0.04, frames=4)
    assert eighth.value == pytest.approx(each.value) == pytest.approx(0.64**4)


def test_what_was_learned_goes_after_two_frames_at_home() -> None:
    opening = FollowingOpening()
    opening.follow(opening_at(AWAY), 0.0)
    opening.follow(opening_at(HOME), 0.03)
    assert not opening.at_home
    opening.follow(opening_at(HOME), 0.03)
    assert opening.value > 0
    assert opening.at_home
    opening.follow(opening_at(AWAY), 0.03)
    assert not opening.at_home


def test_a_state_goes_on_where_it_was() -> None:
    one, other = FollowingOpening(), FollowingOpening()
    for distance in (AWAY, 1.3, HOME):
        one.follow(opening_at(distance), 0.3)
    other.import_state(one.export_state())
    for distance in (HOME, 1.4, AWAY, AWAY):
        one.follow(opening_at(distance), 0.3)
        other.follow(opening_at(distance), 0.3)
        assert other.value == one.value
        assert other.at_home == one.at_home
    other.import_state({})
    assert other.value == 0


def test_the_limit_of_statistics_moves_with_what_noise_is_in_a_network() -> None:
    assert StatisticsLimits((1.5, 0.61)).at(0.55, 1.0) == pytest.approx(0.55)
    assert StatisticsLimits((1.22, 0.61)).at(0.55, 0.0) == pytest.approx(1.1)
    assert StatisticsLimits((1.22, 0.61)).at(0.55, 0.5) == pytest.approx(0.825)
    assert StatisticsLimits((9.9, 0.305)).at(0.55, 1.0) == pytest.approx(0.275)


def at(distance: float) -> torch.Tensor:
    """Statistics of one channel, so far from a mean of 0 and a variance of 1."""
    return torch.tensor([[distance], [1.0]])


def test_all_norms_are_asked_in_multiples_of_homes_quantile_at_the_same_opening() -> None:
    of_home = HomeDistances(at(0.0), [1], [2.0, 3.0, 4.0])
    multiples = (1.0, 1.3, 1.5, 1.625, 2.0)
    seen = [of_home.openings_at(at(2.0 * multiple), 0.0) for multiple in multiples]
    assert [most for most, _ in seen] == pytest.approx([0, 0.5, 1, 1, 1], abs=1e-3)
    assert [least for _, least in seen] == pytest.approx([0, 0, 0, 0.5, 1], abs=1e-3)
    assert of_home.openings_at(at(1.375 * 4.0), 1.0) == pytest.approx((0.6875, 0.5), abs=1e-3)
    assert of_home.openings_at(at(1.4375 * 3.5), 0.75) == pytest.approx((0.84375, 0.5), abs=1e-3)


def test_without_home_frames_shares_of_the_distance_of_discs_stand_for_that_quantile() -> None:
    of_discs = DiscsDistances(at(0.0), 2.0)
    seen = [of_discs.openings_at(at(share * 2.0), 0.0) for share in (0.3, 0.45, 0.4875, 0.525)]
    assert [least for _, least in seen] == pytest.approx([0, 0, 0.5, 1], abs=1e-3)
    wide_open = [of_discs.openings_at(at(share * 2.0), 1.0)[1] for share in (0.23, 0.31625, 0.3335)]
    assert wide_open == pytest.approx([0, 0.5, 1], abs=1e-3)
    assert of_discs.openings_at(at(1.4375 * 0.2475 * 2), 0.75)[1] == pytest.approx(0.5, abs=1e-3)
    assert {most for most, _ in seen} == {1.0}
    assert DiscsDistances(at(0.0), None).openings_at(at(9.0), 0.0) == (1.0, 0.0)


def test_beyond_home_is_what_is_farther_away_than_that_quantile() -> None:
    of_home = HomeDistances(at(0.0), [1], [2.0, 3.0, 4.0])
    assert [of_home.beyond_home(at(distance), 0.5) for distance in (2.99, 3.01)] == [False, True]
    of_discs = DiscsDistances(at(0.0), 4.0)
    assert [of_discs.beyond_home(at(4.0 * share), 0.5) for share in (0.26, 0.27)] == [False, True]
    assert not DiscsDistances(at(0.0), None).beyond_home(at(9.0), 0.0)


@pytest.mark.parametrize(
    ("distance", "of_all", "open_already", "expected"),
    [
        (AWAY, (0.0, 0.0), 0.0, 0.0),
        (AWAY, (0.4, 0.0), 0.0, 0.4),
        (AWAY, (0.4, 0.0), 0.7, 0.7),
        (HOME, (1.0, 0.0), 1.0, 0.0),
        (HOME, (1.0, 0.6), 0.0, 0.6),
        (math.nan, (0.0, 0.0), 0.5, 0.0),
    ],
)
def test_sensing_and_all_norms_must_agree_up_to_where_all_norms_are_sure(
    distance: float, of_all: tuple[float, float], open_already: float, expected: float
) -> None:
    assert opening_wanted(distance, of_all, open_already) == expected


def test_a_state_knows_how_long_weather_has_stayed_and_one_from_before_is_read() -> None:
    one, resumed, older = FollowingOpening(), FollowingOpening(), FollowingOpening()
    for distance in (HOME, AWAY, AWAY):
        one.follow(opening_at(distance), 0.3)
    state = one.export_state()["opening"]
    resumed.import_state({"opening": state})
    older.import_state({"opening": state[:3]})
    assert older.value == resumed.value == one.value > 0
    assert [each.grants(0.7) for each in (one, resumed, older)] == [1.0, 1.0, one.value]
    assert one.grants(0.6) == one.value


def test_a_frame_that_asks_for_more_is_granted_no_less_than_is_open() -> None:
    """After one frame of weather that looked half like home."""
    opening = FollowingOpening()
    opening.jump(1.0)
    opening.follow(0.2, 1.0)
    assert 0.2 < opening.value < 1
    assert opening.grants(1.0) == opening.value


def test_a_fixed_opening_stays() -> None:
    opening = FixedOpening(0.3)
    opening.follow(opening_at(AWAY), 9.0)
    assert opening.value == 0.3
    assert not opening.at_home
    assert FixedOpening(0.0).at_home


def test_eight_updates_in_a_second_do_what_one_does() -> None:
    settings = AdaptationDefaults(lr=0.1, momentum=0.9, restoration=0.02)
    eighth = paced(settings, 1.0, 1 / 8)
    assert eighth.momentum**8 == pytest.approx(0.9)
    assert (1 - eighth.restoration) ** 8 == pytest.approx(0.98)
    assert 8 * eighth.lr / (1 - eighth.momentum) == pytest.approx(0.1 / 0.1)


def test_one_update_a_second_is_to_the_bit_what_was_set_and_the_opening_scales_the_rate() -> None:
    settings = AdaptationDefaults(lr=0.1, momentum=0.9, restoration=0.02)
    assert paced(settings, 1.0, 1.0) == settings
    assert paced(settings, 1.0, 60.0) == settings  # a pause is no reason for a leap
    assert paced(settings, 0.25, 1.0) == settings.model_copy(update={"lr": 0.025})
    assert paced(settings, 1.0, 0.0).lr == 0
    assert paced(settings.model_copy(update={"momentum": 0.0}), 0.5, 0.5).lr == pytest.approx(0.025)
