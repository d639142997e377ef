"""Realtime mode: one view a frame, the mask first, an update where there is time.

A frame goes through ``measured`` (its own statistics) every ``norm_every`` frames, else
through ``modulated`` with vectors from a running average of what was measured. Vectors are
always measured in one sequential pass under the source anchor: measuring under last
frame's vectors and feeding the result back is a loop that diverges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import StateError, UsageError
from ocl_edge.method.pixel_grid import PixelGrid, is_pointwise
from ocl_edge.method.step import Update
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.backends import lane_of, open_backend
from ocl_edge_runtime.session.engine import Engine, EngineOptions
from ocl_edge_runtime.session.engine_head import EngineHead
from ocl_edge_runtime.session.frames import IN_BACKGROUND, FrameResult, FrameSchedule
from ocl_edge_runtime.session.norm_vectors import NormVectors
from ocl_edge_runtime.session.realtime_options import RealtimeOptions
from ocl_edge_runtime.session.scheduler import Clock, Durations, RealClock, Slot, UpdateScheduler
from ocl_edge_runtime.session.updates import (
    BackgroundUpdates,
    HeadUpdater,
    InlineExecutor,
    Outcome,
    UpdateInput,
    UpdateRules,
)

__all__ = ["RealtimeEngine", "RealtimeOptions"]

BLANK_RANGE = 8
"""A frame whose sampled pixels lie this close together (of 255) shows nothing."""

STRAYED = "the replay has gone another way than the recorded run: other frames, libraries or processor?"

PIXEL_STRIDE = 8
WARM_UP_RUNS = 3


@dataclass
class _Current:
    """The latest frame, for the update on it."""

    view: Tensor
    features: list[Tensor]
    arrived_at: float
    problem: str | None


class RealtimeEngine(Engine):
    """An engine whose masks never wait for an update. Used from one thread at a time.

    Args:
        bundle: to run.
        options: method ``ocl-head`` or ``tent-head``, or ``norm``, which never updates; the view is single.
        realtime: see `RealtimeOptions`.
        clock: replaced in tests.

    Raises:
        UsageError: another method, or the view pair.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: EngineOptions | None = None,
        realtime: RealtimeOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        options = options or EngineOptions()
        if options.views == "pair":
            raise UsageError(
                "realtime mode works on a single view; leave out --views pair, or take --mode paper"
            )
        super().__init__(bundle, replace(options, views=None))
        if self.method.trains not in ("head", "nothing") or not self.method.modulates_norms:
            raise UsageError(f"realtime mode runs norm, ocl-head and tent-head, not {self.method.name}")
        self.views = "single"
        self.realtime = realtime or RealtimeOptions()
        self.clock: Clock = clock or RealClock()
        self.norms = NormVectors(self.source, self._prior, self.realtime)
        self.scheduler = UpdateScheduler(self.realtime.adapt_every, self.realtime.period_s, self.clock)
        self.index = -1
        self._measured_s = Durations()
        pointwise = (
            self.head.pointwise
            if isinstance(self.head, EngineHead)
            else is_pointwise(self.head, bundle.manifest.features)
        )
        self._grid = PixelGrid(self.realtime.loss_stride if pointwise else 1)
        self._last_adapted: NDArray[np.uint8] | None = None
        self._current: _Current | None = None
        self._outcome: Outcome | None = None
        self._taken_in: Outcome | None = None
        self._schedule: FrameSchedule | None = None
        self._plans: deque[FrameSchedule] | None = None
        self._background: BackgroundUpdates | None = None
        self._open_updater(options)

    def _open_updater(self, options: EngineOptions) -> None:
        head, backend, watch = self.head, self._backend, self.watch
        in_background = self.realtime.update == "background" and self.method.loss is not None
        if in_background:
            # never shared: the mask would wait for the update
            in_engine = options.head == "engine"
            backend = open_backend(
                self.bundle,
                self.backend_name,
                options.threads,
                options.precision,
                in_engine,
                for_updates=True,
            ).backend
            head, watch = self._open_head(backend, options), Stopwatch()
        rules = UpdateRules(
            self.method.loss,
            self._grid,
            self._anchor,
            self.realtime.statistics_limit,
            self.realtime.guarded,
            self.realtime.limits,
        )
        self.updater = HeadUpdater(head, backend, rules, watch)
        self.guard = self.updater.guard
        if in_background:
            self._background = BackgroundUpdates(self.updater, lane=lane_of(backend))

    def warm_up(self) -> None:
        """Run everything a few times on noise: the first frame is fast, and updates have a history.

        Nothing that was learned changes.
        """
        tensors, facts = self.export_state()
        frame = self.bundle.manifest.input
        image = np.random.default_rng(0).integers(0, 256, (frame.height, frame.width, 3), dtype=np.uint8)
        view = self._preprocessor.single(image)
        run_update = self.updater.run if self._background is None else self._background.run
        measured, updates = [], []
        for _ in range(WARM_UP_RUNS):
            features = self._modulated(view)
            given = self._update_input(_Current(view, features, 0.0, None))
            started = self.clock.now()
            self._backend.infer("measured", {"image": view, **self._anchor})
            self._mask(features, frame.height, frame.width)
            measured.append(self.clock.now() - started)
            started = self.clock.now()
            if self.method.loss is not None:
                run_update(given, trusted=True)
            updates.append(self.clock.now() - started)
        self.import_state(tensors, facts)
        self.norms.running.measured_at = facts["measured_at"]  # same process, same clock
        for kind, seconds in ((self._measured_s, measured), (self.scheduler.durations, updates)):
            for each in seconds[1:]:  # the first one loads
                kind.add(each)

    def predict(self, image: NDArray[np.uint8], arrived_at: float | None = None) -> NDArray[np.uint8]:
        """The mask of an image, before any update on it.

        Args:
            image: uint8 [H, W, 3], RGB.
            arrived_at: when the frame was there, in seconds of the clock; None: now.

        Raises:
            FrameError: the image is of another dtype or shape.
        """
        plan = self._next_plan()
        arrived_at = plan.arrived_at if plan else self.clock.now() if arrived_at is None else arrived_at
        self.watch.start()
        view = self._preprocessor.single(image)
        self.index += 1
        self._take_in(plan)
        self.watch.lap("preprocess")
        self._outcome = None
        problem, started = self._problem_of(image), self.clock.now()
        measures = problem is None and (plan.measured if plan else self._measures(arrived_at))
        features, statistics = self._measured(view) if measures else (self._modulated(view), None)
        if problem is None and not all(bool(f.sum().isfinite()) for f in features):
            problem = "the backbone's output is not finite"
        elif statistics is not None:
            problem = self.norms.take_in(statistics, arrived_at)
        self.watch.lap("backbone")
        mask = self._mask(features, image.shape[0], image.shape[1])
        if measures:
            self._measured_s.add(self.clock.now() - started)
        self._current = _Current(view, features, arrived_at, problem)
        granted = plan is not None and plan.granted
        self._schedule = FrameSchedule(arrived_at, measures, granted, self._taken_in is not None)
        return mask

    def _mask(self, features: list[Tensor], height: int, width: int) -> NDArray[np.uint8]:
        with torch.no_grad():
            logits = self.head.logits(features)
        self.watch.lap("head")
        mask = self._tail.mask(logits, height, width)
        self.watch.lap("tail")
        return mask

    def adapt(self) -> Update | None:
        """Update on the frame of the last `predict`, if one is due and there is time; then judge it.

        In the background the update only starts here; a later `predict` takes it in.
        """
        current, self._current = self._current, None
        if current is None or self.method.loss is None:
            return None
        if current.problem:
            return Update(None, False, current.problem)
        slot = self._slot(current.arrived_at)
        if not slot.granted:
            return Update(None, False, slot.reason)
        assert self._schedule is not None
        self._schedule = replace(self._schedule, granted=True)
        if not self.guard.may_update():
            return Update(None, False, "frozen by the guard")
        self.watch.resume()
        started, given = self.clock.now(), self._update_input(current)
        if self._background is not None:
            self._background.start(self.index, given)
            return Update(None, False, IN_BACKGROUND)
        self._outcome = self.updater.run(given)
        self.scheduler.durations.add(self.clock.now() - started)
        return self._outcome.update

    def _slot(self, arrived_at: float) -> Slot:
        if self._plans is not None and self._schedule is not None:
            if self._schedule.granted and self._background is not None and self._background.busy:
                raise StateError(STRAYED)
            return Slot(self._schedule.granted, "not in the schedule")
        if self._background is not None:
            return self.scheduler.ask_worker(self.index, self._background.busy)
        return self.scheduler.ask(self.index, arrived_at)

    def _update_input(self, current: _Current) -> UpdateInput:
        features = self._grid.sample(current.features)
        if self._background is not None:  # the backend overwrites its outputs at the next frame
            features = [f.clone() for f in features]
        return UpdateInput(current.view.flip(3), features)

    def _take_in(self, plan: FrameSchedule | None) -> None:
        """Take in a background update if one has landed, or if the schedule says so."""
        self._taken_in = None
        if self._background is not None and (plan.taken_in if plan else self._background.landed):
            if not self._background.busy:
                raise StateError(STRAYED)
            self._taken_in = self._background.take_in(self.index)
            self._copy_weights()

    def _copy_weights(self) -> None:
        if self.updater.head is not self.head:
            self.head.load(self.updater.head.parameters)

    def settle(self) -> Outcome | None:
        """Wait for an update in flight and take it in; its outcome, None where there was none.

        Raises:
            OclEdgeError: what went wrong in the worker.
        """
        if self._background is None:
            return None
        outcome = self._background.take_in(self.index + 1)
        self._copy_weights()
        return outcome

    def follow(self, plans: Iterable[FrameSchedule]) -> None:
        """From the next frame on, take every decision of time from a schedule instead of the clock.

        Background updates then run on this thread: what they give cannot depend on it.
        """
        self._plans = deque(plans)
        if self._background is not None:
            self._background.close()
            self._background = BackgroundUpdates(self.updater, InlineExecutor(), self._background.lane)

    def _next_plan(self) -> FrameSchedule | None:
        if self._plans is None:
            return None
        if not self._plans:
            raise UsageError("the schedule has no more frames")
        return self._plans.popleft()

    @property
    def plans_left(self) -> int:
        """Frames of a schedule that are still to come."""
        return len(self._plans or ())

    def what_decides(self) -> dict[str, Any]:
        """What the learned state depends on, beside the frames, their schedule and the state before."""
        kept = ("tau_s", "loss_stride", "statistics_limit", "guarded", "update")
        return {
            "bundle": self.bundle.identity,
            "method": self.method.name,
            "backend": self.backend_name,
            "head": self.head_kind,
            **self.settings.model_dump(mode="json"),
            **{name: getattr(self.realtime, name) for name in kept},
            "limits": asdict(self.realtime.limits),
            "norm_every": self.realtime.norm_every,
        }

    def facts(self) -> dict[str, Any]:
        """As `Engine.facts`, with `RealtimeOptions`."""
        return {**super().facts(), "realtime": asdict(self.realtime)}

    def close(self) -> None:
        """Free the backends and end the worker.

        Raises:
            Exception: what an update that nobody took in has failed with.
        """
        try:
            if self._background is not None:
                self._background.close()
        finally:
            if self.updater.backend is not self._backend:
                self.updater.backend.close()
            super().close()

    def _measures(self, arrived_at: float) -> bool:
        if not self.bundle.manifest.norms:
            return False
        if self.realtime.norm_every is not None:
            return self.index % self.realtime.norm_every == 0
        predicted, period = self._measured_s.predicted(), self.realtime.period_s
        if predicted is None or period is None or self.clock.now() + predicted <= arrived_at + period:
            return True
        self._measured_s.refuse()
        return False

    def _measured(self, view: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features under the frame's own statistics, and these."""
        outputs = self._backend.infer("measured", {"image": view, **self._anchor})
        features = [outputs[f"features_{i}"].clone() for i in range(len(self.bundle.manifest.features))]
        return features, outputs["statistics"].cpu()

    def _modulated(self, view: Tensor) -> list[Tensor]:
        """Features under the norm vectors, where there are norms."""
        vectors = {"norm_vectors": self.norms.vectors} if self.bundle.manifest.norms else {}
        outputs = self._backend.infer("modulated", {"image": view, **vectors})
        return [outputs[f"features_{index}"] for index in range(len(self.bundle.manifest.features))]

    def _problem_of(self, image: NDArray[np.uint8]) -> str | None:
        """Why a frame must not be learned from: it shows nothing, or nothing new."""
        sample = image[::PIXEL_STRIDE, ::PIXEL_STRIDE]
        if int(sample.max()) - int(sample.min()) <= BLANK_RANGE:
            return "the frame is blank"
        if self._last_adapted is not None and np.array_equal(sample, self._last_adapted):
            return "the frame repeats the one before"
        self._last_adapted = sample.copy()
        return None

    def result(self, mask: NDArray[np.uint8], update: Update | None) -> FrameResult:
        """What the last frame gave, with the guard's decision."""
        decision = self._outcome.decision if self._outcome else None
        return replace(
            super().result(mask, update),
            decision=decision,
            background=self._taken_in,
            schedule=self._schedule,
        )

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next frame depends on: tensors, and facts that fit into JSON.

        An update in flight does not count: a run that resumes from here never began it.
        """
        learned = self.updater if self._background is None else self._background
        learned_tensors, learned_facts = learned.export_state()
        norm_tensors, norm_facts = self.norms.export_state()
        tensors = {**learned_tensors, **norm_tensors}
        if self._last_adapted is not None:
            tensors["last_adapted"] = torch.from_numpy(self._last_adapted)
        return tensors, {
            "bundle": self.bundle.identity,
            "method": self.method.name,
            "settings": self.settings.model_dump(mode="json"),
            "index": self.index,
            "saved_at": self.clock.now(),
            "skipped": self.scheduler.skipped,
            **norm_facts,
            **learned_facts,
        }

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what `export_state` gave; nothing is changed if it does not belong here.

        Raises:
            StateError: of another bundle or method, or incomplete.
        """
        for name, ours in (("bundle", self.bundle.identity), ("method", self.method.name)):
            if facts.get(name) != ours:
                raise StateError(f"the saved state is of {name} {facts.get(name)}, this run has {ours}")
        wrong = self._missing_or_misshapen(tensors, facts)
        if wrong:
            raise StateError(f"the saved state lacks, or has in another shape: {', '.join(wrong)}")
        self.settle()
        self.updater.import_state(tensors, facts)
        self._copy_weights()
        self.norms.import_state(tensors, facts, self.clock.now())
        last = tensors.get("last_adapted")
        self._last_adapted = None if last is None else last.numpy()
        self.index = facts["index"]
        self.scheduler.skipped = facts["skipped"]

    def _missing_or_misshapen(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> list[str]:
        """What keeps a state from being taken over, by name."""
        ours, our_facts = self.export_state()
        missing = sorted(our_facts.keys() - facts.keys()) or [
            f"guard.{n}" for n in our_facts["guard"] if n not in facts["guard"]
        ]
        if missing:
            return missing
        sometimes = ("average", "last_adapted", "guard.snapshot.")
        needed = {n: t for n, t in ours.items() if not n.startswith(sometimes)}
        for index in range(facts["guard"]["snapshots"]):
            needed |= {f"guard.snapshot.{index}.{n}": p for n, p in self.head.parameters.items()}
        if "average" in tensors or facts["measured_at"] is not None:
            needed["average"] = self.norms.mixed
        return [n for n, t in needed.items() if n not in tensors or tensors[n].shape != t.shape]
