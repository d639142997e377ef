"""How the weights learn from a frame: on the view pair, as published, or the head alone under a guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ocl_edge.method.fleet_heads import FleetHeads, try_head
from ocl_edge.method.guard import Guard, GuardLimits, compare_heads, violation_of
from ocl_edge.method.head import Head
from ocl_edge.method.head_input import moved
from ocl_edge.method.norms import why_refused
from ocl_edge.method.opening import paced
from ocl_edge.method.pixel_grid import PixelGrid
from ocl_edge.method.step import Loss
from ocl_edge.method.verdict import Verdict
from ocl_edge.method.weights import AdaptedWeights
from ocl_edge.network.form_tensors import features_among
from ocl_edge.tensors import Tensor, torch, without_gradients
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.session.segmenter import Seen

HALF_OPEN = 0.5
"""A head begins as the fleet's from here on: nearer to home the trained one is the better beginning."""

State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors, and facts that fit into JSON."""


@dataclass(frozen=True)
class Lesson:
    """What an update needs of its frame.

    Attributes:
        views: that it runs through a backbone, float32 [N, 3, h, w].
        features: of the frame.
        logits: of the frame, with gradients; None where they are computed anew.
        anchor: inputs of the measured form that the frame was seen with; none where there are no norms.
        opening: that the frame was seen at.
        arrived_at: when it was there, seconds of stream time.
        way_home: what was added to the features; None where nothing was.
    """

    views: Tensor
    features: list[Tensor]
    logits: Tensor | None
    anchor: Mapping[str, Tensor]
    opening: float
    arrived_at: float
    way_home: Tensor | None = None


class Learner(Protocol):
    """Weights and how they learn. One update at a time."""

    weights: AdaptedWeights
    watch: Stopwatch
    pace: Pace

    def may_learn(self) -> bool:
        """False while the guard lets no update begin. Ask once for each update that is due."""

    def prepare(self, seen: Seen) -> Lesson:
        """What the update needs of a frame, before the backend overwrites its outputs."""

    def learn(self, lesson: Lesson, trusted: bool = False) -> Verdict:
        """One update; the watch runs. ``trusted`` takes any statistics: for warming up."""

    def go_home(self, at_once: bool) -> None:
        """Back to the trained weights, half of the way or ``at_once``; the momentum is forgotten."""

    def export_state(self) -> State:
        """A copy of all that was learned."""

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what `export_state` gave."""


class Pace:
    """The rates of each update: by the opening, and by the stream time since the update before.

    Args:
        weights: that learn; what they are set to holds for one update a second.
        timed: by stream time; else each update counts the same.

    Attributes:
        settings: for one update a second.
        learned_at: when the last frame was there that was learned from, seconds of stream time.
        away: whether the weights may be others than the trained ones.
    """

    def __init__(self, weights: AdaptedWeights, timed: bool) -> None:
        self.learned_at: float | None = None
        self.away = True
        self._weights = weights
        self.settings = weights.settings
        self._timed = timed

    def begin(self, lesson: Lesson) -> None:
        """Set the rates of an update."""
        since = lesson.arrived_at - self.learned_at if self._timed and self.learned_at is not None else 1.0
        self._weights.follow(paced(self.settings, lesson.opening, since))
        self.learned_at, self.away = lesson.arrived_at, True

    def go_home(self, at_once: bool) -> bool:
        """See `Learner.go_home`; False where the weights are the trained ones already."""
        if not self.away:
            return False
        self.away = not at_once
        if at_once:
            self._weights.reset()
        else:
            self._weights.go_halfway_home()
        return True

    def export_state(self) -> dict[str, Any]:
        return {"learned_at": self.learned_at}

    def import_state(self, facts: dict[str, Any]) -> None:
        self.learned_at, self.away = facts.get("learned_at"), True


class PairLearner:
    """As published: a step on the view pair that the mask was made from.

    Args:
        weights: that learn.
        step: one update of them.
        watch: receives the laps.
        timed: see `Pace`.
    """

    def __init__(
        self, weights: AdaptedWeights, step: Callable[[Lesson], Verdict], watch: Stopwatch, timed: bool
    ) -> None:
        self.weights = weights
        self.watch = watch
        self.pace = Pace(weights, timed)
        self._step = step

    def may_learn(self) -> bool:
        return True

    def prepare(self, seen: Seen) -> Lesson:
        return Lesson(seen.views, seen.features, seen.logits, seen.anchor, seen.opening, seen.arrived_at)

    def learn(self, lesson: Lesson, trusted: bool = False) -> Verdict:  # noqa: ARG002
        self.pace.begin(lesson)
        return self._step(lesson)

    def go_home(self, at_once: bool) -> None:
        self.pace.go_home(at_once)

    def export_state(self) -> State:
        return self.weights.export_state(), self.pace.export_state()

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.weights.import_state(tensors)
        self.pace.import_state(facts)


