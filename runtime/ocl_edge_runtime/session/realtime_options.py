"""How realtime mode spends its time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ocl_edge.errors import require
from ocl_edge.method.guard import GuardLimits


@dataclass(frozen=True)
class RealtimeOptions:
    """How realtime mode spends its time.

    Attributes:
        norm_every: measure the statistics of every n-th frame; None: of every frame whose
            mask can then still meet the deadline.
        adapt_every: update on every n-th frame; None: as often as there is time.
        period_s: time between frames; None: nobody waits.
        tau_s: time constant of the running average of statistics, in seconds of stream time.
        loss_stride: the loss takes every n-th pixel in both directions, where the head is
            pointwise; else all pixels.
        statistics_limit: largest distance of a frame's statistics from the source's
            (`ocl_edge.method.norms.statistics_distance`) before they are refused. Weather and heavy noise
            stay under 0.52, frames of pure noise start at 0.57, a black one has over 1.
        guarded: judge every update; False only to see what the guard is for.
        limits: of the guard.
        update: ``inline``: after the mask, before the next frame; ``background``: on a worker's thread,
            with a head and a backend of its own, taken in between two frames when it is ready.

    Raises:
        UsageError: a value out of range, naming the option.
    """

    norm_every: int | None = 1
    adapt_every: int | None = None
    period_s: float | None = None
    tau_s: float = 8.0
    loss_stride: int = 4
    statistics_limit: float = 0.55
    guarded: bool = True
    limits: GuardLimits = field(default_factory=GuardLimits)
    update: Literal["inline", "background"] = "inline"

    def __post_init__(self) -> None:
        for name in ("norm_every", "adapt_every", "loss_stride"):
            every = getattr(self, name)
            whole = every is None or (isinstance(every, int) and every >= 1)
            require(whole, name, "a whole number from 1", every)
        # NaN fails every comparison
        require(self.period_s is None or self.period_s > 0, "period_s", "above 0", self.period_s)
        require(self.tau_s > 0, "tau_s", "above 0", self.tau_s)
        require(self.statistics_limit >= 0, "statistics_limit", "0 or above", self.statistics_limit)
        require(self.update in ("inline", "background"), "update", "inline or background", self.update)
