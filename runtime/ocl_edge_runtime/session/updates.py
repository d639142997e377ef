"""The update of the head: flipped view, OCL step, guard; on the frame loop's thread or on a worker's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ocl_edge.method.guard import Decision, Guard, GuardLimits, compare_heads
from ocl_edge.method.head import Head
from ocl_edge.method.norms import why_refused
from ocl_edge.method.pixel_grid import PixelGrid
from ocl_edge.method.step import Loss, Update
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.lane import Lane

WORKER_NICENESS = 10
"""Of the worker's thread, where the system has that for threads: the mask goes first."""

Learned = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors, and facts that fit into JSON."""


@dataclass(frozen=True)
class UpdateRules:
    """What an update obeys.

    Attributes:
        loss: of the method; None: it never updates.
        grid: the pixels that count.
        anchor: inputs of the measured form beside the flipped view; none where there are no norms.
        statistics_limit: largest distance of a frame's statistics from the source's.
        guarded: judge every update.
        limits: of the guard.
    """

    loss: Loss | None
    grid: PixelGrid
    anchor: Mapping[str, Tensor]
    statistics_limit: float
    guarded: bool
    limits: GuardLimits


@dataclass(frozen=True)
class UpdateInput:
    """What an update needs of its frame.

    Attributes:
        flipped: the flipped view, float32 [1, 3, h, w].
        features: of the view on the grid, each [1, F, h', w'].
    """

    flipped: Tensor
    features: list[Tensor]


@dataclass(frozen=True)
class Outcome:
    """What an update gave.

    Attributes:
        update: applied or not, and why.
        decision: of the guard, None where it was not asked.
        timings_ms: stage -> milliseconds.
        behind: frames between the one that it learned from and the one before which it was taken in.
    """

    update: Update
    decision: Decision | None
    timings_ms: dict[str, float]
    behind: int = 0


class HeadUpdater:
    """A head, its guard, and the backend that runs flipped views for it. One update at a time.

    Args:
        head: that learns.
        backend: of the flipped view.
        rules: see `UpdateRules`.
        watch: receives the laps.
    """

    def __init__(self, head: Head, backend: Backend, rules: UpdateRules, watch: Stopwatch) -> None:
        self.head = head
        self.guard = Guard(head, rules.limits)
        self.watch = watch
        self.backend = backend
        self._rules = rules

    def run(self, given: UpdateInput, trusted: bool = False) -> Outcome:
        """One update; the watch runs. ``trusted`` takes any statistics: for warming up on noise."""
        before = len(self.watch.spans)
        update, decision = self._update(given, trusted)
        timings = {span.stage: span.ms for span in self.watch.spans[before:]}
        return Outcome(update, decision, timings)

    def _update(self, given: UpdateInput, trusted: bool) -> tuple[Update, Decision | None]:
        rules = self._rules
        assert rules.loss is not None
        # normalised with its own statistics: with those of the view the two differ in more than what
        # they see, and the head learns that (docs/choices.md)
        outputs = self.backend.infer("measured", {"image": given.flipped, **rules.anchor})
        refusal = (
            why_refused(
                outputs["statistics"].cpu(), rules.anchor["anchor_statistics"], rules.statistics_limit
            )
            if rules.anchor
            else None
        )
        flipped = rules.grid.sample([outputs[f"features_{i}"] for i in range(len(given.features))], flip=True)
        self.watch.lap("flipped view")
        if refusal is not None and not trusted:
            return Update(None, False, refusal), None
        pair = [torch.cat((a, b)) for a, b in zip(given.features, flipped, strict=True)]
        update = self.head.adapt(pair, rules.loss, self.watch)
        if not rules.guarded:
            return update, None
        decision = self._judge(update, given.features)
        self.watch.lap("guard")
        applied = decision.action == "commit"
        reason = "adapted" if applied else f"{decision.action}: {decision.reason}"
        return Update(update.loss, applied, reason), decision

    @torch.no_grad()
    def _judge(self, update: Update, features: list[Tensor]) -> Decision:
        if not update.applied:
            return self.guard.reject(update.reason)
        adapted = self.head.logits(features)
        frozen = self.head.source_logits(features)
        return self.guard.judge(compare_heads(adapted, frozen, self.head.distance_from_source()))

    def export_state(self) -> Learned:
        """A copy of all that was learned."""
        guard_tensors, guard_facts = self.guard.export_state()
        tensors = self.head.export_state() | {f"guard.{n}": t for n, t in guard_tensors.items()}
        return tensors, {"guard": guard_facts}

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what `export_state` gave."""
        self.head.import_state(tensors)
        guard = {n.removeprefix("guard."): t for n, t in tensors.items() if n.startswith("guard.")}
        self.guard.import_state(guard, facts["guard"])