@dataclass(frozen=True)
class UpdateRules:
    """What an update of the head obeys.

    Attributes:
        loss: of the method.
        grid: the pixels that count.
        trained: statistics, float32 [2, S].
        limit_at: largest distance of a frame's statistics from the trained ones, by the opening.
        guarded: judge every update.
        limits: of the guard.
        timed: see `Pace`.
        head_inputs: which of the backbone's features the head reads; None: all of them.
        fleet: heads that a fleet has learned; None where the bundle is no fleet's.
    """

    loss: Loss | None
    grid: PixelGrid
    trained: Tensor
    limit_at: Callable[[float], float]
    guarded: bool
    limits: GuardLimits
    timed: bool
    head_inputs: tuple[int, ...] | None = None
    fleet: FleetHeads | None = None


class HeadLearner:
    """Realtime: the flipped view through the backbone, a step of the head, and the guard's judgement.

    Args:
        head: that learns.
        backend: of the flipped view.
        rules: see `UpdateRules`.
        watch: receives the laps.

    Attributes:
        fleet: whose heads it begins with away from home; None where there are none, or the guard refused one.
    """

    def __init__(self, head: Head, backend: Backend, rules: UpdateRules, watch: Stopwatch) -> None:
        self.weights: AdaptedWeights = head
        self.head = head
        self.guard = Guard(head, rules.limits)
        self.pace = Pace(head, rules.timed)
        self.watch = watch
        self.backend = backend
        self.fleet = rules.fleet
        self._rules = rules

    def may_learn(self) -> bool:
        return self.guard.may_update()

    def prepare(self, seen: Seen) -> Lesson:
        features = [f.clone() for f in self._rules.grid.sample(seen.features)]
        about = seen.opening, seen.arrived_at, seen.way_home
        return Lesson(seen.views.flip(3), features, None, seen.anchor, *about)

    def learn(self, lesson: Lesson, trusted: bool = False) -> Verdict:
        rules = self._rules
        assert rules.loss is not None
        # normalised with its own statistics: with those of the view the two differ in more than what
        # they see, and the head learns that (docs/choices.md)
        outputs = self.backend.infer("measured", {"image": lesson.views, **lesson.anchor})
        refusal = self._refusal(outputs, lesson.opening)
        features = features_among(outputs, rules.head_inputs)
        flipped = moved(rules.grid.sample(features, flip=True), lesson.way_home)
        self.watch.lap("flipped view")
        if refusal is not None and not trusted:
            return refusal
        if self.fleet is not None and lesson.opening >= HALF_OPEN:
            self._begin_as_the_fleet(self.fleet, lesson, outputs.get("statistics"))
        pair = [torch.cat((a, b)) for a, b in zip(lesson.features, flipped, strict=True)]
        self.pace.begin(lesson)
        update = self.head.adapt(pair, rules.loss, self.watch)
        if not rules.guarded:
            return update
        verdict = self._judged(update, lesson.features)
        self.watch.lap("guard")
        return verdict

    @without_gradients
    def _begin_as_the_fleet(self, fleet: FleetHeads, lesson: Lesson, statistics: Tensor | None) -> None:
        """Where the head is as trained: the fleet's for such frames, unless the guard finds it wrong here."""
        if self.head.distance_from_trained() > 0:
            return
        signals = try_head(self.head, fleet.nearest(statistics), lesson.features)
        if violation_of(signals, self._rules.limits) is not None:
            self.head.reset()
            self.fleet = None
        self.guard.begin()

    def _refusal(self, outputs: Mapping[str, Tensor], opening: float) -> Verdict | None:
        if "statistics" not in outputs:
            return None
        rules = self._rules
        return why_refused(outputs["statistics"].cpu(), rules.trained, rules.limit_at(opening))

    def go_home(self, at_once: bool) -> None:
        if self.pace.go_home(at_once):
            self.guard.forget()

    @without_gradients
    def _judged(self, update: Verdict, features: list[Tensor]) -> Verdict:
        if not update.applied:
            return self.guard.reject(update)
        adapted = self.head.logits(features)
        frozen = self.head.trained_logits(features)
        return self.guard.judge(update, compare_heads(adapted, frozen, self.head.distance_from_trained()))

    def export_state(self) -> State:
        guard_tensors, guard_facts = self.guard.export_state()
        tensors = self.head.export_state() | {f"guard.{n}": t for n, t in guard_tensors.items()}
        return tensors, {"guard": guard_facts, **self.pace.export_state()}

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.head.import_state(tensors)
        guard = {n.removeprefix("guard."): t for n, t in tensors.items() if n.startswith("guard.")}
        self.guard.import_state(guard, facts["guard"])
        self.pace.import_state(facts)
