"""How far from home a frame is, and how far adaptation should open there.

Home is what a network was trained for. Its norms remember it: what training left in them is home's
mean and variance. A norm that no other norm feeds sees the same input however the norms are mixed, so its
statistics tell the distance from home in every pass, with no second one; those norms *sense*.

The opening follows that distance (`ocl_edge.method.opening`). How the constants were found: docs/ablation.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ocl_edge.method.norms import JUMP, TINY_VARIANCE, statistics_distance
from ocl_edge.tensors import Tensor, torch

SPREAD_AWAY, SHIFT_AWAY, POWER = 0.16, 0.25, 3.0
"""A spread or shift of this size alone is a distance of 1; together they add up as a norm of this power."""
HOME_UNTIL, AWAY_FROM = 1.15, 1.5
"""Distances between which the opening rises from 0 to 1."""
HOME_QUANTILE = 0.9
QUANTILE_HOME_UNTIL, QUANTILE_AWAY_FROM = 1.1, 1.5
"""With home frames: multiples of that quantile of home's distances between which the opening rises."""
QUANTILE_SURE_FROM, QUANTILE_SURE = (1.5, 1.3), (1.75, 1.45)
"""Multiples of it, shut and wide open, between which all norms open alone, whatever the sensing norms see:
mixing hides more of what is away than of home, so that wide open fewer multiples are enough."""
HOME_OF_DISCS = (0.30, 0.23)
"""Without home frames that quantile is taken as these shares of the distance of pictures of discs, shut and
wide open: it is 0.23 to 0.38 and 0.18 to 0.28 of it in ten networks of eleven (docs/ablation.md)."""
OPENINGS = (0.0, 0.5, 1.0)
"""Where home's distances are measured."""

REFERENCE_NOISE = 0.61
"""Distance of pure noise in a network for which a limit of statistics holds as it is: 0.55 is 0.9 of it."""


class SensingNorms:
    """What training left in the norms that sense.

    Args:
        trained: statistics of all norms, float32 [2, S].
        channels: of every norm, in order of execution.
        sensing: indices of the norms that no other norm feeds; at least one.
    """

    def __init__(self, trained: Tensor, channels: Sequence[int], sensing: Sequence[int]) -> None:
        ends = torch.tensor(channels).cumsum(0).tolist()
        self._slices = [slice(ends[index] - channels[index], ends[index]) for index in sensing]
        self._trained = trained

    def parts(self, statistics: Tensor) -> tuple[float, float]:
        """Spread and shift of a frame's statistics, both means over the channels of all sensing norms.

        With r = half the log ratio of a channel's variance to the trained one, the spread is \\|r - mean of
        the norm's r\\|: nothing for another exposure or contrast, which scales all channels alike; much for
        noise, which raises the high frequencies, and for blur and fog, which lower them. The shift is the
        distance of the means in trained deviations: much for snow, brightness, or another camera.

        Args:
            statistics: of all norms, float32 [2, S].
        """
        spreads, shifts = [], []
        for own in self._slices:
            (mean, var), (trained_mean, trained_var) = statistics[:, own], self._trained[:, own]
            var, trained_var = var.clamp(min=0) + TINY_VARIANCE, trained_var + TINY_VARIANCE
            half_log_ratio = 0.5 * (var / trained_var).log()
            spreads.append((half_log_ratio - half_log_ratio.mean()).abs())
            shifts.append((mean - trained_mean).abs() * trained_var.rsqrt())
        return float(torch.cat(spreads).mean()), float(torch.cat(shifts).mean())

    def distance(self, statistics: Tensor) -> float:
        """From home, about 1 at its border: ((spread / 0.16)^3 + (shift / 0.25)^3)^(1/3).

        NaN where a statistic of a sensing norm is not finite.
        """
        spread, shift = self.parts(statistics)
        return float(((spread / SPREAD_AWAY) ** POWER + (shift / SHIFT_AWAY) ** POWER) ** (1 / POWER))


def opening_at(distance: float) -> float:
    """How far adaptation opens at a distance, 0 to 1; 0 where the distance is not finite."""
    return ramp(distance, HOME_UNTIL, AWAY_FROM)


def ramp(value: float, start: float, end: float) -> float:
    """0 up to ``start``, 1 from ``end``, a line between; 0 where the value is not finite."""
    if not math.isfinite(value):
        return 0.0
    return min(1.0, max(0.0, (value - start) / (end - start)))


class HomeDistances:
    """How far home frames are from the trained statistics, over all norms, and how far others open by that.

    At an opening the distance is another one: norms that mix hide a part of it. So home's quantile is kept
    for a few openings, measured with the bundle's own weights.

    Args:
        trained: statistics of all norms, float32 [2, S].
        channels: of every norm, in order of execution.
        distances: `HOME_QUANTILE` of home's distances at each of `OPENINGS`.
    """

    tell_shut = True
    """Whether a frame that may be home is best looked at shut, where nothing is hidden."""

    def __init__(self, trained: Tensor, channels: Sequence[int], distances: Sequence[float]) -> None:
        self._of_norms = DistanceOfNorms(trained, channels)
        self._distances = distances

    def openings_at(self, statistics: Tensor, opening: float) -> tuple[float, float]:
        """How far adaptation opens at most and at least, at statistics that were measured at an opening.

        At most 0 up to `QUANTILE_HOME_UNTIL` times home's quantile, 1 from `QUANTILE_AWAY_FROM` times, a line
        between; at least likewise from `QUANTILE_SURE_FROM` to `QUANTILE_SURE`.
        """
        multiple = self._over_quantile(statistics, opening)
        return ramp(multiple, QUANTILE_HOME_UNTIL, QUANTILE_AWAY_FROM), _surely(multiple, opening)

    def beyond_home(self, statistics: Tensor, opening: float) -> bool:
        """Whether they are farther away than home's quantile."""
        return self._over_quantile(statistics, opening) > 1

    def _over_quantile(self, statistics: Tensor, opening: float) -> float:
        return self._of_norms(statistics) / between(self._distances, opening)


