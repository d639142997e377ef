"""How far a stream's adaptation is open.

The **opening**, 0 to 1, follows what frames want (`ocl_edge.method.home`): 0 is the frozen network, 1 full
adaptation. It scales the mixing of the norms and the rate of the head. How its constants were found:
docs/ablation.md.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.tensors import Tensor, torch

TAU_S = 1.5
"""Time constant of the opening, seconds of stream time."""
LEAST_CLOSING = 0.36
"""It closes by at least this share a frame: nine lead from 1 to `SHUT`, the tenth is the frozen network's."""
SHUT = 0.02
"""An opening below this is 0."""
OPENED = 0.25
"""A difference of openings that does not wait: statistics are measured anew, a frame is looked at again."""
STAYED_S = 1.0
"""Weather that has stayed so long, seconds of stream time, is no dazzled frame."""
LONGEST_STEP_S = 1.0
"""An update stands for this much stream time at most."""


class Opening(Protocol):
    """How far a stream's adaptation is open."""

    value: float
    """For the next frame, 0 to 1."""

    @property
    def at_home(self) -> bool:
        """Whether what was learned is to go."""

    @property
    def follows(self) -> bool:
        """Whether frames move it at all."""

    @property
    def rests(self) -> bool:
        """Whether it is shut, and frames like the last ones would leave it so."""

    def grants(self, dt_s: float) -> float:
        """How far a frame may open at once, that is there so long after the last one, seconds."""

    def jump(self, wanted: float) -> None:
        """Go where a frame is best seen, 0 to 1, at once: the stream is somewhere else."""

    def follow(self, wanted: float, dt_s: float, frames: int = 1) -> None:
        """Take in a frame.

        Args:
            wanted: how far open it is best seen, 0 to 1.
            dt_s: seconds of stream time since the last call.
            frames: since the last call.
        """

    def export_state(self) -> dict[str, Tensor]:
        """All that the next value depends on."""

    def import_state(self, tensors: dict[str, Any]) -> None:
        """Take over what `export_state` gave."""


class FixedOpening:
    """An opening that stays where it was set."""

    follows = False

    def __init__(self, value: float) -> None:
        self.value = value

    @property
    def at_home(self) -> bool:
        return self.value == 0

    @property
    def rests(self) -> bool:
        return self.value == 0

    def grants(self, dt_s: float) -> float:  # noqa: ARG002
        return self.value

    def jump(self, wanted: float) -> None:
        """It does not."""

    def follow(self, wanted: float, dt_s: float, frames: int = 1) -> None:
        """It does not."""

    def export_state(self) -> dict[str, Tensor]:
        return {}

    def import_state(self, tensors: dict[str, Any]) -> None:
        """There is nothing to take over."""


class FollowingOpening:
    """An opening that follows the distance of the frames.

    It goes by the lesser of the last two frames: one dazzled frame opens nothing. It opens with a time
    constant of `TAU_S`, and closes as fast or faster, see `LEAST_CLOSING`. The first frame of a stream is
    followed at once, and so is weather that has stayed for `STAYED_S`.
    """

    follows = True

    def __init__(self) -> None:
        self.value = 0.0
        self._started = False
        self._newest = 0.0
        self._largest = 0.0
        self._asked_s = 0.0  # from the first to the last of the newest frames that all asked for more

    @property
    def at_home(self) -> bool:
        """True if the last two frames were at home, or nothing is open."""
        return self.value == 0 or self._largest == 0

    @property
    def rests(self) -> bool:
        return self._started and self.value == 0 and self._largest == 0

    def grants(self, dt_s: float) -> float:
        if not self._started:
            return 1.0
        return max(self._newest, self.value) if self._asked_s + dt_s >= STAYED_S else self.value

    def jump(self, wanted: float) -> None:
        self._started, self.value = True, wanted if wanted >= SHUT else 0.0
        self._newest = self._largest = wanted

    def follow(self, wanted: float, dt_s: float, frames: int = 1) -> None:
        before = self._newest if self._started else wanted
        target, self._largest, self._newest = min(wanted, before), max(wanted, before), wanted
        step = 1 - math.exp(-max(0.0, dt_s) / TAU_S) if self._started else 1.0
        if target < self.value:
            step = max(1 - (1 - LEAST_CLOSING) ** frames, step)
        asks = [each - self.value > OPENED for each in (before, wanted)]
        self._asked_s = min(STAYED_S, self._asked_s + max(0.0, dt_s)) if all(asks) else 0.0
        self._started = True
        self.value += step * (target - self.value)
        if self.value < SHUT:
            self.value = 0.0

    def export_state(self) -> dict[str, Tensor]:
        """One tensor, float64 [4]; none before the first frame."""
        if not self._started:
            return {}
        held = [self.value, self._newest, self._largest, self._asked_s]
        return {"opening": torch.tensor(held, dtype=torch.float64)}

    def import_state(self, tensors: dict[str, Any]) -> None:
        held = tensors.get("opening")
        self._started = held is not None
        values = (0.0, 0.0, 0.0) if held is None else held.tolist()
        self.value, self._newest, self._largest, self._asked_s = (*values, 0.0)[:4]


def paced(settings: AdaptationDefaults, opening: float, dt_s: float) -> AdaptationDefaults:
    """Settings of one second, as those of an update that stands for ``dt_s`` of the stream.

    What a second's gradients do in all, ``lr / (1 - momentum)``, stays the same however many updates it
    has; momentum and the share of weights that restoration lets stand are powers of the time. So a drive
    at 30 frames a second ends like the same drive at one.

    Args:
        settings: for one update a second.
        opening: scales the rate.
        dt_s: seconds since the update before, at most `LONGEST_STEP_S` of them count.
    """
    dt = min(max(dt_s, 0.0), LONGEST_STEP_S)
    if dt == 1.0:  # to the bit what was set
        return settings.model_copy(update={"lr": opening * settings.lr})
    momentum = settings.momentum**dt if settings.momentum else 0.0
    rate = opening * settings.lr * dt * (1 - momentum) / (1 - settings.momentum)
    restoration = 1 - (1 - settings.restoration) ** dt
    return settings.model_copy(update={"lr": rate, "momentum": momentum, "restoration": restoration})
