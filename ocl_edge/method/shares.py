"""How much a frame's own statistics should weigh, channel by channel, fitted on pairs of frames.

A pair is a frame and a corrupted copy of it. What the clean frame's statistics differ in from the trained
ones is what the picture shows, and must stay; what the copy's differ in beyond that is the corruption, and
must go. Least squares over the pairs has a closed form: forward passes, no gradient, no labels.
"""

from __future__ import annotations

from collections.abc import Sequence

from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR, TINY_VARIANCE, Prior
from ocl_edge.tensors import Tensor, torch

RIDGE = 0.5
"""Pull to the line, in mean denominators of the norm: a channel that hardly moves has little to say."""
FULLNESSES = (0.6, 0.8)
"""What may be taken of the larger of line and fit; all of it is too much for some networks."""
LARGEST_LOG_RATIO = 4.0


class ShareFit:
    """Shares from pairs of statistics; the mixing is that with `Mixing.between`.

    With the shifts d and log ratios l of clean (0) and corrupted (1) statistics, in trained deviations, and
    r = exp(l1 - l0), the share of the mean is sum(d1 (d1 - d0 sqrt r) / r) / sum(d1^2 / r), that of the
    variance with u = (exp(l1) - 1) / r is sum(u (1 - 1/r)) / sum(u^2).

    Args:
        trained: statistics, float32 [2, S].
        channels: of every norm, in order of execution.
        prior: the line.
    """

    def __init__(self, trained: Tensor, channels: Sequence[int], prior: Prior = DEFAULT_PRIOR) -> None:
        self._trained = trained.double()
        self._channels = list(channels)
        self._line = Mixing.of_prior(channels, prior)
        self._numerator = torch.zeros_like(self._trained)
        self._denominator = torch.zeros_like(self._trained)

    def add(self, clean: Tensor, corrupted: Tensor) -> None:
        """One pair: of the clean frame, measured closed, and of its copy, measured wide open; [2, S] each."""
        (shift, log_ratio), (seen, seen_log_ratio) = self._parts(clean), self._parts(corrupted)
        r = (seen_log_ratio - log_ratio).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
        u = (seen_log_ratio.exp() - 1) / r
        self._numerator += torch.stack((seen * (seen - shift * r.sqrt()) / r, u * (1 - 1 / r)))
        self._denominator += torch.stack((seen * seen / r, u * u))

    def mixing(self, fullness: float) -> Mixing:
        """Leaves the frame ``fullness`` times the larger of the line's share and the fitted one."""
        line = 1 - self._line.weights.double()
        by_norm = torch.split(self._denominator, self._channels, 1)
        pull = RIDGE * torch.cat([d.mean(1, keepdim=True).expand_as(d) for d in by_norm], 1) + 1e-9
        fitted = (self._numerator + pull * line) / (self._denominator + pull)
        shares = fullness * torch.maximum(line, fitted.clamp(0, 1))
        return Mixing((1 - shares).float(), between=True)

    def _parts(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = statistics.double()
        trained_mean, trained_var = self._trained
        trained_var = trained_var + TINY_VARIANCE
        log_ratio = ((var.clamp(min=0) + TINY_VARIANCE) / trained_var).log()
        return (mean - trained_mean) * trained_var.rsqrt(), log_ratio
