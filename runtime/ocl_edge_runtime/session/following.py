"""A session that sees no frames of its own: another output of those that a leading one sees."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from ocl_edge.masks import Mask
from ocl_edge_runtime.session.learned import Learned
from ocl_edge_runtime.session.segmenter import Segmenter
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.setup import Setup
from ocl_edge_runtime.session.updates import Updates


class FollowingSession(Session):
    """Head, tail, guard and state are its own; all else is the leading session's.

    Args:
        lead: sees the frames; its norms, policy, clock and stopwatch are those of ``segmenter``, too.
        setup: as for `Session`.
        segmenter: likewise.
        updates: likewise.
        resources: likewise.
    """

    def __init__(
        self, lead: Session, setup: Setup, segmenter: Segmenter, updates: Updates, resources: ExitStack
    ) -> None:
        super().__init__(setup, segmenter, updates, lead.policy, None, lead.clock, resources)
        self.stream, self.decisions = lead.stream, lead.decisions
        self.learned = Learned(setup, updates, lead.norms, None, lead.policy, lead.stream)
        self._lead, self._own = lead, segmenter

    def mask_of_the_frame(self) -> Mask:
        """The mask of the frame that the leading session has just seen."""
        lead = self._lead
        assert isinstance(lead.segmenter, Segmenter)
        assert lead.segmenter.looked is not None
        assert lead.seen is not None
        self.index = lead.index
        self._landed = self.updates.take_in(self.index) if self.decisions.takes_in() else None
        seen = self._own.segment(lead.segmenter.looked)
        self.seen = replace(seen, unfit=lead.seen.unfit)
        self._opened, self._decided = lead._opened, lead._decided
        return seen.mask
