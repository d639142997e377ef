"""A session of a method as its paper has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle, load_tail
from ocl_edge.method.methods import find_method
from ocl_edge.method.published.published import Published
from ocl_edge.method.verdict import Verdict
from ocl_edge.network.preprocess import Preprocessor, mask_of_frame
from ocl_edge.network.tail import Tail
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.learners import Lesson, PairLearner
from ocl_edge_runtime.session.norm_policy import NormPolicy, TrainedNorms
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.session.segmenter import Seen
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.setup import Setup
from ocl_edge_runtime.session.update_policy import EveryFrame
from ocl_edge_runtime.session.updates import InlineUpdates
from ocl_edge_runtime.session.whole_network import WholeNetwork

ALWAYS = 1.0
"""Their papers know no home: they are wide open."""


class SegmentsAsPublished:
    """Frame -> mask, by a published method. See `ocl_edge_runtime.session.segmenter.Segmenter`."""

    def __init__(
        self,
        preprocessor: Preprocessor,
        method: Published,
        tail: Tail,
        watch: Stopwatch,
        mask_size: tuple[int, int] | None,
    ) -> None:
        self.norms: NormPolicy = TrainedNorms()
        self.watch = watch
        self._preprocessor = preprocessor
        self._method = method
        self._tail = tail
        self._mask_size = mask_size

    def see(
        self,
        image: NDArray[np.uint8],
        measured: bool = True,  # noqa: ARG002
        arrived_at: float = 0.0,
        twice: bool = False,  # noqa: ARG002
    ) -> Seen:
        """Segment a frame."""
        view = self._preprocessor.single(image)
        self.watch.lap("preprocess")
        logits = self._method.logits(view)
        self.watch.lap("backbone")  # head and all
        frame = (image.shape[0], image.shape[1])
        size = self._mask_size or frame
        mask = mask_of_frame(lambda *to: self._tail.mask(logits, *to), self._preprocessor.spec, frame, size)
        self.watch.lap("tail")
        return Seen(mask, view, [], logits, {}, ALWAYS, None, arrived_at)


def open_as_published(bundle: Bundle, options: SessionOptions, clock: Clock) -> Session:
    """A session of a method of `ocl_edge.method.published`.

    Raises:
        UsageError: the network is none that the method can work on.
    """
    kind = find_method(options.method).published
    assert kind is not None
    setup = Setup(bundle, options, None, kind.views, "torch", {}, "")
    watch = Stopwatch()
    method = kind(WholeNetwork(bundle, options.method), setup.settings, options.seed)

    def step(_lesson: Lesson) -> Verdict:
        verdict = method.learn()
        watch.lap("step")
        return verdict

    learner = PairLearner(method, step, watch, timed=False)
    segmenter = SegmentsAsPublished(
        Preprocessor(bundle.manifest.input), method, load_tail(bundle), watch, setup.mask_size
    )
    return Session(setup, segmenter, InlineUpdates(learner), EveryFrame(), None, clock)
