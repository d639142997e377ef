"""What a calibration has found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ocl_edge.bundle.home import HomeTensors
from ocl_edge.bundle.manifest_parts import HomeSpec, Quantiles

LEAST_GAIN = 1.0
"""Points of mIoU on copies that fitted weights must gain over those of the default prior."""
LEAST_SURE = 0.01
"""Share of the pixels that the network must be sure of, or its masks are no truth."""

HEAD_STAYS = "the head gains nothing on corrupted home frames: it stays as trained (--lr trains it)"
TOO_FEW = "so few frames do not settle the opening, nor the head's rate: both stay as without calibration"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Calibration:
    """What was found.

    Attributes:
        home: for the manifest.
        tensors: channel by channel.
        notes: in words, for the user.
        distances: of the frames from home, as a run sees it.
        openings: how far each frame opens a session that is shut.
        copies: corruption -> distance and opening of each copy, likewise.
        tried: what each number of ``agreement`` was reached with.
        agreement: corruption -> mIoU with the sure pixels of the clean frame, percent, wide open: as without
            calibration, and as it was tried.
        taken: which of them the bundle takes.
        passes: of the network.
    """

    home: HomeSpec
    tensors: HomeTensors
    notes: list[str]
    distances: list[float]
    openings: list[float]
    copies: dict[str, list[tuple[float, float]]]
    tried: tuple[str, ...]
    agreement: dict[str, tuple[float, ...]]
    taken: int
    passes: int

    @property
    def gain(self) -> float:
        """Points of agreement that what was taken gains, mean over the corruptions."""
        return float(np.mean([values[self.taken] - values[0] for values in self.agreement.values()]))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; all but the tensors."""
        return {"home": self.home.model_dump(mode="json")} | {
            name: value for name, value in vars(self).items() if name not in ("home", "tensors")
        }


def unsure(share: float) -> str:
    """That nothing can be checked where the network is sure of so few pixels."""
    return (
        f"the network is sure of {100 * share:.1f} % of the pixels of these frames: nothing can be checked "
        "on them, so weights and the head's rate stay as without calibration"
    )


def quantiles_of(values: Sequence[float]) -> Quantiles:
    """10 %, 50 % and 90 % of some values."""
    low, median, high = (float(v) for v in np.quantile(values, (0.1, 0.5, 0.9)))
    return Quantiles(low=low, median=median, high=high)
