"""What a session has learned, gathered from its parts: all that the next frame depends on."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ocl_edge.errors import StateError
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.learners import State
from ocl_edge_runtime.session.norm_vectors import NormPolicy
from ocl_edge_runtime.session.screening import Screening
from ocl_edge_runtime.session.setup import Setup
from ocl_edge_runtime.session.update_policy import UpdatePolicy
from ocl_edge_runtime.session.updates import Updates

SOMETIMES = ("average", "last_adapted", "guard.snapshot.")
"""Tensors that a state may have or not."""


class Learned:
    """The state of the parts of a session.

    Args:
        setup: what the state is bound to.
        updates: weights and guard.
        norms: statistics.
        screening: the last frame; None where every frame is learned from.
        policy: its counter.
        clock: of the frames' arrival.
    """

    def __init__(
        self,
        setup: Setup,
        updates: Updates,
        norms: NormPolicy,
        screening: Screening | None,
        policy: UpdatePolicy,
        clock: Clock,
    ) -> None:
        self._setup = setup
        self._updates = updates
        self._norms = norms
        self._screening = screening
        self._policy = policy
        self._clock = clock

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
            "saved_at": self._clock.now(),
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
        wrong = self._missing_or_misshapen(tensors, facts)
        if wrong:
            raise StateError(f"the saved state lacks, or has in another shape: {', '.join(wrong)}")
        self._updates.import_state(tensors, facts)
        self._norms.import_state(tensors, facts, self._clock.now())
        if self._screening:
            self._screening.import_state(tensors)
        self._policy.skipped = facts["skipped"]
        index: int = facts["index"]
        return index

    def _missing_or_misshapen(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> list[str]:
        """What keeps a state from being taken over, by name."""
        ours, our_facts = self.export_state(0)
        guard = our_facts.get("guard", {})
        missing = sorted(our_facts.keys() - facts.keys()) or [
            f"guard.{n}" for n in guard if n not in facts["guard"]
        ]
        if missing:
            return missing
        needed = {n: t for n, t in ours.items() if not n.startswith(SOMETIMES)}
        weights = {n.removeprefix("weight."): t for n, t in ours.items() if n.startswith("weight.")}
        for index in range(facts["guard"]["snapshots"] if guard else 0):
            needed |= {f"guard.snapshot.{index}.{n}": t for n, t in weights.items()}
        if "average" in tensors or facts.get("measured_at") is not None:
            needed["average"] = ours["mixed"]
        return [n for n, t in needed.items() if n not in tensors or tensors[n].shape != t.shape]
