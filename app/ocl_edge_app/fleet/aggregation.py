"""From contributions to heads of the fleet: what one vehicle, or a few, send cannot move them far.

Heads that were learned in other weather point elsewhere, and their mean gains little. So vehicles whose norm
statistics are near each other make a condition, and each condition has a head of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.manifest_parts import MOST_FLEET_HEADS
from ocl_edge.method.fleet_heads import FleetHead, FleetHeads
from ocl_edge.method.guard import GuardLimits
from ocl_edge.method.norms import JUMP, statistics_distance
from ocl_edge.tensors import Tensor, torch
from ocl_edge_app.fleet.contribution import Contribution

Rows = NDArray[np.float64]

TO_DEVIATIONS = 1.4826
"""A median absolute deviation times this is the standard deviation of normal numbers."""


@dataclass(frozen=True)
class Rules:
    """How far a vehicle is believed.

    Attributes:
        trim: share of the weight that is left out at each end, coordinate by coordinate.
        far: a head is refused that moved farther than the median vehicle's by so many deviations, or lies so
            much farther from the median head of its condition.
        slack: share of the median that is no reason to refuse, however alike the others are.
        cap: a vehicle weighs as much as its updates, at most so many times the median vehicle.
        least: vehicles of a condition; fewer make no head.
        near: distance of norm statistics within which frames are of one condition.
        drift: largest relative distance of a head from the trained one, the guard's own.
    """

    trim: float = 0.2
    far: float = 4.0
    slack: float = 1.0
    cap: float = 2.0
    least: int = 3
    near: float = JUMP
    drift: float = GuardLimits().drift


@dataclass(frozen=True)
class Aggregate:
    """What the contributions give.

    Attributes:
        fleet: a head for each condition, that of the most vehicles first; None where none has enough.
        vehicles: that each head comes from, by name.
        refused: vehicle -> why it does not count, in words.
    """

    fleet: FleetHeads | None
    vehicles: tuple[tuple[str, ...], ...]
    refused: Mapping[str, str]


def aggregate(
    contributions: Mapping[str, Contribution], trained: Mapping[str, Tensor], rules: Rules | None = None
) -> Aggregate:
    """The heads of a fleet.

    Args:
        contributions: by vehicle, checked (`Border.unpack`).
        trained: the head as training left it, by name.
        rules: see `Rules`.
    """
    rules = rules or Rules()
    contributions = dict(sorted(contributions.items()))  # whatever the order of arrival
    origin = _flat(trained, trained)
    moved = {name: _flat(c.learned.weights, trained) - origin for name, c in contributions.items()}
    refused = dict(_refused_alone(moved, float(np.linalg.norm(origin)), rules))
    lengths = {name: float(np.linalg.norm(row)) for name, row in moved.items() if name not in refused}
    refused |= _too_far(lengths, "moved", "the others", rules)
    heads: list[FleetHead] = []
    vehicles: list[tuple[str, ...]] = []
    for members in _conditions({n: c for n, c in contributions.items() if n not in refused}, rules):
        strange = _too_far(
            _distances([(n, moved[n]) for n in members]), "lies", "others in such weather", rules
        )
        refused |= strange
        kept = [name for name in members if name not in strange]
        if len(kept) >= rules.least and len(heads) < MOST_FLEET_HEADS:
            vehicles.append(tuple(kept))
            learned = [contributions[name] for name in kept]
            weights = _weights(learned, rules.cap)
            mean = trimmed_mean(np.stack([moved[name] for name in kept]), weights, rules.trim)
            heads.append(
                FleetHead(_shaped(origin + mean, trained), _statistics(learned, weights, rules.trim))
            )
        else:
            refused |= {
                name: f"one of {len(kept)} under its conditions, {rules.least} make a head" for name in kept
            }
    return Aggregate(FleetHeads(tuple(heads)) if heads else None, tuple(vehicles), refused)


def trimmed_mean(rows: Rows, weights: Rows, trim: float) -> Rows:
    """Weighted mean of each column without the lowest and the highest ``trim`` of the weight.

    Args:
        rows: [vehicles, N].
        weights: [vehicles], above 0.
        trim: 0 to below 0.5.

    Returns:
        [N].
    """
    order = np.argsort(rows, 0, kind="stable")
    until = np.cumsum(weights[order], 0) / weights.sum()
    since = until - weights[order] / weights.sum()
    counted = np.clip(np.minimum(until, 1 - trim) - np.maximum(since, trim), 0, None)
    mean: Rows = (np.take_along_axis(rows, order, 0) * counted).sum(0) / counted.sum(0)
    return mean


def _refused_alone(moved: Mapping[str, Rows], size: float, rules: Rules) -> Mapping[str, str]:
    """Heads that say nothing, or too much, whatever the others say."""
    drifts = {name: float(np.linalg.norm(row)) / size for name, row in moved.items()}
    return {
        name: "its head is as trained: nothing was learned"
        if drift == 0
        else f"its head is {drift:.2f} away from the trained one, the guard allows {rules.drift:g}"
        for name, drift in drifts.items()
        if not 0 < drift <= rules.drift
    }


def _distances(moved: Sequence[tuple[str, Rows]]) -> dict[str, float]:
    """Of each head from the median head."""
    rows = np.stack([row for _, row in moved])
    distances = np.linalg.norm(rows - np.median(rows, 0), axis=1).tolist()
    return {name: distance for (name, _), distance in zip(moved, distances, strict=True)}


def _too_far(distances: Mapping[str, float], verb: str, others: str, rules: Rules) -> dict[str, str]:
    """Vehicles whose distance is far beyond the median of all, in words."""
    if len(distances) < rules.least:
        return {}
    values = np.array(list(distances.values()))
    typical = float(np.median(values))
    deviation = TO_DEVIATIONS * float(np.median(np.abs(values - typical)))
    limit = typical + max(rules.far * deviation, rules.slack * typical)
    return {
        name: f"its head {verb} {distance / max(typical, 1e-12):.1f} times as far as {others}, "
        f"{limit / max(typical, 1e-12):.1f} is allowed"
        for name, distance in distances.items()
        if distance > limit
    }


def _conditions(contributions: Mapping[str, Contribution], rules: Rules) -> list[list[str]]:
    """Vehicles whose statistics are near those of one of them, the one with the most neighbours first."""
    left, conditions = dict(contributions), []
    near = {
        a: {b for b, other in left.items() if _distance(one, other) <= rules.near} for a, one in left.items()
    }
    while left:
        centre = max(left, key=lambda name: len(near[name] & left.keys()))  # the first of the fullest
        members = [name for name in left if name in near[centre]]
        conditions.append(members)
        for name in members:
            del left[name]
    return conditions


def _distance(one: Contribution, other: Contribution) -> float:
    if one is other or not one.learned.statistics.numel():
        return 0.0
    return statistics_distance(one.learned.statistics, other.learned.statistics)


def _weights(contributions: Sequence[Contribution], cap: float) -> Rows:
    updates = np.array([max(1, c.facts.summary.updates) for c in contributions], np.float64)
    return np.minimum(updates, cap * np.median(updates))


def _statistics(contributions: Sequence[Contribution], weights: Rows, trim: float) -> Tensor:
    shape = tuple(contributions[0].learned.statistics.shape)
    rows = np.stack([c.learned.statistics.numpy().reshape(-1) for c in contributions]).astype(np.float64)
    return torch.from_numpy(trimmed_mean(rows, weights, trim).astype(np.float32).reshape(shape))


def _flat(weights: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> Rows:
    return np.concatenate([weights[name].numpy().reshape(-1) for name in trained]).astype(np.float64)


def _shaped(row: Rows, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    shaped, start = {}, 0
    for name, weight in trained.items():
        end = start + weight.numel()
        shaped[name] = torch.from_numpy(row[start:end].astype(np.float32).reshape(tuple(weight.shape)))
        start = end
    return shaped
