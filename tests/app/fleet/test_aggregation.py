"""Heads of a fleet: a few that send nonsense move them by nothing or by little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ocl_edge.method.fleet_heads import FleetHead
from ocl_edge_app.fleet.aggregation import Rules, aggregate, trimmed_mean
from ocl_edge_app.fleet.contribution import Border, Contribution
from tests.doubles.fleets import Learned


def weights_of(head: FleetHead) -> np.ndarray:
    return np.concatenate([weight.numpy().ravel() for weight in head.weights.values()])


def with_head(contribution: Contribution, change: object) -> Contribution:
    weights = {name: change(w) for name, w in contribution.learned.weights.items()}  # type: ignore[operator]
    return replace(contribution, learned=replace(contribution.learned, weights=weights))


def test_the_mean_leaves_out_the_ends_of_every_column() -> None:
    rows = np.array([[1.0, -50.0], [2.0, 7.0], [3.0, 8.0], [4.0, 9.0], [100.0, 10.0]])
    assert trimmed_mean(rows, np.ones(5), 0.2).tolist() == pytest.approx([3.0, 8.0])
    assert trimmed_mean(rows, np.ones(5), 0.0).tolist() == pytest.approx([22.0, -3.2])


def test_trimming_goes_by_weight() -> None:
    rows = np.array([[0.0], [1.0], [10.0]])
    # of a weight of 10, 2 go at each end: from the 1 of weight 8 both times, after 1 and 1
    assert trimmed_mean(rows, np.array([1.0, 8.0, 1.0]), 0.2).tolist() == pytest.approx([1.0])
    # 0 weighs 4, 1 weighs 4, 10 weighs 2: what is left is 2 and 4
    assert trimmed_mean(rows, np.array([4.0, 4.0, 2.0]), 0.2).tolist() == pytest.approx([4 / 6])


def test_one_weather_makes_one_head_between_its_vehicles(border: Border, learned: Learned) -> None:
    sent = {f"v{seed}": learned(seed) for seed in range(5)}
    found = aggregate(sent, border.trained)
    assert found.fleet is not None
    assert found.vehicles == (tuple(sent),)
    stacked = np.stack([weights_of(c.learned) for c in sent.values()])
    mean = weights_of(found.fleet.heads[0])
    assert (mean >= stacked.min(0) - 1e-6).all()
    assert (mean <= stacked.max(0) + 1e-6).all()
    assert mean == pytest.approx(np.sort(stacked, 0)[1:-1].mean(0), abs=1e-5)


def test_every_weather_has_a_head_that_its_statistics_find(border: Border, learned: Learned) -> None:
    sent = {f"a{seed}": learned(seed, 0) for seed in range(4)}
    sent |= {f"b{seed}": learned(10 + seed, 2) for seed in range(5)}
    found = aggregate(sent, border.trained)
    assert found.fleet is not None
    assert [len(names) for names in found.vehicles] == [5, 4]
    for weather, index in ((0, 1), (2, 0)):
        statistics = learned(99, weather).learned.statistics
        assert found.fleet.nearest(statistics) is found.fleet.heads[index].weights


def test_a_weather_of_two_vehicles_makes_no_head(border: Border, learned: Learned) -> None:
    sent = {f"a{seed}": learned(seed, 0) for seed in range(4)} | {
        "lonely": learned(7, 3),
        "also": learned(8, 3),
    }
    found = aggregate(sent, border.trained)
    assert [set(names) for names in found.vehicles] == [{"a0", "a1", "a2", "a3"}]
    assert "one of 2 under its conditions" in found.refused["lonely"]


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("kind", ["a hundred times as far", "another class's weights", "huge"])
def test_poison_is_refused_and_the_rest_is_as_without_it(
    border: Border, learned: Learned, kind: str, count: int
) -> None:
    poisons = {
        "a hundred times as far": lambda c: replace(
            c,
            learned=replace(
                c.learned,
                weights={n: t + 100 * (c.learned.weights[n] - t) for n, t in border.trained.items()},
            ),
        ),
        "another class's weights": lambda c: with_head(c, lambda w: w.flip(0)),
        "huge": lambda c: with_head(c, lambda w: torch.full_like(w, 3e38)),
    }
    honest = {f"v{seed}": learned(seed) for seed in range(10 - count)}
    poison = {f"p{seed}": poisons[kind](learned(50 + seed, updates=1 << 50)) for seed in range(count)}
    found, without = aggregate(honest | poison, border.trained), aggregate(honest, border.trained)
    assert found.fleet is not None
    assert without.fleet is not None
    assert found.refused.keys() == poison.keys()
    assert np.array_equal(weights_of(found.fleet.heads[0]), weights_of(without.fleet.heads[0]))


def test_the_opposite_is_as_long_and_lies_too_far_from_the_others(border: Border, learned: Learned) -> None:
    sent = {f"v{seed}": learned(seed) for seed in range(6)}
    one = learned(9)
    opposite = {n: 2 * t - one.learned.weights[n] for n, t in border.trained.items()}
    sent["backwards"] = replace(one, learned=replace(one.learned, weights=opposite))
    found = aggregate(sent, border.trained)
    assert found.refused.keys() == {"backwards"}
    assert "others in such weather" in found.refused["backwards"]


def test_a_head_as_trained_says_nothing(border: Border, learned: Learned) -> None:
    sent = {f"v{seed}": learned(seed) for seed in range(4)}
    sent["parked"] = replace(learned(5), learned=replace(learned(5).learned, weights=dict(border.trained)))
    assert "nothing was learned" in aggregate(sent, border.trained).refused["parked"]


def test_nobody_weighs_more_than_twice_the_median_vehicle(border: Border, learned: Learned) -> None:
    def head(updates: int) -> np.ndarray:
        sent = {f"v{seed}": learned(seed) for seed in range(4)} | {"busy": learned(9, updates=updates)}
        found = aggregate(sent, border.trained, Rules(trim=0.0))
        assert found.fleet is not None
        return weights_of(found.fleet.heads[0])

    assert not np.array_equal(head(50), head(100))
    assert np.array_equal(head(100), head(1 << 50))


def test_too_few_vehicles_make_no_fleet(border: Border, learned: Learned) -> None:
    found = aggregate({"v0": learned(0), "v1": learned(1)}, border.trained)
    assert found.fleet is None
    assert found.refused.keys() == {"v0", "v1"}
    assert aggregate({}, border.trained).fleet is None


def test_the_order_of_arrival_changes_nothing(border: Border, learned: Learned) -> None:
    sent = {f"v{seed}": learned(seed, seed % 2) for seed in range(8)}
    there = aggregate(sent, border.trained)
    back = aggregate(dict(reversed(sent.items())), border.trained)
    assert there.fleet is not None
    assert back.fleet is not None
    for one, other in zip(there.fleet.heads, back.fleet.heads, strict=True):
        assert np.array_equal(weights_of(one), weights_of(other))
