"""What an evaluation comes to: a row for each method and stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ocl_edge_app.evaluation.grid import Evaluation, Trial
from ocl_edge_app.evaluation.labelled import LabelSpace
from ocl_edge_app.evaluation.protocol import Result


@dataclass(frozen=True)
class Row:
    """One method (with its views) on one stream, over all seeds; the last round counts.

    Attributes:
        miou: mean over the seeds, percent.
        spread: largest minus smallest over the seeds.
        gain: over the frozen network with the same views, None without that row.
        rounds: mIoU of every round, mean over the seeds, percent.
        worst_class: the one with the lowest IoU, mean over the seeds.
        worst_iou: that IoU, percent.
        ms_per_frame: median of the seeds' medians.
        memory_mib: largest peak.
        frames: scored.
        skipped: not readable.
        answered_late: mean over the seeds.
        opening: mean over seeds and frames, 0 to 1; None where norms are never mixed.
    """

    method: str
    views: str
    stream: str
    seeds: int
    miou: float
    spread: float
    gain: float | None
    rounds: list[float]
    worst_class: str
    worst_iou: float
    ms_per_frame: float
    memory_mib: float
    frames: int
    skipped: int
    answered_late: float
    opening: float | None


@dataclass(frozen=True)
class Group:
    """What a row summarises: one method with its views on one stream.

    Attributes:
        seeds: a list of rounds for each seed.
    """

    method: str
    views: str
    stream: str
    seeds: list[list[Result]]

    @property
    def last_rounds(self) -> list[Result]:
        """The last round of every seed: the one that counts."""
        return [rounds[-1] for rounds in self.seeds]

    @property
    def iou(self) -> list[float | None]:
        """Of every class in the last round, mean over the seeds, percent; None for one that never occurs."""
        return [
            None if None in of_seeds else float(np.mean(of_seeds))
            for of_seeds in zip(*(result.iou for result in self.last_rounds), strict=True)
        ]


def grouped(evaluation: Evaluation, trials: list[Trial]) -> list[Group]:
    """The results of these trials, all finished, in their order.

    Other trials of the file may have other settings, and are left out.
    """
    groups: dict[tuple[str, str, str], Group] = {}
    for name in dict.fromkeys(trial.key(evaluation.context) for trial in trials):
        content = evaluation.cells[name]
        key = (content["method"], content["views"], content["stream"])
        group = groups.setdefault(key, Group(*key, []))
        group.seeds.append([Result.from_dict(result) for result in content["rounds"]])
    return list(groups.values())


def summarise(groups: list[Group], space: LabelSpace) -> list[Row]:
    """A row a group."""
    frozen = {
        (group.views, group.stream): float(np.mean([r.miou for r in group.last_rounds]))
        for group in groups
        if group.method == "frozen"
    }
    return list(_rows(groups, frozen, space))


def _rows(groups: list[Group], frozen: dict[tuple[str, str], float], space: LabelSpace) -> Iterator[Row]:
    for group in groups:
        method, views, stream, results = group.method, group.views, group.stream, group.last_rounds
        scores = [r.miou for r in results]
        mean = float(np.mean(scores))
        baseline = frozen.get((views, stream))
        opened = [opening for result in results for opening in result.openings]
        worst = min(
            ((v, name) for v, name in zip(group.iou, space.names, strict=True) if v is not None),
            default=(float("nan"), "–"),
        )
        yield Row(
            method=method,
            views=views,
            stream=stream,
            seeds=len(results),
            miou=mean,
            spread=max(scores) - min(scores),
            gain=None if baseline is None else mean - baseline,
            rounds=[float(np.mean([r.miou for r in each])) for each in zip(*group.seeds, strict=True)],
            worst_class=worst[1],
            worst_iou=worst[0],
            ms_per_frame=float(np.median([r.ms_per_frame for r in results])),
            memory_mib=max(r.memory_mib for r in results),
            frames=results[0].frames,
            skipped=results[0].skipped,
            answered_late=float(np.mean([r.answered_late for r in results])),
            opening=float(np.mean(opened)) if opened else None,
        )
