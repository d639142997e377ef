"""Distributions of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Distribution:
    """Mean, percentiles and maximum of a sample.

    Percentiles interpolate linearly between the two closest ranks (NumPy's ``linear``,
    type 7 of Hyndman and Fan 1996). Of fewer than 100 values, p99 says little more than
    the maximum.
    """

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Distribution:
        """Raises ValueError for an empty sample."""
        if not values:
            raise ValueError("no values")
        p50, p90, p95, p99 = (float(p) for p in np.percentile(values, PERCENTILES))
        return cls(len(values), float(np.mean(values)), p50, p90, p95, p99, float(max(values)))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)
