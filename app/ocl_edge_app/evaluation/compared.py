"""What a sweep comes to: rows of every bundle on every stream, and how bundles compare over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ocl_edge_app.evaluation.plan import Planned
from ocl_edge_app.evaluation.summary import Row, grouped, summarise


@dataclass(frozen=True)
class Compared:
    """One method of one bundle on one stream under one corruption.

    Attributes:
        bundle: its name.
        stream: of the frames.
        options: the point of the grid in words; empty where the method makes no use of it.
        row: the numbers; its ``stream`` is the corruption.
    """

    bundle: str
    stream: str
    options: str
    row: Row

    @property
    def what(self) -> tuple[str, str, str, str]:
        """Bundle, method, views and options: what is compared over the streams."""
        return self.bundle, self.row.method, self.row.views, self.options

    @property
    def footage(self) -> str:
        """Stream and corruption."""
        return self.stream if self.row.stream == "clean" else f"{self.stream}, {self.row.stream}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        numbers = asdict(self.row)
        corruption = numbers.pop("stream")
        names = {"bundle": self.bundle, "stream": self.stream, "corruption": corruption}
        return {**names, "options": self.options, **numbers}


@dataclass(frozen=True)
class Total:
    """One method of one bundle over all streams and corruptions.

    Attributes:
        miou: mean, percent.
        least: the lowest, percent.
        least_on: where.
        gain: mean over the frozen network's of the same bundle and views; None without it.
        least_gain: the lowest.
        ms_per_frame: median.
    """

    bundle: str
    method: str
    views: str
    options: str
    miou: float
    least: float
    least_on: str
    gain: float | None
    least_gain: float | None
    ms_per_frame: float

    @property
    def what(self) -> tuple[str, str, str, str]:
        """As `Compared.what`."""
        return self.bundle, self.method, self.views, self.options


def compare(planned: Planned, bundle: str, stream: str) -> list[Compared]:
    """Rows of a bundle on a stream whose passes are finished.

    Args:
        planned: its passes.
        bundle: its name.
        stream: likewise.
    """
    context, space = planned.evaluation.context, planned.scored.space
    found: dict[frozenset[str], Compared] = {}
    for options, trials in planned.points.items():
        for row in summarise(grouped(planned.evaluation, trials), space):
            of_row = frozenset(
                trial.key(context)
                for trial in trials
                if (trial.options.method, str(trial.corruption)) == (row.method, row.stream)
            )  # the same passes at two points: the method makes no use of what differs between them
            found[of_row] = Compared(bundle, stream, "" if of_row in found else options, row)
    return list(found.values())


def totals(rows: Sequence[Compared]) -> list[Total]:
    """A total for each bundle, method and point of the grid, the best first."""
    by_what: dict[tuple[str, str, str, str], list[Compared]] = {}
    for row in rows:
        by_what.setdefault(row.what, []).append(row)
    found = []
    for what, of_streams in by_what.items():
        least = min(of_streams, key=lambda each: each.row.miou)
        gains = [each.row.gain for each in of_streams if each.row.gain is not None]
        found.append(
            Total(
                *what,
                miou=float(np.mean([each.row.miou for each in of_streams])),
                least=least.row.miou,
                least_on=least.footage,
                gain=float(np.mean(gains)) if gains else None,
                least_gain=min(gains, default=None),
                ms_per_frame=float(np.median([each.row.ms_per_frame for each in of_streams])),
            )
        )
    return sorted(found, key=lambda total: -total.miou if math.isfinite(total.miou) else math.inf)
