"""How a bundle is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ocl_edge.errors import require
from ocl_edge.images import MOST_PIXELS
from ocl_edge.method.guard import GuardLimits
from ocl_edge.method.methods import find_method
from ocl_edge.method.norms import Prior
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.tensorrt.key import Precision

Views = Literal["single", "pair"]
HeadKind = Literal["torch", "engine"]
OpeningKind = float | Literal["auto"]
MaskSize = tuple[int, int] | Literal["frame", "network"]


@dataclass(frozen=True)
class SessionOptions:
    """How a bundle is run; None means the method's own default, then the bundle's.

    Attributes:
        method: a name of `ocl_edge.method.methods.METHODS`.
        views: ``pair`` averages the logits of the image and its flip. Methods that adapt
            always do in paper mode; ``frozen`` takes a single view unless told otherwise.
        backend: ``auto`` or a name of `ocl_edge_runtime.backends.BACKENDS`.
        prior: weight of the trained statistics, 0 to 1: of all norms, or of the first and the last
            with a straight line between them.
        lr: learning rate.
        restoration: probability that a weight returns to its trained value after a step.
        seed: of the restoration.
        threads: for one operator of the backend.
        precision: of a compiled engine; None takes the newest valid one.
        head: ``torch`` trains it in PyTorch; ``engine`` runs its forward pass and its OCL
            step in the backend, as graphs that the bundle holds for a convolutional head.
        opening: ``auto`` follows the distance from home (`ocl_edge.method.home`), and updates go by stream
            time. A number, 0 to 1, holds it there, and every update counts the same.
        frame_s: seconds of stream time from a frame to the next, for ``auto``; None: realtime mode goes by
            the frames' arrival, paper mode takes 1 s.
        mask_size: ``frame``: each frame's own; ``network``: the network's input, whatever the frame's;
            or height and width.

    Raises:
        UsageError: a value out of range, naming the option.
    """

    method: str = "ocl-head"
    views: Views | None = None
    backend: str = "auto"
    prior: float | Prior | None = None
    lr: float | None = None
    restoration: float | None = None
    seed: int = 0
    threads: int | None = None
    precision: Precision | None = None
    head: HeadKind = "torch"
    opening: OpeningKind = "auto"
    frame_s: float | None = None
    mask_size: MaskSize = "frame"

    def __post_init__(self) -> None:
        sized = self.mask_size in ("frame", "network") or _is_size(self.mask_size)
        wanted = f"frame, network, or height and width with at most {MOST_PIXELS:,} pixels"
        require(sized, "mask_size", wanted, self.mask_size)
        known = self.opening == "auto" or (not isinstance(self.opening, str) and 0 <= self.opening <= 1)
        require(known, "opening", "auto, or 0 to 1", self.opening)
        require(self.frame_s is None or self.frame_s > 0, "frame_s", "above 0", self.frame_s)

    def settings_over(self, of_bundle: AdaptationDefaults) -> AdaptationDefaults:
        """What the method adapts with: these options, else its own defaults, else the bundle's."""
        prior = (self.prior,) * 2 if isinstance(self.prior, float | int) else self.prior
        given = {"prior": prior, "lr": self.lr, "restoration": self.restoration}
        chosen = {name: value for name, value in given.items() if value is not None}
        return of_bundle.model_copy(update={**find_method(self.method).defaults, **chosen})


def _is_size(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(isinstance(side, int) and side >= 1 for side in value) and value[0] * value[1] <= MOST_PIXELS


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
        statistics_limit: largest distance of a frame's statistics from the trained ones
            (`ocl_edge.method.norms.statistics_distance`) before they are refused; where the
            opening follows, scaled to the bundle's network (`ocl_edge.method.home.StatisticsLimits`). Weather
            and heavy noise stay under 0.52, frames of pure noise start at 0.57, a black one has over 1.
        guarded: judge every update; False only to see what the guard is for.
        limits: of the guard; None: the bundle's, or those of `GuardLimits`.
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
    limits: GuardLimits | None = None
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