class InlineExecutor(Executor):
    """Runs everything at once, on the thread that submits it."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class BackgroundUpdates:
    """At most one update in flight, on a worker's thread; nobody waits for it.

    The frame loop calls everything here. The updater, its head and its backend belong to the
    worker while an update is in flight, and to the frame loop otherwise.

    Args:
        updater: with a head and a backend of its own.
        executor: replaced in tests, and to replay a schedule.
        lane: of the updater's backend; orders on a GPU what the two threads hand to each other.
    """

    def __init__(
        self, updater: HeadUpdater, executor: Executor | None = None, lane: Lane | None = None
    ) -> None:
        self.updater = updater
        self.lane = lane or Lane()
        self.executor = executor or ThreadPoolExecutor(1, "update the head", initializer=give_way)
        self._flight: Future[Outcome] | None = None
        self._done: Any = None
        self._frame = 0
        self._before: Learned | None = None

    @property
    def busy(self) -> bool:
        """Whether an update is in flight, or has landed and was not taken in yet."""
        return self._flight is not None

    @property
    def landed(self) -> bool:
        """Whether an update can be taken in without waiting."""
        return self._flight is not None and self._flight.done()

    def start(self, frame: int, given: UpdateInput) -> None:
        """Let an update on a frame start; none may be in flight."""
        assert self._flight is None
        self._frame, self._before = frame, self.updater.export_state()
        # the point is also after the frame loop's reading of the weights that the update will change
        self._flight = self.executor.submit(self._run, given, self.lane.mark())

    def take_in(self, frame: int) -> Outcome | None:
        """Wait for the update in flight; None where there is none. Its errors are raised here.

        Args:
            frame: before which it is taken in.
        """
        flight, self._flight, self._before = self._flight, None, None
        if flight is None:
            return None
        outcome = flight.result()
        self.lane.wait_for(self._done)
        return Outcome(outcome.update, outcome.decision, outcome.timings_ms, frame - self._frame)

    def run(self, given: UpdateInput, trusted: bool = False) -> None:
        """One update on the worker's thread, waited for."""
        self.executor.submit(self._run, given, self.lane.mark(), trusted).result()
        self.lane.wait_for(self._done)

    def export_state(self) -> Learned:
        """What was learned by the updates that were taken in: one in flight does not count yet."""
        return self._before or self.updater.export_state()

    def close(self) -> None:
        """Wait for the worker and end its thread.

        Raises:
            Exception: what an update that nobody took in has failed with.
        """
        self.executor.shutdown()
        self.take_in(self._frame)

    def _run(self, given: UpdateInput, point: Any, trusted: bool = False) -> Outcome:
        self.updater.watch.start()
        with self.lane.work_after(point, [given.flipped, *given.features]):
            outcome = self.updater.run(given, trusted)
            self._done = self.lane.mark()
        return outcome


def give_way() -> None:
    """Lower the priority of this thread; Linux keeps one for each thread, other systems do not."""
    if sys.platform == "linux":
        os.nice(WORKER_NICENESS)
