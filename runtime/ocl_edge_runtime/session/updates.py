"""Where updates run: on the frame loop's thread, or on a worker's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol

from ocl_edge.method.head import Head
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.method.weights import AdaptedWeights
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.backends.update_stream import UpdateStream
from ocl_edge_runtime.session.frames import Landed
from ocl_edge_runtime.session.learners import Learner, Lesson, State
from ocl_edge_runtime.session.segmenter import Seen

WORKER_NICENESS = 10
"""Of the worker's thread, where the system has that for threads: the mask goes first."""


class InFlight(Protocol):
    """Whether updates are going on."""

    @property
    def busy(self) -> bool:
        """Whether an update is in flight, or has landed and was not taken in yet."""

    @property
    def landed(self) -> bool:
        """Whether an update can be taken in without waiting."""


class Updates(InFlight, Protocol):
    """Where a learner works. The frame loop calls everything here."""

    learner: Learner
    weights: AdaptedWeights
    """As the updates that were taken in have left them."""

    def start(self, frame: int, lesson: Lesson) -> Verdict:
        """Begin an update on a frame; none may be in flight. What became of it so far.

        Args:
            frame: its index.
            lesson: what the learner has prepared of it.
        """

    def take_in(self, frame: int) -> Landed | None:
        """Wait for the update in flight; None where there is none. Its errors are raised here.

        Args:
            frame: before which it is taken in.
        """

    def go_home(self, at_once: bool) -> None:
        """See `Learner.go_home`; an update in flight comes too late to be learned from."""

    def try_out(self, seen: Seen) -> None:
        """One update, waited for; its verdict and what the statistics say do not count."""

    def stay_on_this_thread(self) -> None:
        """From now on updates run on the thread that starts them: what they give cannot depend on it."""

    def export_state(self) -> State:
        """What was learned by the updates that were taken in: one in flight does not count yet."""

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what `export_state` gave; an update in flight is lost."""

    def close(self) -> None:
        """Let nothing go on.

        Raises:
            Exception: what an update that nobody took in has failed with.
        """


class InlineUpdates:
    """Updates run on the frame loop's thread, after the mask."""

    busy = False
    landed = False

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.weights = learner.weights

    def start(self, frame: int, lesson: Lesson) -> Verdict:  # noqa: ARG002
        return self.learner.learn(lesson)

    def take_in(self, frame: int) -> Landed | None:  # noqa: ARG002
        return None

    def go_home(self, at_once: bool) -> None:
        self.learner.go_home(at_once)

    def try_out(self, seen: Seen) -> None:
        self.learner.learn(self.learner.prepare(seen), trusted=True)

    def stay_on_this_thread(self) -> None:
        """They do."""

    def export_state(self) -> State:
        return self.learner.export_state()

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.learner.import_state(tensors, facts)

    def close(self) -> None:
        """Nothing goes on."""


class AllUpdates:
    """Those of several outputs, which begin and are taken in together."""

    def __init__(self, updates: Sequence[Updates]) -> None:
        self._updates = updates

    @property
    def busy(self) -> bool:
        """See `Updates`."""
        return any(each.busy for each in self._updates)

    @property
    def landed(self) -> bool:
        """See `Updates`; of those in flight every one."""
        return self.busy and all(each.landed for each in self._updates if each.busy)


class InlineExecutor(Executor):
    """Runs everything at once, on the thread that submits it."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class WorkerUpdates:
    """At most one update in flight, on a worker's thread; nobody waits for it.

    The learner, its head and its backend belong to the worker while an update is in flight, and
    to the frame loop otherwise.

    Args:
        learner: with a head and a backend of its own.
        mask_head: makes the masks; takes over what the learner's head has learned.
        update_stream: of the learner's backend; orders on a GPU what the two threads hand to each other.
        executor: a thread of its own by default.
    """

    def __init__(
        self, learner: Learner, mask_head: Head, update_stream: UpdateStream, executor: Executor | None = None
    ) -> None:
        self.learner = learner
        self.weights: AdaptedWeights = mask_head
        self._stream = update_stream
        self._executor = executor or one_worker()
        self._flight: Future[Landed] | None = None
        self._done: Any = None
        self._frame = 0
        self._before: State | None = None
        self._goes_home = False

    @property
    def busy(self) -> bool:
        return self._flight is not None

    @property
    def landed(self) -> bool:
        return self._flight is not None and self._flight.done()

    def start(self, frame: int, lesson: Lesson) -> Verdict:
        assert self._flight is None
        self._frame, self._before = frame, self.learner.export_state()
        # the point is also after the frame loop's reading of the weights that the update will change
        self._flight = self._executor.submit(self._run, lesson, self._stream.mark())
        return Verdict(Reason.IN_BACKGROUND)

    def take_in(self, frame: int) -> Landed | None:
        flight, self._flight, self._before = self._flight, None, None
        if flight is None:
            return None
        landed = flight.result()
        self._stream.wait_for(self._done)
        if self._goes_home:
            self._goes_home = False
            self.learner.go_home(at_once=True)
        self.weights.load(self.learner.weights.parameters)
        return Landed(landed.verdict, landed.timings_ms, frame - self._frame)

    def go_home(self, at_once: bool) -> None:
        if self.busy:  # the learner is the worker's: it follows when the update lands
            self._goes_home = True
            self.weights.reset()
        else:
            self.learner.go_home(at_once)
            self.weights.load(self.learner.weights.parameters)

    def try_out(self, seen: Seen) -> None:
        lesson = self.learner.prepare(seen)
        self._executor.submit(self._run, lesson, self._stream.mark(), trusted=True).result()
        self._stream.wait_for(self._done)

    def stay_on_this_thread(self) -> None:
        self.close()
        self._executor = InlineExecutor()

    def export_state(self) -> State:
        return self._before or self.learner.export_state()

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.take_in(self._frame)
        self.learner.import_state(tensors, facts)
        self.weights.load(self.learner.weights.parameters)

    def close(self) -> None:
        """See `Updates`; ends the worker's thread."""
        self._executor.shutdown()
        self.take_in(self._frame)

    def _run(self, lesson: Lesson, point: Any, trusted: bool = False) -> Landed:
        watch = self.learner.watch
        watch.start()
        with self._stream.work_after(point, [lesson.views, *lesson.features]):
            verdict = self.learner.learn(lesson, trusted)
            self._done = self._stream.mark()
        return Landed(verdict, watch.timings_ms())


def one_worker() -> Executor:
    """A thread for updates, which gives way to the masks."""
    return ThreadPoolExecutor(1, "update the head", initializer=give_way)


def give_way() -> None:
    """Lower the priority of this thread; Linux keeps one for each thread, other systems do not."""
    if sys.platform == "linux":
        os.nice(WORKER_NICENESS)
