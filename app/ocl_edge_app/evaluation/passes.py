"""Runs the passes that are not finished yet.

A runner says where: `Local`, or `ocl_edge_app.evaluation.on_ray.OnRay` on a cluster. The numbers are the
same, and so is the file that holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FrameError, OclEdgeError, PassError, UsageError
from ocl_edge_app.evaluation.grid import Evaluation, Trial
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_app.evaluation.protocol import evaluate_stream
from ocl_edge_app.evaluation.unfinished import Unfinished
from ocl_edge_app.evaluation.what_is_scored import Named
from ocl_edge_runtime.session.opening import open_session

OnFrame = Callable[[float], None]
"""Called after each frame with the mIoU so far, in percent."""

OnSkip = Callable[[Path, FrameError], None]
"""Called for each frame that cannot be read."""


@dataclass(frozen=True)
class Scored:
    """A bundle and the labelled frames that it is scored on.

    Attributes:
        bundle: its network.
        named: as the user named the frames: another machine finds them by it.
        frames: with labels, as found here.
        space: their classes.
    """

    bundle: Bundle
    named: Named
    frames: LabelledFrames
    space: LabelSpace


@dataclass(frozen=True)
class Pass:
    """One trial of an evaluation.

    Attributes:
        evaluation: takes the result.
        scored: what the trial runs on.
        trial: what runs.
        of: which bundle on which stream, in words; empty where there is one of each.
        point: of a grid, likewise; empty where the trial makes no use of what differs between points.
    """

    evaluation: Evaluation
    scored: Scored
    trial: Trial
    of: str = ""
    point: str = ""

    @property
    def key(self) -> str:
        return self.trial.key(self.evaluation.context)

    @property
    def threads(self) -> int:
        """That it keeps busy."""
        return self.trial.options.threads or 1

    @property
    def done(self) -> bool:
        return self.key in self.evaluation.cells

    @property
    def cell(self) -> dict[str, Any]:
        """Its result."""
        return self.evaluation.cells[self.key]

    def __str__(self) -> str:
        trial = self.trial
        point = f" ({self.point})" if self.point else ""
        words = f"{trial.options.method}{point} on {trial.corruption}, seed {trial.options.seed}"
        return f"{self.of}: {words}" if self.of else words


OnPass = Callable[[Pass, bool], OnFrame]
"""Called with a pass and whether it was finished before; returns what each of its frames calls."""

Outcome = dict[str, Any] | OclEdgeError
"""The cell of a pass, or why there is none."""


class Runner(Protocol):
    """How passes are run."""

    def run(self, passes: Iterator[Pass], on_pass: OnPass, on_skip: OnSkip) -> Iterator[tuple[Pass, Outcome]]:
        """Run passes and yield each as it ends, in any order.

        Args:
            passes: taken from when there is room for one more; an outcome that was yielded is kept by then.
            on_pass: called once for each.
            on_skip: called for each frame that cannot be read, in every pass.
        """
        ...


@dataclass(frozen=True)
class Local:
    """One pass after another in this process; the one that a kill interrupts goes on within itself.

    Attributes:
        unfinished: keeps the pass that runs; None: a file beside the evaluation's.
    """

    unfinished: Unfinished | None = None

    def run(self, passes: Iterator[Pass], on_pass: OnPass, on_skip: OnSkip) -> Iterator[tuple[Pass, Outcome]]:
        for each in passes:
            unfinished = self.unfinished or Unfinished(each.evaluation.unfinished_path)
            try:
                outcome: Outcome = cell_of(
                    each.scored, each.trial, on_pass(each, False), on_skip, each.key, unfinished
                )
            except OclEdgeError as error:
                outcome = error
            yield each, outcome
            if isinstance(outcome, dict):
                unfinished.remove()


def run_passes(passes: list[Pass], runner: Runner, on_pass: OnPass, on_skip: OnSkip) -> None:
    """Run the passes that are not finished, and write the results after each.

    A pass that fails leaves the others' results; of its evaluation none begins any more.

    Raises:
        UsageError: what failed was asked for wrongly; every such pass is named.
        PassError: passes failed; likewise.
        OutputError: results cannot be written.
    """
    failed: list[tuple[Pass, OclEdgeError]] = []

    def waiting() -> Iterator[Pass]:
        begun = set[str]()
        for each in passes:
            if each.done:
                on_pass(each, True)
            elif each.key not in begun and all(
                each.evaluation is not other.evaluation for other, _ in failed
            ):
                begun.add(each.key)
                yield each

    for each, outcome in runner.run(waiting(), on_pass, on_skip):
        if isinstance(outcome, OclEdgeError):
            failed.append((each, outcome))
        else:
            each.evaluation.cells[each.key] = outcome
            each.evaluation.save()
    if failed:
        kind = UsageError if all(isinstance(error, UsageError) for _, error in failed) else PassError
        raise kind("; ".join(f"{each}: {error}" for each, error in failed)) from failed[0][1]


def cell_of(
    scored: Scored,
    trial: Trial,
    on_frame: OnFrame = lambda _: None,
    on_skip: OnSkip = lambda _file, _why: None,
    key: str = "",
    unfinished: Unfinished | None = None,
) -> dict[str, Any]:
    """What the file of results holds of a trial, which runs now.

    Args:
        scored: bundle and frames.
        trial: what runs.
        on_frame: see `OnFrame`.
        on_skip: see `OnSkip`.
        key: of the trial, for ``unfinished``.
        unfinished: keeps the pass as it goes on, and knows how far it came before a kill.

    Raises:
        StateError: the pass that was interrupted is damaged on the disk.
        OclEdgeError: as a session and `evaluate_stream` raise.
    """
    unfinished = unfinished or Unfinished(None)
    with open_session(scored.bundle, trial.options) as session:
        results, so_far = unfinished.resume(key, session)
        keep = partial(unfinished.save_if_due, key, session, results)
        while len(results) < trial.rounds:
            stream = session, scored.frames, scored.space, trial.corruption, trial.stream_fps
            results.append(
                evaluate_stream(*stream, on_frame, on_skip, so_far=so_far, keep=keep, repeat=trial.repeat)
            )
            so_far = None
        return {
            "stream": str(trial.corruption),
            "seed": trial.options.seed,
            "stream_fps": trial.stream_fps,
            "repeat": trial.repeat,
            **session.facts(),
            "rounds": [result.as_dict() for result in results],
        }
