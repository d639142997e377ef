"""Methods x streams x seeds x rounds, in a file that a killed evaluation goes on from."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ocl_edge import durable
from ocl_edge._version import __version__
from ocl_edge.bundle.manifest import file_sha256
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FrameError, UsageError
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge_app.evaluation.corruption import Corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_app.evaluation.protocol import Result, evaluate_stream
from ocl_edge_app.evaluation.unfinished import Unfinished
from ocl_edge_runtime.session.engine import Engine, EngineOptions


@dataclass(frozen=True)
class Cell:
    """One pass (or ``rounds`` passes in a row) of one method over one stream.

    Attributes:
        settings: what the options come to: defaults may change from version to version.
    """

    options: EngineOptions
    settings: AdaptationDefaults
    corruption: Corruption
    rounds: int
    stream_fps: float | None

    def key(self, context: str) -> str:
        """Hash of everything that the cell's numbers depend on, where ``options`` name a backend."""
        return hashlib.sha256(f"{context}|{self!r}".encode()).hexdigest()[:16]


@dataclass
class Evaluation:
    """Finished cells, in memory and, with a path, on disk after every cell.

    Attributes:
        context: hash of bundle, frames and label space.
        facts: what the file says of itself; with ``rows``, once everything is finished.
        path: JSON file, rewritten atomically; None keeps results in memory alone.
        cells: key -> description and one `Result` a round.
    """

    context: str
    facts: dict[str, Any]
    path: Path | None = None
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)

    def resume(self) -> None:
        """Take over the finished cells of the file, if it is of the same evaluation.

        Raises:
            UsageError: the file is of another bundle, other frames or labels, another version of
                ocl-edge, or is no evaluation.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            context, cells = content["context"], content["cells"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.path} exists and is no evaluation; name another --json file") from error
        if context != self.context:
            raise UsageError(
                f"{self.path} holds an evaluation of another bundle, other frames or labels, or by "
                "another version of ocl-edge; name another --json file"
            )
        self.cells = cells

    def content(self) -> dict[str, Any]:
        """What the file holds."""
        return {"context": self.context, **self.facts, "cells": self.cells}

    @property
    def unfinished_path(self) -> Path | None:
        """Where the pass that runs is kept."""
        return None if self.path is None else self.path.with_name(f".{self.path.name}.unfinished")

    def save(self) -> None:
        """Write the file durably.

        Raises:
            OutputError: it cannot be written.
        """
        if self.path is not None:
            durable.write_json(self.path, self.content())


def context_of(bundle: Bundle, frames: LabelledFrames, space: LabelSpace) -> str:
    """Hash of what all cells share: this version, the bundle, the label space, every frame and label file.

    Raises:
        UsageError: a file cannot be read.
    """
    shared = hashlib.sha256(f"{__version__}|{bundle.identity}|{space}".encode())
    for file in itertools.chain.from_iterable(frames.pairs):
        try:
            shared.update(f"|{file.name}|{file_sha256(file)}".encode())
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    return shared.hexdigest()


def run_cells(
    evaluation: Evaluation,
    bundle: Bundle,
    frames: LabelledFrames,
    space: LabelSpace,
    cells: list[Cell],
    on_cell: Callable[[Cell, bool], Callable[[float], None]],
    on_skip: Callable[[Path, FrameError], None] = lambda _file, _why: None,
    unfinished: Unfinished | None = None,
) -> None:
    """Run the cells that are not finished yet, the one that a kill has interrupted from where it was.

    Args:
        evaluation: takes the results.
        bundle: to evaluate.
        frames: with labels.
        space: their classes.
        cells: all of them.
        on_cell: called before each with (cell, already finished); returns what is called
            after each frame with the mIoU so far.
        on_skip: called for each frame that cannot be read, in every pass.
        unfinished: keeps the pass that runs; None: a file beside the evaluation's.

    Raises:
        StateError: the pass that was interrupted is damaged on the disk.
    """
    unfinished = unfinished or Unfinished(evaluation.unfinished_path)
    for cell in cells:
        key = cell.key(evaluation.context)
        done = key in evaluation.cells
        on_frame = on_cell(cell, done)
        if done:
            continue
        engine = Engine(bundle, cell.options)
        results, so_far = unfinished.resume(key, engine)
        keep = partial(unfinished.save_if_due, key, engine, results)
        while len(results) < cell.rounds:
            result = evaluate_stream(
                engine,
                frames,
                space,
                cell.corruption,
                cell.stream_fps,
                on_frame,
                on_skip,
                so_far=so_far,
                keep=keep,
            )
            results.append(result)
            so_far = None
        evaluation.cells[key] = {
            "stream": str(cell.corruption),
            "seed": cell.options.seed,
            "stream_fps": cell.stream_fps,
            **engine.facts(),
            "rounds": [result.as_dict() for result in results],
        }
        evaluation.save()
        unfinished.remove()
        engine.close()


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


def grouped(evaluation: Evaluation, cells: list[Cell]) -> list[Group]:
    """The results of these cells, all finished, in their order.

    Other cells of the file may have other settings, and are left out.
    """
    groups: dict[tuple[str, str, str], Group] = {}
    for name in dict.fromkeys(cell.key(evaluation.context) for cell in cells):
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
        )