class DiscsDistances:
    """The same without home frames, by the distance of pictures of discs: all norms then limit nothing.

    Discs that hide each other have edges and areas as photographs do, and nothing else of them: what they do
    to a network's statistics is the scale of what home's frames do (`ocl_edge_export.reference_pictures`).

    Args:
        trained: as for `HomeDistances`.
        distance: of those pictures, unmixed; None where nobody measured it: they open nothing.
    """

    tell_shut = False

    def __init__(self, trained: Tensor, distance: float | None) -> None:
        self._trained = trained
        self._home = None if distance is None else [share * distance for share in HOME_OF_DISCS]

    def openings_at(self, statistics: Tensor, opening: float) -> tuple[float, float]:
        """As `HomeDistances.openings_at`."""
        return 1.0, _surely(self._over_quantile(statistics, opening), opening)

    def beyond_home(self, statistics: Tensor, opening: float) -> bool:
        """As `HomeDistances.beyond_home`."""
        return self._over_quantile(statistics, opening) > 1

    def _over_quantile(self, statistics: Tensor, opening: float) -> float:
        if self._home is None:
            return 0.0
        return statistics_distance(statistics, self._trained) / between(self._home, opening)


def distances_of_all(
    trained: Tensor, channels: Sequence[int], home: Sequence[float] | None, discs: float | None
) -> HomeDistances | DiscsDistances:
    """What all norms go by: home's own distances where frames have shown them, else those of discs.

    Args:
        trained: as for both.
        channels: likewise.
        home: as for `HomeDistances`; None: not known.
        discs: as for `DiscsDistances`.
    """
    return DiscsDistances(trained, discs) if home is None else HomeDistances(trained, channels, home)


def _surely(multiple: float, opening: float) -> float:
    """How far all norms open alone at a multiple of home's quantile at this opening."""
    return ramp(multiple, between(QUANTILE_SURE_FROM, opening), between(QUANTILE_SURE, opening))


def opening_wanted(distance: float, of_all: tuple[float, float], open_already: float = 0.0) -> float:
    """How far open a frame is best seen.

    The sensing norms and all norms must agree, for each are wrong somewhere (docs/ablation.md). But mixing
    hides a part of all norms' distance, so that they do not close what is open; and where they see more than
    home ever has, they open alone.

    Args:
        distance: that the sensing norms tell.
        of_all: how far all norms open at most and at least.
        open_already: opening of the stream.
    """
    most, least = of_all
    return max(least, min(opening_at(distance), max(open_already, most)))


class DistanceOfNorms:
    """Distance of statistics from the trained ones: mean over the norms of the mean over their channels.

    Per channel as in `ocl_edge.method.norms.statistics_distance`, where wide norms count more.

    Args:
        trained: float32 [2, S].
        channels: of every norm, in order of execution.
    """

    def __init__(self, trained: Tensor, channels: Sequence[int]) -> None:
        self._trained = trained
        shares = [1 / (count * len(channels)) for count in channels for _ in range(count)]
        self._share = torch.tensor(shares, dtype=torch.float32)

    def __call__(self, statistics: Tensor) -> float:
        (mean, var), (trained_mean, trained_var) = statistics, self._trained
        var, trained_var = var.clamp(min=0) + TINY_VARIANCE, trained_var + TINY_VARIANCE
        shift = (mean - trained_mean).abs() * trained_var.rsqrt()
        return float((self._share * (shift + 0.5 * (var / trained_var).log().abs())).sum())


def between(values: Sequence[float], opening: float) -> float:
    """The value at an opening, linear between those at evenly spaced openings from 0 to 1."""
    place = opening * (len(values) - 1)
    first = min(int(place), len(values) - 2)
    return values[first] + (place - first) * (values[first + 1] - values[first])


@dataclass(frozen=True)
class StatisticsLimits:
    """Limits of statistics on the scale of a network.

    Networks differ in how far their statistics move: pure noise is 0.34 away in CGNet and 0.83 in
    ESPNetv2 0.5, and farther where norms are not mixed. The limit moves with it, and never falls below what
    corrupted home frames have: those are to be learned from.

    Attributes:
        noise: distance of pure noise in this network, unmixed and wide open; None leaves limits as they are.
        copies: of corrupted home frames, nearly the largest, likewise; None without home frames.
        jump: distance from the running average that is another scene.
    """

    noise: tuple[float, float] | None = None
    copies: tuple[float, float] | None = None
    jump: float = JUMP

    def at(self, limit: float, opening: float) -> float:
        """The limit at an opening.

        Args:
            limit: for a network in which pure noise is `REFERENCE_NOISE` away, wide open.
            opening: of the pass that measured.
        """
        if self.noise is None:
            return limit
        scaled = limit * between(self.noise, opening) / REFERENCE_NOISE
        return scaled if self.copies is None else max(scaled, between(self.copies, opening))
