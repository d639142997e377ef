"""What an evaluation has to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ocl_edge.images import Colour
from ocl_edge_app.evaluation.corruption import Corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_app.evaluation.plan import Planned
from ocl_edge_app.evaluation.summary import Group, Row, grouped, summarise
from ocl_edge_app.report.what_ran import network_name


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation has to show.

    Attributes:
        network: its name.
        groups: results, from `ocl_edge_app.evaluation.summary.grouped`.
        streams: name -> what was done to the frames.
        frames: with labels.
        space: their classes.
        palette: RGB of each class.
    """

    network: str
    groups: Sequence[Group]
    streams: Mapping[str, Corruption]
    frames: LabelledFrames
    space: LabelSpace
    palette: Sequence[Colour]

    @classmethod
    def of(cls, planned: Planned) -> Evaluated:
        """What an evaluation without a grid has to show, once its passes are finished."""
        trials = planned.points[""]
        streams = {str(trial.corruption): trial.corruption for trial in trials}
        groups = grouped(planned.evaluation, trials)
        scored = planned.scored
        name = network_name(scored.bundle)
        return cls(name, groups, streams, scored.frames, scored.space, planned.palette)

    @property
    def rows(self) -> list[Row]:
        return summarise(list(self.groups), self.space)

    def of_stream(self, stream: str) -> list[Group]:
        """Its groups, the frozen network first."""
        return sorted((g for g in self.groups if g.stream == stream), key=lambda g: g.method != "frozen")

    def label(self, group: Group | Row) -> str:
        """The method, with its views where they differ between methods."""
        mixed = len({g.views for g in self.groups}) > 1
        return f"{group.method} ({group.views})" if mixed else group.method

    @property
    def best(self) -> str | None:
        """The method that adapts and has the highest mIoU, mean of all streams."""
        scores: dict[str, list[float]] = {}
        for row in self.rows:
            if row.method != "frozen":
                scores.setdefault(row.method, []).append(row.miou)
        return max(scores, key=lambda method: float(np.mean(scores[method])), default=None)

    def compared(self, groups: Sequence[Group]) -> tuple[int, int] | None:
        """Places of the frozen network and of the best method, if both are there with the same views."""
        frozen = [i for i, group in enumerate(groups) if group.method == "frozen"]
        best = [i for i, group in enumerate(groups) if group.method == self.best]
        if not frozen or not best or groups[frozen[0]].views != groups[best[0]].views:
            return None
        return frozen[0], best[0]
