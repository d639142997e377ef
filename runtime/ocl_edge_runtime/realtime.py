"""Realtime mode: one view a frame, the mask first, an update where there is time.

A frame goes through ``measured`` (its own statistics) every ``norm_every`` frames, else
through ``modulated`` with vectors from a running average of what was measured. Vectors are
always measured in one sequential pass under the source anchor: measuring under last
frame's vectors and feeding the result back is a loop that diverges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ocl_edge.adapter import Update
from ocl_edge.bundle import Bundle
from ocl_edge.errors import StateError, UsageError
from ocl_edge.guard import Decision, Guard, GuardLimits, compare_heads
from ocl_edge.norms import RunningStatistics, statistics_distance
from ocl_edge.pixel_grid import PixelGrid, is_pointwise
from ocl_edge_runtime.engine import Engine, EngineOptions
from ocl_edge_runtime.frames import FrameResult
from ocl_edge_runtime.scheduler import Clock, Durations, RealClock, UpdateScheduler

BLANK_RANGE = 8
"""A frame whose sampled pixels lie this close together (of 255) shows nothing."""

PIXEL_STRIDE = 8
WARM_UP_RUNS = 3


@dataclass(frozen=True)
class RealtimeOptions:
    """How realtime mode spends its time.

    Attributes:
        norm_every: measure the statistics of every n-th frame; None: of every frame whose
            mask can then still meet the deadline.
        adapt_every: update on every n-th frame; None: as often as there is time.
        period_s: time between frames; None: nobody waits.
        tau_s: time constant of the running average of statistics, in seconds of stream time.
        loss_stride: the loss takes every n-th pixel in both directions, where the head is
            pointwise; else all pixels.
        statistics_limit: largest distance of a frame's statistics from the source's
            (`ocl_edge.norms.statistics_distance`) before they are refused. Real weather
            stays under 0.52, a black frame has 1.2, noise 0.7.
        guarded: judge every update; False only to see what the guard is for.
        limits: of the guard.
    """

    norm_every: int | None = 1
    adapt_every: int | None = None
    period_s: float | None = None
    tau_s: float = 2.0
    loss_stride: int = 4
    statistics_limit: float = 0.6
    guarded: bool = True
    limits: GuardLimits = field(default_factory=GuardLimits)


@dataclass
class _Current:
    """What the update on the latest frame needs."""

    view: Tensor
    features: list[Tensor]
    statistics: Tensor
    arrived_at: float
    problem: str | None


class RealtimeEngine(Engine):
    """An engine whose masks never wait for an update. Used from one thread at a time.

    Args:
        bundle: to run.
        options: method ``ocl-head`` (or ``norm``, which never updates); the view is single.
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
        super().__init__(bundle, options)
        if self.method.trains not in ("head", "nothing") or not self.method.modulates_norms:
            raise UsageError(f"realtime mode runs norm, ocl-head and tent-head, not {self.method.name}")
        if options is not None and options.views == "pair":
            raise UsageError(
                "realtime mode works on a single view; leave out --views pair, or take --mode paper"
            )
        self.views = "single"
        self.realtime = realtime or RealtimeOptions()
        self.clock: Clock = clock or RealClock()
        self.guard = Guard(self.head, self.realtime.limits)
        self.running = RunningStatistics(self.realtime.tau_s)
        self.scheduler = UpdateScheduler(self.realtime.adapt_every, self.realtime.period_s, self.clock)
        self.index = -1
        self.refused_statistics = 0
        self._mixed = self.source.statistics
        self._vectors = self.source.vectors(self._mixed)
        self._measured_s = Durations()
        pointwise = is_pointwise(self.head, bundle.manifest.features)
        self._grid = PixelGrid(self.realtime.loss_stride if pointwise else 1)
        self._last_adapted: NDArray[np.uint8] | None = None
        self._current: _Current | None = None
        self.decision: Decision | None = None

    def warm_up(self) -> None:
        """Run everything a few times on noise: the first frame is fast, and updates have a history.

        Nothing that was learned changes.
        """
        tensors, facts = self.export_state()
        frame = self.bundle.manifest.input
        image = np.random.default_rng(0).integers(0, 256, (frame.height, frame.width, 3), dtype=np.uint8)
        view = self._preprocessor.single(image)
        durations = []
        for _ in range(WARM_UP_RUNS):
            features = self._named_features("modulated", {"image": view, "norm_vectors": self._vectors})
            self._backend.infer("measured", {"image": view, **self._anchor})
            started = self.clock.now()
            if self.method.loss is not None:
                self._update_on(_Current(view, features, self._mixed, started, None), trusted=True)
            durations.append(self.clock.now() - started)
        self.import_state(tensors, facts)
        for seconds in durations[1:]:  # the first one loads
            self.scheduler.durations.add(seconds)

    def predict(self, image: NDArray[np.uint8], arrived_at: float | None = None) -> NDArray[np.uint8]:
        """The mask of an image, before any update on it.

        Args:
            image: uint8 [H, W, 3], RGB.
            arrived_at: when the frame was there, in seconds of the clock; None: now.

        Raises:
            FrameError: the image is of another dtype or shape.
        """
        arrived_at = self.clock.now() if arrived_at is None else arrived_at
        self.watch.start()
        view = self._preprocessor.single(image)
        self.watch.lap("preprocess")
        self.index += 1
        self.decision = None
        problem = self._problem_of(image)
        if problem is None and self._measures(arrived_at):
            features, problem = self._measured(view, arrived_at)
        else:
            features = self._named_features("modulated", {"image": view, "norm_vectors": self._vectors})
        if problem is None and not all(bool(f.sum().isfinite()) for f in features):
            problem = "the backbone's output is not finite"
        self.watch.lap("backbone")
        with torch.no_grad():
            logits = self.head.logits(features)
        self.watch.lap("head")
        mask = self._tail.mask(logits, image.shape[0], image.shape[1])
        self.watch.lap("tail")
        self._current = _Current(view, features, self._mixed, arrived_at, problem)
        return mask

    def adapt(self) -> Update | None:
        """Update on the frame of the last `predict`, if one is due and there is time; then judge it."""
        current, self._current = self._current, None
        if current is None or self.method.loss is None:
            return None
        if current.problem:
            return Update(None, False, current.problem)
        slot = self.scheduler.ask(self.index, current.arrived_at)
        if not slot.granted:
            return Update(None, False, slot.reason)
        if not self.guard.may_update():
            return Update(None, False, "frozen by the guard")
        self.watch.resume()
        started = self.clock.now()
        update = self._update_on(current)
        self.scheduler.durations.add(self.clock.now() - started)
        return update

    def _update_on(self, current: _Current, trusted: bool = False) -> Update:
        assert self.method.loss is not None
        ours = self._grid.sample(current.features)
        outputs = self._backend.infer("measured", self._under(current.statistics, current.view.flip(3)))
        distance = statistics_distance(outputs["statistics"].cpu(), self.source.statistics)
        flipped = self._grid.sample(
            [outputs[f"features_{i}"] for i in range(len(current.features))], flip=True
        )
        self.watch.lap("flipped view")
        if not trusted and not distance <= self.realtime.statistics_limit:
            return Update(None, False, f"statistics refused: {distance:.2f} away from the source's")
        pair = [torch.cat((a, b)) for a, b in zip(ours, flipped, strict=True)]
        update = self.head.adapt(pair, self.method.loss, self.watch)
        if not self.realtime.guarded:
            return update
        self.decision = self._judge(update, ours)
        self.watch.lap("guard")
        applied = self.decision.action == "commit"
        return Update(
            update.loss, applied, "adapted" if applied else f"{self.decision.action}: {self.decision.reason}"
        )

    @torch.no_grad()
    def _judge(self, update: Update, features: list[Tensor]) -> Decision:
        if not update.applied:
            return self.guard.reject(update.reason)
        adapted = self.head.logits(features)
        frozen = self.head.source_logits(features)
        return self.guard.judge(compare_heads(adapted, frozen, self.head.distance_from_source()))

    def _measures(self, arrived_at: float) -> bool:
        if self.realtime.norm_every is not None:
            return self.index % self.realtime.norm_every == 0
        predicted, period = self._measured_s.predicted(), self.realtime.period_s
        return predicted is None or period is None or self.clock.now() + predicted <= arrived_at + period

    def _measured(self, view: Tensor, arrived_at: float) -> tuple[list[Tensor], str | None]:
        """Features under the frame's own statistics, which then renew the vectors unless they are refused."""
        started = self.clock.now()
        outputs = self._backend.infer("measured", {"image": view, **self._anchor})
        self._measured_s.add(self.clock.now() - started)
        features = [outputs[f"features_{i}"].clone() for i in range(len(self.bundle.manifest.features))]
        statistics = outputs["statistics"].cpu()
        distance = statistics_distance(statistics, self.source.statistics)
        if not distance <= self.realtime.statistics_limit:
            self.refused_statistics += 1
            return features, f"statistics refused: {distance:.2f} away from the source's"
        self.running.add(statistics, arrived_at)
        own = self.realtime.norm_every == 1
        assert self.running.average is not None
        self._mixed = self.source.mixed_with(statistics if own else self.running.average, self._prior)
        self._vectors = self.source.vectors(self._mixed)
        return features, None

    def _under(self, statistics: Tensor, view: Tensor) -> dict[str, Tensor]:
        """Inputs of ``measured`` that normalise with given statistics and still report the image's own.

        Those are only compared with the source, never fed back.
        """
        return {"image": view, "anchor_statistics": statistics, "anchor_weight": torch.ones_like(self._prior)}

    def _named_features(self, form: str, inputs: dict[str, Tensor]) -> list[Tensor]:
        outputs = self._backend.infer(form, inputs)  # type: ignore[arg-type]
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
        plain = super().result(mask, update)
        return FrameResult(mask, plain.timings_ms, plain.adapted, plain.reason, plain.loss, self.decision)

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next frame depends on: tensors, and facts that fit into JSON."""
        guard_tensors, guard_facts = self.guard.export_state()
        tensors = {f"weight.{n}": t for n, t in self.head.snapshot().items()}
        tensors |= {f"momentum.{n}": t for n, t in self.head.momentum().items()}
        tensors |= {f"guard.{n}": t for n, t in guard_tensors.items()}
        tensors |= {"generator": self.head.generator.get_state(), "mixed": self._mixed}
        if self.running.average is not None:
            tensors["average"] = self.running.average
        if self._last_adapted is not None:
            tensors["last_adapted"] = torch.from_numpy(self._last_adapted)
        return tensors, {
            "bundle": self.bundle.identity,
            "method": self.method.name,
            "settings": self.settings.model_dump(),
            "index": self.index,
            "measured_at": self.running.measured_at,
            "saved_at": self.clock.now(),
            "refused_statistics": self.refused_statistics,
            "skipped": self.scheduler.skipped,
            "guard": guard_facts,
        }

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what `export_state` gave; nothing is changed if it does not belong here.

        Raises:
            StateError: of another bundle or method, or incomplete.
        """
        for name, ours in (("bundle", self.bundle.identity), ("method", self.method.name)):
            if facts.get(name) != ours:
                raise StateError(f"the saved state is of {name} {facts.get(name)}, this run has {ours}")
        expected = {
            f"{kind}.{n}": p.shape for kind in ("weight", "momentum") for n, p in self.head.parameters.items()
        }
        wrong = [n for n, shape in expected.items() if n not in tensors or tensors[n].shape != shape]
        if wrong or tensors["mixed"].shape != self._mixed.shape:
            raise StateError(
                f"the saved state does not fit the head: {', '.join(wrong) or 'norm statistics'}"
            )
        self.head.load({n: tensors[f"weight.{n}"] for n in self.head.parameters})
        self.head.load_momentum({n: tensors[f"momentum.{n}"] for n in self.head.parameters})
        self.head.generator.set_state(tensors["generator"])
        guard = {n.removeprefix("guard."): t for n, t in tensors.items() if n.startswith("guard.")}
        self.guard.import_state(guard, facts["guard"])
        self._mixed = tensors["mixed"]
        self._vectors = self.source.vectors(self._mixed)
        self.running.average = tensors.get("average")
        # the clock of another process starts elsewhere; what matters is the age of the measurement
        measured_at, saved_at = facts["measured_at"], facts["saved_at"]
        self.running.measured_at = (
            None if measured_at is None else self.clock.now() - (saved_at - measured_at)
        )
        last = tensors.get("last_adapted")
        self._last_adapted = None if last is None else last.numpy()
        self.index, self.refused_statistics = facts["index"], facts["refused_statistics"]
        self.scheduler.skipped = facts["skipped"]
