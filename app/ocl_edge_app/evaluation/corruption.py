"""Synthetic weather and sensor faults (Michaelis et al. 2019, package imagecorruptions)."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import MissingExtraError, UsageError

SEVERITIES = range(1, 6)
LEAST_PX = 32
SEEDED_BY_ARGUMENT = ("impulse_noise", "glass_blur")
"""They draw from generators of their own; all others from NumPy's global one."""


@dataclass(frozen=True)
class Corruption:
    """One corruption at one severity, or none.

    Attributes:
        name: as imagecorruptions names it; ``clean`` changes nothing.
        severity: 1 to 5.
    """

    name: str = "clean"
    severity: int = 0

    def __str__(self) -> str:
        return self.name if self.name == "clean" else f"{self.name}:{self.severity}"

    def apply(self, image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """The corrupted image, the same for the same ``index`` whatever ran before.

        The state of NumPy's global generator is put back.

        Raises:
            UsageError: the image is too small for the package.
        """
        if self.name == "clean":
            return image
        height, width = image.shape[:2]
        if min(height, width) < LEAST_PX:
            raise UsageError(
                f"--corruption {self} needs frames of {LEAST_PX}x{LEAST_PX} or more, got {width}x{height}"
            )
        seed = {"seed": index} if self.name in SEEDED_BY_ARGUMENT else {}
        state = np.random.get_state()
        np.random.seed(index)
        try:
            corrupted = _library().corrupt(image, self.severity, self.name, **seed)
        finally:
            np.random.set_state(state)
        return np.ascontiguousarray(corrupted, np.uint8)


def parse_corruption(text: str) -> Corruption:
    """Read ``NAME:SEVERITY`` or ``clean``.

    Raises:
        UsageError: unknown name, or severity outside 1 to 5.
        MissingExtraError: imagecorruptions is not installed.
    """
    if text == "clean":
        return Corruption()
    name, _, severity = text.partition(":")
    known = _library().get_corruption_names("all")
    if name not in known:
        raise UsageError(f"unknown corruption {name!r}; known: clean, {', '.join(known)}")
    if not severity.isdecimal() or int(severity) not in SEVERITIES:
        raise UsageError(
            f"--corruption {text}: expected NAME:SEVERITY with a severity of 1 to 5, as in fog:3"
        )
    return Corruption(name, int(severity))


def _library() -> ModuleType:
    try:
        import imagecorruptions
    except ImportError as error:
        raise MissingExtraError("imagecorruptions", "evaluate", "--corruption") from error
    module: ModuleType = imagecorruptions
    return module
