"""Who decides what time decides: the clock, or a tape that an earlier run left."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from ocl_edge.errors import StateError, UsageError
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.frames import Decided
from ocl_edge_runtime.session.norm_policy import NormPolicy
from ocl_edge_runtime.session.update_policy import UpdatePolicy
from ocl_edge_runtime.session.updates import InFlight, Updates

STRAYED = "the replay has gone another way than the recorded run: other frames, libraries or processor?"


class Decisions(Protocol):
    """Asked about every frame, in this order."""

    def arrival(self, arrived_at: float | None) -> float:
        """When the frame was there, seconds of the clock; None: now."""

    def takes_in(self) -> bool:
        """Whether a background update is taken in before the frame."""

    def measures(self, index: int, arrived_at: float, rests: bool) -> bool:
        """Whether its statistics are measured; see `NormPolicy.is_due`."""

    def looks_twice(self, arrived_at: float) -> bool:
        """Whether it may be looked at again; see `NormPolicy.has_time_for_two`."""

    def refusal(self, index: int, arrived_at: float) -> Verdict | None:
        """Why no update on it may start; None: it may."""


class ByTheClock:
    """What is due happens when there is time for it."""

    def __init__(self, clock: Clock, norms: NormPolicy, policy: UpdatePolicy, updates: InFlight) -> None:
        self._clock = clock
        self._norms = norms
        self._policy = policy
        self._updates = updates

    def arrival(self, arrived_at: float | None) -> float:
        return self._clock.now() if arrived_at is None else arrived_at

    def takes_in(self) -> bool:
        return self._updates.landed

    def measures(self, index: int, arrived_at: float, rests: bool) -> bool:
        return self._norms.is_due(index, arrived_at, rests)

    def looks_twice(self, arrived_at: float) -> bool:
        return self._norms.has_time_for_two(arrived_at)

    def refusal(self, index: int, arrived_at: float) -> Verdict | None:
        return self._policy.refusal(index, arrived_at, self._updates.busy)


class OnceAFrame:
    """What another decides, asked once a frame: the updates of its outputs start and land together."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self._answer: tuple[Verdict | None] | None = None
        self._takes_in: bool | None = None

    def arrival(self, arrived_at: float | None) -> float:
        self._answer = self._takes_in = None
        return self._decisions.arrival(arrived_at)

    def takes_in(self) -> bool:
        if self._takes_in is None:
            self._takes_in = self._decisions.takes_in()
        return self._takes_in

    def measures(self, index: int, arrived_at: float, rests: bool) -> bool:
        return self._decisions.measures(index, arrived_at, rests)

    def looks_twice(self, arrived_at: float) -> bool:
        return self._decisions.looks_twice(arrived_at)

    def refusal(self, index: int, arrived_at: float) -> Verdict | None:
        if self._answer is None:
            self._answer = (self._decisions.refusal(index, arrived_at),)
        return self._answer[0]


class FromTape:
    """Everything happens again as an earlier run wrote it down.

    Args:
        frames: what was decided about each, in order.
        updates: that the decisions are about.
    """

    def __init__(self, frames: Iterable[Decided], updates: Updates) -> None:
        self._left = deque(frames)
        self._now: Decided | None = None
        self._updates = updates

    @property
    def frames_left(self) -> int:
        """Frames that are still to come."""
        return len(self._left)

    def arrival(self, arrived_at: float | None) -> float:  # noqa: ARG002
        if not self._left:
            raise UsageError("the schedule has no more frames")
        self._now = self._left.popleft()
        return self._now.arrived_at

    def takes_in(self) -> bool:
        assert self._now is not None
        if self._now.taken_in and not self._updates.busy:
            raise StateError(STRAYED)
        return self._now.taken_in

    def measures(self, index: int, arrived_at: float, rests: bool) -> bool:  # noqa: ARG002
        assert self._now is not None
        return self._now.measured

    def looks_twice(self, arrived_at: float) -> bool:  # noqa: ARG002
        assert self._now is not None
        return self._now.twice

    def refusal(self, index: int, arrived_at: float) -> Verdict | None:  # noqa: ARG002
        assert self._now is not None
        if not self._now.granted:
            return Verdict(Reason.NOT_ON_TAPE)
        if self._updates.busy:
            raise StateError(STRAYED)
        return None
