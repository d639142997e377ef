"""What an evaluation is asked for, and the trials that this comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ocl_edge.bundle.reading import Bundle
from ocl_edge.images import Colour
from ocl_edge.method.methods import Method, find_method
from ocl_edge.method.norms import Prior
from ocl_edge_app.evaluation.corruption import Corruption, parse_corruption
from ocl_edge_app.evaluation.grid import Evaluation, Trial, context_of
from ocl_edge_app.evaluation.passes import Pass, Scored
from ocl_edge_app.evaluation.what_is_scored import Named, find_what_is_scored
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.session.options import OpeningKind, SessionOptions


@dataclass(frozen=True)
class Asked:
    """What is compared, under the names that `ocl-edge evaluate` has for it.

    Attributes:
        methods: names with commas between.
        views: of the frozen network.
        corruptions: each one ``NAME:SEVERITY`` or ``clean``; none is ``clean``.
        backend: or ``auto``.
        prior: of every method that mixes norms; None: its own, as for the next two.
        lr: of every method that learns.
        restoration: likewise.
        seeds: of what is random in a method that learns; the others take the first.
        rounds: passes over the frames in a row.
        stream_fps: the stream does not wait.
        repeat: every frame comes so many times.
        opening: None is ``auto``.
        threads: of one operator.
    """

    methods: str = "frozen,norm,ocl-head"
    views: Literal["single", "pair"] = "pair"
    corruptions: tuple[str, ...] = ()
    backend: str = "auto"
    prior: Prior | None = None
    lr: float | None = None
    restoration: float | None = None
    seeds: tuple[int, ...] = (0,)
    rounds: int = 1
    stream_fps: float | None = None
    repeat: int = 1
    opening: OpeningKind | None = None
    threads: int | None = None

    @property
    def streams(self) -> list[Corruption]:
        """What is done to the frames.

        Raises:
            UsageError, MissingExtraError: see `parse_corruption`.
        """
        return [parse_corruption(text) for text in self.corruptions or ("clean",)]


@dataclass(frozen=True)
class Planned:
    """A bundle on labelled frames before its passes run.

    Attributes:
        evaluation: takes the results, and has those of an earlier run.
        scored: bundle and frames.
        palette: RGB of each label class.
        points: of a grid, in words -> its trials; what several of them need is in each, and runs once.
            Without a grid there is one, without words.
        of: which bundle on which stream, in words; empty where there is one of each.
    """

    evaluation: Evaluation
    scored: Scored
    palette: list[Colour]
    points: dict[str, list[Trial]]
    of: str = ""

    @property
    def passes(self) -> list[Pass]:
        found: dict[str, Pass] = {}
        for words, trials in self.points.items():
            for trial in trials:
                each = Pass(self.evaluation, self.scored, trial, self.of, words)
                found[each.key] = replace(each, point="") if each.key in found else each
        return list(found.values())

    @property
    def frames_to_come(self) -> int:
        """How many are seen by the passes that are not finished."""
        return sum(each.trial.rounds for each in self.passes if not each.done) * len(self.scored.frames)


def plan(
    bundle: Bundle, named: Named, asked: Mapping[str, Asked], path: Path | None, of: str = ""
) -> Planned:
    """Find the frames, the trials, and what an earlier run has finished.

    Args:
        bundle: to evaluate.
        named: the frames.
        asked: what is compared on them, by the point of a grid in words.
        path: of the file of results; None keeps them in memory alone.
        of: see `Planned`.

    Raises:
        UsageError: see `find_what_is_scored`, `trials_of` and `Evaluation.resume`.
        BackendError: no backend works here.
    """
    frames, space, palette = find_what_is_scored(named, bundle.manifest)
    evaluation = Evaluation(
        context_of(bundle, frames, space),
        {"bundle": bundle.identity, "frames": len(frames), "classes": list(space.names)},
        path,
    )
    with_backend = _with_backend(bundle, list(asked.values()))
    points = {words: trials_of(each, bundle) for words, each in zip(asked, with_backend, strict=True)}
    evaluation.resume()
    return Planned(evaluation, Scored(bundle, named, frames, space), palette, points, of)


def trials_of(asked: Asked, bundle: Bundle) -> list[Trial]:
    """Every method and seed on every stream.

    Args:
        asked: what is compared; its backend is named.
        bundle: to evaluate.

    Raises:
        UsageError: an unknown method or corruption.
    """
    methods = _methods(asked)
    options = [
        _options_of(asked, method, seed)
        for method in methods
        for seed in (asked.seeds if method.learns else asked.seeds[:1])
    ]
    return [
        Trial(
            each,
            each.settings_over(bundle.manifest.adaptation),
            stream,
            asked.rounds,
            asked.stream_fps,
            asked.repeat,
        )
        for stream in asked.streams
        for each in options
    ]


def _methods(asked: Asked) -> list[Method]:
    return [find_method(name.strip()) for name in asked.methods.split(",")]


def _options_of(asked: Asked, method: Method, seed: int) -> SessionOptions:
    """What a method makes no use of is no part of its passes: they are not run again for it."""
    adapts = method.modulates_norms or method.learns
    return SessionOptions(
        method.name,
        asked.views if method.name == "frozen" else None,
        "torch" if method.needs_pytorch_backbone else asked.backend,
        asked.prior if adapts else None,
        asked.lr if method.learns else None,
        asked.restoration if method.learns else None,
        seed,
        asked.threads,
        opening="auto" if asked.opening is None or not adapts else asked.opening,
        frame_s=1 / ((asked.stream_fps or 1.0) * asked.repeat),
    )


def _with_backend(bundle: Bundle, asked: Sequence[Asked]) -> list[Asked]:
    """With the backend that ``auto`` takes here: a pass of another one is another pass."""
    left_open = [each for each in asked if each.backend == "auto"]
    if all(method.needs_pytorch_backbone for each in left_open for method in _methods(each)):
        return list(asked)
    backend = open_backend(bundle, "auto", left_open[0].threads).backend
    backend.close()
    return [replace(each, backend=backend.name) if each.backend == "auto" else each for each in asked]
