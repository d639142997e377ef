"""Several outputs of one network: its backbone runs once a frame, each head learns for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ocl_edge.masks import Mask
from ocl_edge.method.verdict import Verdict
from ocl_edge_runtime.session.following import FollowingSession
from ocl_edge_runtime.session.frames import FrameResult
from ocl_edge_runtime.session.learners import Lesson
from ocl_edge_runtime.session.named_sessions import NamedSessions
from ocl_edge_runtime.session.segmenter import Seen, Segmenter
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.warming import patches


class Outputs(NamedSessions[Session]):
    """Sessions by the name of their output. `open_outputs` makes them; used from one thread at a time.

    Norm statistics, opening and the decision whether there is time to learn are those of the first one, which
    sees the frames; head, guard and state are each one's own. Call `step`, or `predict` and `adapt`, here and
    not on the sessions.

    Args:
        sessions: by name; the first one leads.
        resources: closed with them.
    """

    def __init__(self, sessions: Mapping[str, Session], resources: ExitStack) -> None:
        super().__init__(sessions, resources)
        self.lead, *others = self.values()
        self._following = [each for each in others if isinstance(each, FollowingSession)]

    def predict(
        self, image: NDArray[np.uint8], arrived_at: float | None = None, recorded_s: float | None = None
    ) -> dict[str, Mask]:
        """The mask of each output, before any update; see `Session.predict`.

        Raises:
            FrameError: the image is of another dtype or shape; the sessions are as they were.
        """
        first = self.lead.predict(image, arrived_at, recorded_s)
        return dict(
            zip(self, [first, *(session.mask_of_the_frame() for session in self._following)], strict=True)
        )

    def adapt(self, others_wait: bool = False) -> dict[str, Verdict]:
        """Update each head on the frame of the last `predict`; see `Session.adapt`."""
        due = {name: session.due(others_wait) for name, session in self.items()}
        started = self.lead.clock.now()
        self.lead.watch.resume()
        learned = self._learn({name: each for name, each in due.items() if isinstance(each, Seen)})
        if learned:
            self.lead.policy.took(self.lead.clock.now() - started)
        return {name: each if isinstance(each, Verdict) else learned[name] for name, each in due.items()}

    def step(
        self,
        image: NDArray[np.uint8],
        arrived_at: float | None = None,
        emit: Callable[[dict[str, Mask]], None] | None = None,
        recorded_s: float | None = None,
    ) -> dict[str, FrameResult]:
        """Predict, emit, adapt: one frame's way; ``emit`` is given all masks before any update."""
        masks = self.predict(image, arrived_at, recorded_s)
        if emit is not None:
            emit(masks)
            self.lead.watch.lap("emit")
        return self.result(masks, self.adapt())

    def result(self, masks: Mapping[str, Mask], verdicts: Mapping[str, Verdict]) -> dict[str, FrameResult]:
        """See `Session.result`."""
        return {name: session.result(masks[name], verdicts[name]) for name, session in self.items()}

    def warm_up(self) -> None:
        """See `Session.warm_up`; one update of all heads together is a history, too."""
        kept = {name: (session.export_state(), session.learned.moments) for name, session in self.items()}
        for session in self.values():
            session.warm_up()
        learning = {name: each for name, each in self.items() if each.setup.trains}
        inline = not self.lead.setup.updates_in_background
        if self.lead.setup.realtime is not None and inline and learning:
            self._learn_once(learning)
        for name, (state, moments) in kept.items():
            self[name].import_state(*state)
            self[name].learned.moments = moments

    def _learn_once(self, learning: Mapping[str, Session]) -> None:
        spec = self.lead.bundle.manifest.input
        segmenters = {n: e.segmenter for n, e in learning.items() if isinstance(e.segmenter, Segmenter)}
        look = next(iter(segmenters.values())).look(
            patches(spec.height, spec.width, spec.frame_channels), measured=True, arrived_at=0.0
        )
        lessons = self._lessons({name: segmenter.segment(look) for name, segmenter in segmenters.items()})
        started = self.lead.clock.now()
        for name, lesson in lessons.items():
            self[name].updates.learner.learn(lesson, trusted=True)
        self.lead.policy.took(self.lead.clock.now() - started)

    def _learn(self, due: Mapping[str, Seen]) -> dict[str, Verdict]:
        """An update of each; the flipped view goes through the backbone once."""
        lessons = self._lessons(due)
        return {name: self[name].updates.start(self.lead.index, lesson) for name, lesson in lessons.items()}

    def _lessons(self, due: Mapping[str, Seen]) -> dict[str, Lesson]:
        """All of them first: the backbone's run of the flipped view overwrites the features of the frame."""
        lessons = {name: self[name].updates.learner.prepare(seen) for name, seen in due.items()}
        return {
            name: replace(lesson, views=next(iter(lessons.values())).views)
            for name, lesson in lessons.items()
        }
