"""What sessions share: of several cameras a backend, and perhaps a head; of several outputs the frames."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from ocl_edge.method.head import Head
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.backends import Choice
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.session.learners import HeadLearner, UpdateRules
from ocl_edge_runtime.session.openness import Openness
from ocl_edge_runtime.session.session import Session


class SharedHead:
    """Head, guard and pace of a session, or of several on one thread, which share what the first brings.

    What was learned goes home where all cameras are there: what one learns away is not another's to undo.
    """

    def __init__(self) -> None:
        self._first: HeadLearner | None = None
        self._opennesses: list[Openness] = []

    def take(self, make: Callable[[], Head]) -> Head:
        """The head that is there, or the first one."""
        return make() if self._first is None else self._first.head

    def learner(
        self, head: Head, backend: Backend, rules: UpdateRules, watch: Stopwatch, openness: Openness
    ) -> HeadLearner:
        """Of one session; see `HeadLearner`."""
        learner = _LearnerOfSeveral(head, backend, rules, watch, self._opennesses)
        self._opennesses.append(openness)
        if self._first is None:
            self._first = learner
        else:
            learner.guard, learner.pace = self._first.guard, self._first.pace
        return learner


class _LearnerOfSeveral(HeadLearner):
    def __init__(
        self,
        head: Head,
        backend: Backend,
        rules: UpdateRules,
        watch: Stopwatch,
        opennesses: list[Openness],
    ) -> None:
        super().__init__(head, backend, rules, watch)
        self._opennesses = opennesses

    def go_home(self, at_once: bool) -> None:
        if all(openness.at_home for openness in self._opennesses):
            super().go_home(at_once and all(openness.value == 0 for openness in self._opennesses))


@dataclass(frozen=True)
class Worker:
    """Where updates run in the background.

    Attributes:
        backend: of the worker's, whose update stream orders what the threads hand to each other.
        executor: one thread.
    """

    backend: Backend
    executor: Executor


@dataclass(frozen=True)
class Shared:
    """What a session does not open for itself.

    Attributes:
        engine: an open backend, which the session only uses; None: it opens one, and closes it.
        head: that learns, perhaps from other sessions, too; inline updates only.
        lead: that sees the frames, of which this session gives another output; None: it sees its own.
        flipped: runs the flipped views of updates; None: the engine does.
        worker: of updates in the background; None: it has one of its own.
    """

    engine: Choice | None = None
    head: SharedHead = field(default_factory=SharedHead)
    lead: Session | None = None
    flipped: Backend | None = None
    worker: Worker | None = None
