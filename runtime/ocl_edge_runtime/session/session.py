"""A bundle at work on one stream: frame in, mask out, then the update."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.masks import Mask
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.method.weights import AdaptedWeights
from ocl_edge.network.preprocess import check_image
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.lifetime import ClosedAtExit
from ocl_edge_runtime.session.decisions import ByTheClock, Decisions, FromTape
from ocl_edge_runtime.session.frames import Decided, FrameResult, Landed
from ocl_edge_runtime.session.learned import Learned
from ocl_edge_runtime.session.learners import State
from ocl_edge_runtime.session.openness import Openness
from ocl_edge_runtime.session.screening import Screening
from ocl_edge_runtime.session.segmenter import Seen, Segments
from ocl_edge_runtime.session.setup import Setup
from ocl_edge_runtime.session.stream_time import StreamTime
from ocl_edge_runtime.session.update_policy import UpdatePolicy
from ocl_edge_runtime.session.updates import Updates
from ocl_edge_runtime.session.warming import run_once


class Session(ClosedAtExit):
    """A segmenter, and what learns beside it. `open_session` puts one together.

    `predict` gives the mask of a frame; `adapt`, called after the mask is out, updates on that same
    frame. `step` does both. Used from one thread at a time.

    Args:
        setup: what runs.
        segmenter: frame -> mask.
        updates: where the weights learn.
        policy: when they do.
        screening: which frames they do not learn from; None: from every one.
        clock: of the frames' arrival.
        resources: closed with the session.

    Attributes:
        index: of the last frame.
        paused: nothing is learned while it is set; the norms follow their frames.
    """

    def __init__(
        self,
        setup: Setup,
        segmenter: Segments,
        updates: Updates,
        policy: UpdatePolicy,
        screening: Screening | None,
        clock: Clock,
        resources: ExitStack | None = None,
    ) -> None:
        self.setup = setup
        self.segmenter = segmenter
        self.norms = segmenter.norms
        self.updates = updates
        self.policy = policy
        self.clock = clock
        self.index, self.paused = -1, False
        self.seen: Seen | None = None
        self._screening = screening
        self.decisions: Decisions = ByTheClock(clock, self.norms, policy, updates)
        self.stream = StreamTime(setup.frame_s, clock)
        self.learned = Learned(setup, updates, self.norms, screening, policy, self.stream)
        self._decided = Decided(0.0, False, False, False)
        self._landed: Landed | None = None
        self._opened: tuple[float, float | None, bool] = 0.0, None, False
        self._resources = resources or ExitStack()

    @property
    def bundle(self) -> Bundle:
        return self.setup.bundle

    @property
    def watch(self) -> Stopwatch:
        """Of the last frame, from preprocessing to the update on this thread."""
        return self.segmenter.watch

    @property
    def weights(self) -> AdaptedWeights:
        """What adapts, as the last update that was taken in left it."""
        return self.updates.weights

    def predict(
        self, image: NDArray[np.uint8], arrived_at: float | None = None, recorded_s: float | None = None
    ) -> Mask:
        """The mask of an image, before any update on it.

        Args:
            image: uint8 [H, W, 3], RGB; of other channels as many as the network takes.
            arrived_at: when the frame was there, in seconds of the clock; None: now.
            recorded_s: where it lies in a recording that has times of its own, seconds from the start.

        Returns:
            Class indices, sized as `SessionOptions.mask_size` says; the caller owns them.

        Raises:
            FrameError: the image is of another dtype or shape; the session is as it was.
        """
        check_image(image, self.setup.bundle.manifest.input.channels)
        arrived_at = self.decisions.arrival(arrived_at)
        self.watch.start()
        self.index += 1
        self._landed = self.updates.take_in(self.index) if self.decisions.takes_in() else None
        unfit = self._screening.problem_of(image) if self._screening else None
        started = self.clock.now()
        stream_s = self.stream.of(self.index, arrived_at, recorded_s)
        rests = self.norms.rests(image, stream_s)
        measured = unfit is None and self.decisions.measures(self.index, arrived_at, rests)
        twice = unfit is None and self.decisions.looks_twice(arrived_at)
        seen = self.segmenter.see(image, measured, stream_s, twice)
        if measured and not (seen.again or seen.compared):
            self.norms.took(self.clock.now() - started)
        self.seen = replace(seen, unfit=unfit or seen.unfit)
        self._opened, taken_in = (seen.opening, seen.distance, seen.again), self._landed is not None
        self._decided = Decided(arrived_at, measured, False, taken_in, twice)
        return seen.mask

    def adapt(self, others_wait: bool = False) -> Verdict:
        """Update on the frame of the last `predict`, if one is due and there is time; then judge it.

        In the background the update only starts here; a later `predict` takes it in. No update begins where
        ``others_wait``: another camera's frame is there, whose mask comes first.
        """
        due = self.due(others_wait)
        if isinstance(due, Verdict):
            return due
        self.watch.resume()
        started = self.clock.now()
        verdict = self.updates.start(self.index, self.updates.learner.prepare(due))
        self.policy.took(self.clock.now() - started)
        return verdict

    def due(self, others_wait: bool = False) -> Seen | Verdict:
        """The frame of the last `predict`, where an update on it is to begin now; else why not."""
        seen, self.seen = self.seen, None
        if not self.setup.trains:
            return Verdict(Reason.NOTHING_TRAINS)
        if seen is None:
            return Verdict(Reason.NO_FRAME)
        if _stays_home(self.updates, self.norms.openness, seen):
            return Verdict(Reason.AT_HOME)
        if self.paused or others_wait:
            return seen.unfit or Verdict(Reason.PAUSED if self.paused else Reason.OTHERS_WAIT)
        refusal = seen.unfit or self.decisions.refusal(self.index, self._decided.arrived_at)
        if refusal is not None:
            return refusal
        self._decided = replace(self._decided, granted=True)
        if not self.updates.learner.may_learn():
            return Verdict(Reason.FROZEN_BY_GUARD)
        return seen

    def step(
        self,
        image: NDArray[np.uint8],
        arrived_at: float | None = None,
        emit: Callable[[Mask], None] | None = None,
        recorded_s: float | None = None,
    ) -> FrameResult:
        """Predict, emit, adapt: one frame's way.

        Args:
            image: as for `predict`.
            arrived_at: likewise.
            emit: given the mask, before the update.
            recorded_s: as for `predict`.
        """
        mask = self.predict(image, arrived_at, recorded_s)
        if emit is not None:
            emit(mask)
            self.watch.lap("emit")
        return self.result(mask, self.adapt())

    def result(self, mask: Mask, verdict: Verdict) -> FrameResult:
        """What the last frame gave, where `predict` and `adapt` were called one by one."""
        timings = self.watch.timings_ms()
        return FrameResult(mask, verdict, timings, False, self._landed, self._decided, *self._opened)

    def settle(self) -> Landed | None:
        """Wait for an update in flight and take it in, or raise what it failed with; None: there was none."""
        return self.updates.take_in(self.index + 1)

    def warm_up(self) -> None:
        """Run everything once: the first frame is fast, and updates have a history.

        Nothing that was learned changes.
        """
        state, moments = self.export_state(), self.learned.moments
        run_once(self.setup, self.segmenter, self.updates, self.policy, self.clock)
        self.import_state(*state)
        self.learned.moments = moments  # same process, same clock

    def follow(self, frames: Iterable[Decided]) -> FromTape:
        """From the next frame on, take every decision of time from a tape instead of the clock."""
        self.updates.stay_on_this_thread()
        self.decisions = tape = FromTape(frames, self.updates)
        return tape

    def facts(self) -> dict[str, Any]:
        """What ran, for reports: everything that the results depend on."""
        digest, distance = self.weights.weights_sha256(), self.weights.distance_from_trained()
        return {**self.setup.facts(), "weights_sha256": digest, "weights_distance": distance}

    def export_state(self) -> State:
        """Everything that the next frame depends on: tensors, and facts that fit into JSON.

        An update in flight does not count: a run that resumes from here never began it.
        """
        return self.learned.export_state(self.index)

    def import_state(self, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
        """Take over what `export_state` gave; nothing is changed if it does not belong here.

        Raises:
            StateError: of another bundle or method, or incomplete.
        """
        self.index = self.learned.import_state(tensors, facts)

    def close(self) -> None:
        """Free the backends and end the worker, or raise what it failed with. Calling it twice is fine."""
        self._resources.close()


def _stays_home(updates: Updates, openness: Openness | None, seen: Seen) -> bool:
    """Whether nothing is learned from a frame; what was learned goes where the stream is at home."""
    if openness is not None and openness.at_home:
        updates.go_home(at_once=openness.value == 0)
        return True
    return seen.opening == 0  # away since this frame: only the next one is seen there
