"""Norm statistics and the norm vectors made from them.

Statistics of all norms of a backbone are packed float32 [2, S] (mean, variance; S = sum
of channels), norm vectors likewise (scale, shift).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.tensors import Tensor, torch

Prior = tuple[float, float]
"""Weight of the trained statistics at the first and at the last norm, linear in between."""

DEFAULT_PRIOR: Prior = (0.7, 1.0)
ALTERNATE_PRIOR: Prior = (0.4, 1.0)
"""Where every second norm stays as trained, the others go twice as far (docs/ablation.md)."""
TINY_VARIANCE = 1e-5
JUMP = 0.2
"""Distance of statistics from their running average that is another scene or weather. On CamVid a frame is
at most 0.19 from the average of its own stream, and at least 0.21 from that of another one."""


@dataclass(frozen=True)
class NormsAsTrained:
    """What training left in the norms: statistics, affine weights and eps, each packed float32 [S]."""

    mean: Tensor
    var: Tensor
    weight: Tensor
    bias: Tensor
    eps: Tensor

    @property
    def statistics(self) -> Tensor:
        """Trained statistics, float32 [2, S]."""
        return torch.stack((self.mean, self.var))

    def mixed_with(self, current: Tensor, weight: Tensor) -> Tensor:
        """What a norm of the measured form uses, float32 [2, S].

        Args:
            current: measured statistics, float32 [2, S].
            weight: ``anchor_weight`` of the form, float32 [3, S] (`ocl_edge.network.forms.measured_form`).
        """
        of_trained, between = weight[:2], weight[2]
        mixed = torch.lerp(current, self.statistics, of_trained)
        mixed[1] += between * (current[0] - self.mean).square()
        return mixed

    def vectors(self, statistics: Tensor) -> Tensor:
        """The scale and shift that normalise with these statistics: [2, S] -> [2, S].

        ``scale = weight / sqrt(var + eps)``, ``shift = bias - mean * scale``.
        """
        mean, var = statistics
        scale = self.weight * torch.rsqrt(var + self.eps)
        return torch.stack((scale, self.bias - mean * scale))


def prior_of_channels(channels: Sequence[int], prior: Prior, places: Sequence[float] | None = None) -> Tensor:
    """The weight of the trained statistics for every channel, float32 [1, S].

    Early norms see what weather and camera do to edges and contrast, late ones what is in the picture, which
    one image measures badly: so early norms should follow the image more than late ones.

    Args:
        channels: of every norm, in order of execution.
        prior: at the first and at the last of them.
        places: of every norm on the way from the first to the last, 0 to 1; None: the same step to each.
    """
    first, last = prior
    of_norms = (
        torch.linspace(first, last, len(channels))
        if places is None
        else torch.tensor([first + place * (last - first) for place in places])
    )
    return of_norms.repeat_interleave(torch.tensor(channels, dtype=torch.long)).reshape(1, -1)


class RunningStatistics:
    """A running average of measured statistics over stream time, which begins anew where they jump.

    Args:
        tau_s: time constant in seconds; a measurement that comes dt after the one before
            weighs ``1 - exp(-dt / tau_s)``, or everything if it is farther than ``jump`` from
            the average: out of a tunnel, the average of the dark is no help.
        jump: such a distance.
    """

    def __init__(self, tau_s: float, jump: float = JUMP) -> None:
        self.tau_s = tau_s
        self.jump = jump
        self.average: Tensor | None = None
        self.measured_at: float | None = None

    def add(self, statistics: Tensor, now_s: float) -> None:
        """Take in one measurement, float32 [2, S]; the first one is the average, as after a jump."""
        if (
            self.average is None
            or self.measured_at is None
            or statistics_distance(statistics, self.average) > self.jump
        ):
            self.average = statistics.clone()
        else:
            weight = 1 - math.exp(-max(0.0, now_s - self.measured_at) / self.tau_s)
            self.average = self.average.lerp(statistics, weight)  # a state may hold the one before
        self.measured_at = now_s


def statistics_distance(statistics: Tensor, reference: Tensor) -> float:
    """How far statistics are from a reference, both [2, S]: mean over the channels.

    Per channel the distance of the means in reference standard deviations, plus half the
    absolute log ratio of the variances. NaN where a statistic is not finite.
    """
    mean, var = statistics
    reference_mean, reference_var = reference
    var, reference_var = var.clamp(min=0) + TINY_VARIANCE, reference_var + TINY_VARIANCE
    shift = (mean - reference_mean).abs() * reference_var.rsqrt()
    return float((shift + 0.5 * (var / reference_var).log().abs()).mean())


def why_refused(statistics: Tensor, source: Tensor, limit: float) -> Verdict | None:
    """Why nothing may be learned from a frame's statistics; None where they are near enough.

    Args:
        statistics: of the frame, [2, S]; refused, too, where one is not finite.
        source: of the training, likewise.
        limit: largest `statistics_distance`.
    """
    distance = statistics_distance(statistics, source)
    return None if distance <= limit else Verdict(Reason.STATISTICS_TOO_FAR, distance=distance)
