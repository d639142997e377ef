"""Several outputs of one network: its backbone runs once a frame, each head learns for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge.masks import Mask
from ocl_edge.method.methods import find_method
from ocl_edge.method.verdict import Verdict
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.backends.shared import SameInputsOnce
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.decisions import OnceAFrame
from ocl_edge_runtime.session.following import FollowingSession
from ocl_edge_runtime.session.frames import FrameResult
from ocl_edge_runtime.session.named_sessions import NamedSessions
from ocl_edge_runtime.session.opening import forms_soon, open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.segmenter import Seen, Segmenter
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.shared_head import Shared
from ocl_edge_runtime.session.warming import patches


class Outputs(NamedSessions):
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

    def adapt(self) -> dict[str, Verdict]:
        """Update each head on the frame of the last `predict`; see `Session.adapt`."""
        due = {name: session.due() for name, session in self.items()}
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
        verdicts = self.adapt()
        return {name: session.result(masks[name], verdicts[name]) for name, session in self.items()}

    def warm_up(self) -> None:
        """See `Session.warm_up`; one update of all heads together is a history, too."""
        kept = {name: (session.export_state(), session.learned.moments) for name, session in self.items()}
        for session in self.values():
            session.warm_up()
        learning = {name: each for name, each in self.items() if each.setup.trains}
        if self.lead.setup.realtime is not None and learning:
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
        seen = {name: segmenter.segment(look) for name, segmenter in segmenters.items()}
        started = self.lead.clock.now()
        self._learn(seen, trusted=True)
        self.lead.policy.took(self.lead.clock.now() - started)

    def _learn(self, due: Mapping[str, Seen], trusted: bool = False) -> dict[str, Verdict]:
        """An update of each; the flipped view is made, and goes through the backbone, once."""
        # all lessons first: the backbone's run of the flipped view overwrites the features of the frame
        lessons = {name: self[name].updates.learner.prepare(seen) for name, seen in due.items()}
        return {
            name: self[name].updates.learner.learn(
                replace(lesson, views=next(iter(lessons.values())).views), trusted
            )
            for name, lesson in lessons.items()
        }


def open_outputs(
    bundles: Mapping[str, Bundle],
    options: SessionOptions | None = None,
    realtime: RealtimeOptions | None = None,
    clock: Clock | None = None,
) -> Outputs:
    """Sessions for all outputs of a bundle, over one backbone that runs once a frame.

    Args:
        bundles: from `Bundle.open_outputs`; the first one's session sees the frames.
        options: as for `open_session`, for all outputs.
        realtime: likewise.
        clock: of the frames' arrival.

    Raises:
        UsageError: what only one output can have; see `open_session`.
        BundleError: a file of the bundle cannot be loaded.
        BackendError: the backend cannot run here.
    """
    options = options or SessionOptions()
    _check(bundles, options, realtime)
    first = next(iter(bundles.values()))
    with ExitStack() as opened:
        engine = open_backend(
            first, options.backend, options.threads, options.precision, soon=forms_soon(options, realtime)
        )
        opened.callback(engine.backend.close)
        flipped = SameInputsOnce(engine.backend)
        sessions: dict[str, Session] = {}
        lead: Session | None = None
        for name, bundle in bundles.items():
            shared = Shared(engine, lead=lead, flipped=flipped)
            sessions[name] = opened.enter_context(
                open_session(bundle, options, realtime, clock, None, shared)
            )
            if lead is None:
                lead = sessions[name]
                lead.decisions = OnceAFrame(lead.decisions)
        return Outputs(sessions, opened.pop_all())


def _check(bundles: Mapping[str, Bundle], options: SessionOptions, realtime: RealtimeOptions | None) -> None:
    """Refuse what belongs to one session alone.

    Raises:
        UsageError: with the way to have it for one output.
    """
    method = find_method(options.method)
    refused = {
        "--head engine": options.head == "engine",
        "--update background": realtime is not None and realtime.update == "background",
        f"--method {method.name}, which trains the backbone,": method.needs_pytorch_backbone
        or method.published is not None,
    }
    for what, asked in refused.items():
        if asked:
            named = " or ".join(f"{bundle.path}#{name}" for name, bundle in bundles.items())
            raise UsageError(f"{what} goes with one output: {named}")
