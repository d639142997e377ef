"""What a session has learned, gathered from its parts: all that the next frame depends on."""

from __future__ import annotations

from itertools import islice
from typing import Any

from ocl_edge.errors import StateError
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.session.learners import State
from ocl_edge_runtime.session.norm_policy import NormPolicy
from ocl_edge_runtime.session.openness import moved
from ocl_edge_runtime.session.saved_state import problems_of
from ocl_edge_runtime.session.screening import Screening
from ocl_edge_runtime.session.setup import Setup
from ocl_edge_runtime.session.stream_time import StreamTime
from ocl_edge_runtime.session.update_policy import UpdatePolicy
from ocl_edge_runtime.session.updates import Updates

NAMED_AT_MOST = 5


class Learned:
    """The state of the parts of a session.

    Args:
        setup: what the state is bound to.
        updates: weights and guard.
        norms: statistics.
        screening: the last frame; None where every frame is learned from.
        policy: its counter.
        stream: when the frames were there.
    """

    def __init__(
        self,
        setup: Setup,
        updates: Updates,
        norms: NormPolicy,
        screening: Screening | None,
        policy: UpdatePolicy,
        stream: StreamTime,
    ) -> None:
        self._setup = setup
        self._updates = updates
        self._norms = norms
        self._screening = screening
        self._policy = policy
        self._stream = stream

    def export_state(self, index: int) -> State:
        """Tensors, and facts that fit into JSON. An update in flight does not count.

        Args:
            index: of the last frame.
        """
        tensors, facts = self._updates.export_state()
        norm_tensors, norm_facts = self._norms.export_state()
        seen = self._screening.export_state() if self._screening else {}
        return {**tensors, **norm_tensors, **seen}, {
            **self._setup.belongs_to(),
            "settings": self._setup.settings.model_dump(mode="json"),
            "index": index,
            "saved_at": self._now_s(index),
            "skipped": self._policy.skipped,
            **norm_facts,
            **facts,
        }

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> int:
        """Take over what `export_state` gave; nothing is changed if it does not belong here.

        Returns:
            Index of the last frame.

        Raises:
            StateError: of another bundle or method, or incomplete.
        """
        for name, ours in self._setup.belongs_to().items():
            if facts.get(name) != ours:
                raise StateError(f"the saved state is of {name} {facts.get(name)}, this run has {ours}")
        wrong = list(islice(problems_of(tensors, facts, *self.export_state(0)), NAMED_AT_MOST))
        if wrong:
            raise StateError(f"the saved state does not fit this session: {'; '.join(wrong)}")
        now_s, saved_at = self._now_s(facts["index"]), facts["saved_at"]
        self._updates.import_state(
            tensors, {**facts, "learned_at": moved(facts.get("learned_at"), saved_at, now_s)}
        )
        self._norms.import_state(tensors, facts, now_s)
        if self._screening:
            self._screening.import_state(tensors)
        self._policy.skipped = facts["skipped"]
        index: int = facts["index"]
        return index

    @property
    def moments(self) -> dict[str, float | None]:
        """Every moment that the state holds, seconds of stream time."""
        openness = self._norms.openness
        return {
            "measured_at": self._norms.measured_at,
            "followed_at": openness.followed_at if openness else None,
            "looked_across_at": openness.across.looked_at if openness else None,
            "learned_at": self._updates.learner.pace.learned_at,
        }

    @moments.setter
    def moments(self, moments: dict[str, float | None]) -> None:
        self._norms.measured_at = moments["measured_at"]
        if self._norms.openness:
            self._norms.openness.followed_at = moments["followed_at"]
            self._norms.openness.across.looked_at = moments["looked_across_at"]
        self._updates.learner.pace.learned_at = moments["learned_at"]

    def _now_s(self, index: int) -> float:
        return self._stream.now(index)
