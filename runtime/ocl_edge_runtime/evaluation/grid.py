"""Methods x streams x seeds x rounds, in a file that a killed evaluation goes on from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ocl_edge.bundle import Bundle
from ocl_edge.errors import OutputError, UsageError
from ocl_edge.finite import finite
from ocl_edge_runtime.engine import Engine, EngineOptions
from ocl_edge_runtime.evaluation.corruption import Corruption
from ocl_edge_runtime.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_runtime.evaluation.protocol import Result, evaluate_stream
from ocl_edge_runtime.evaluation.unfinished import Unfinished


@dataclass(frozen=True)
class Cell:
    """One pass (or ``rounds`` passes in a row) of one method over one stream."""

    options: EngineOptions
    corruption: Corruption
    rounds: int
    stream_fps: float | None

    def key(self, context: str) -> str:
        """Hash of everything that the cell's numbers depend on."""
        return hashlib.sha256(f"{context}|{self!r}".encode()).hexdigest()[:16]


@dataclass
class Evaluation:
    """Finished cells, in memory and, with a path, on disk after every cell.

    Attributes:
        context: hash of bundle, frames and label space.
        facts: what the file says of itself.
        path: JSON file, rewritten atomically; None keeps results in memory alone.
        cells: key -> description and one `Result` a round.
    """

    context: str
    facts: dict[str, Any]
    path: Path | None = None
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)

    def resume(self) -> int:
        """Take over the finished cells of the file, if it is of the same evaluation.

        Returns:
            How many there are.

        Raises:
            UsageError: the file is of another bundle, other frames or labels, or is no evaluation.
        """
        if self.path is None or not self.path.exists():
            return 0
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            context, cells = content["context"], content["cells"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.path} exists and is no evaluation; name another --json file") from error
        if context != self.context:
            raise UsageError(
                f"{self.path} holds an evaluation of another bundle, other frames or labels; "
                "name another --json file"
            )
        self.cells = cells
        return len(cells)

    @property
    def unfinished_path(self) -> Path | None:
        """Where the pass that runs is kept."""
        return None if self.path is None else self.path.with_name(f".{self.path.name}.unfinished")

    def save(self) -> None:
        """Write the file completely or not at all, durably."""
        if self.path is None:
            return
        beside = self.path.with_name(f".{self.path.name}.partial")
        content = {"context": self.context, **self.facts, "cells": self.cells}
        try:
            with beside.open("w", encoding="utf-8") as file:
                json.dump(finite(content), file, indent=1, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error


def context_of(bundle: Bundle, frames: LabelledFrames, space: LabelSpace) -> str:
    """Hash of what all cells share: the bundle, the file names, the label space."""
    names = [(image.name, label.name) for image, label in frames.pairs]
    return hashlib.sha256(f"{bundle.identity}|{names}|{space}".encode()).hexdigest()


def run_cells(
    evaluation: Evaluation,
    bundle: Bundle,
    frames: LabelledFrames,
    space: LabelSpace,
    cells: list[Cell],
    on_cell: Callable[[Cell, bool], Callable[[float], None]],
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
                engine, frames, space, cell.corruption, cell.stream_fps, on_frame, so_far=so_far, keep=keep
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
    """

    method: str
    views: str
    stream: str
    seeds: int
    miou: float
    spread: float
    gain: float | None
    worst_class: str
    worst_iou: float
    ms_per_frame: float
    memory_mib: float
    answered_late: int


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
        worst = [r.worst_class(space.names) for r in results]
        yield Row(
            method=method,
            views=views,
            stream=stream,
            seeds=len(results),
            miou=mean,
            spread=max(scores) - min(scores),
            gain=None if baseline is None else mean - baseline,
            worst_class=worst[0][0],
            worst_iou=float(np.mean([value for _, value in worst])),
            ms_per_frame=float(np.median([r.ms_per_frame for r in results])),
            memory_mib=max(r.memory_mib for r in results),
            answered_late=sum(r.answered_late for r in results),
        )
