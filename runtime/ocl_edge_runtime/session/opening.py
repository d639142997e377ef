"""Puts a session together: paper, frozen, or realtime."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial

from ocl_edge.bundle.fleet import load_fleet
from ocl_edge.bundle.reading import Bundle, load_head, load_tail
from ocl_edge.errors import BundleError, UsageError
from ocl_edge.masks import MOST_CLASSES
from ocl_edge.method.head import Head, TrainableHead
from ocl_edge.method.methods import Method, find_method, ocl
from ocl_edge.method.pixel_grid import PixelGrid
from ocl_edge.method.step import adapt_step
from ocl_edge.method.verdict import Verdict
from ocl_edge.method.weights import TrainableWeights
from ocl_edge.network.form_names import FormName
from ocl_edge.network.preprocess import Preprocessor
from ocl_edge.tensors import require_torch
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.backends import Choice, open_backend
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.clock import Clock, RealClock
from ocl_edge_runtime.session.backend_head import BackendHead
from ocl_edge_runtime.session.following import FollowingSession
from ocl_edge_runtime.session.learners import HeadLearner, Lesson, PairLearner, UpdateRules
from ocl_edge_runtime.session.norm_policy import TrainedNorms
from ocl_edge_runtime.session.opening_norms import norms_along_the_stream, norms_on_every_frame
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions, Views
from ocl_edge_runtime.session.screening import Screening
from ocl_edge_runtime.session.segmenter import Backbone, Segmenter
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.setup import Setup
from ocl_edge_runtime.session.shared_head import Shared
from ocl_edge_runtime.session.update_policy import (
    EveryFrame,
    UpdatePolicy,
    WhenThereIsTime,
    WhenTheWorkerIsFree,
)
from ocl_edge_runtime.session.updates import InlineUpdates, Updates, WorkerUpdates


def open_session(
    bundle: Bundle,
    options: SessionOptions | None = None,
    realtime: RealtimeOptions | None = None,
    clock: Clock | None = None,
    executor: Executor | None = None,
    shared: Shared | None = None,
) -> Session:
    """A session of a bundle. Close it, or use it in a ``with``.

    Args:
        bundle: to run.
        options: method, backend, rates.
        realtime: one view a frame, the mask first, a guarded update where there is time; methods ``norm``,
            ``ocl-head`` and ``tent-head``. None: an update on every frame, as published; with the method
            ``frozen`` none at all.
        clock: of the frames' arrival, by default `time.monotonic`.
        executor: runs updates in the background, by default on a thread of its own.
        shared: what other sessions use, too (`ocl_edge_runtime.session.cameras`).

    Raises:
        UsageError: options that contradict each other.
        BundleError: a file of the bundle cannot be loaded.
        BackendError: the backend cannot run here.
    """
    options, clock, shared = options or SessionOptions(), clock or RealClock(), shared or Shared()
    method = find_method(options.method)
    _check(bundle, method, options, realtime)
    with ExitStack() as opened:  # what was opened is closed where a later part cannot be
        if realtime is not None:
            return _realtime(bundle, options, realtime, clock, executor, opened, shared)
        if method.published is not None:
            from ocl_edge_runtime.session.as_published import open_as_published  # of PyTorch alone

            return open_as_published(bundle, options, clock)
        if method.needs_pytorch_backbone:
            return _training_the_backbone(bundle, options, clock, opened)
        return _on_every_frame(bundle, options, clock, opened, shared)


def _check(bundle: Bundle, method: Method, options: SessionOptions, realtime: RealtimeOptions | None) -> None:
    if options.head == "torch":
        require_torch("--head torch, the default (--head engine and an ONNX backend do without),")
    classes = len(bundle.manifest.classes)
    if classes > MOST_CLASSES:
        raise BundleError(
            f"{bundle.path} has {classes} classes; a mask has at most 16 bits, so {MOST_CLASSES} is the most "
            "that can be run"
        )
    if realtime is not None:
        if options.views == "pair":
            raise UsageError(
                "realtime mode works on a single view; leave out --views pair, or take --mode paper"
            )
        if method.trains not in ("head", "nothing") or not method.modulates_norms:
            raise UsageError(f"realtime mode runs norm, ocl-head and tent-head, not {method.name}")
    elif method.modulates_norms and options.views == "single":
        raise UsageError(f"{method.name} works on the view pair; --views single goes with frozen")
    elif method.published is not None and options.views not in (None, method.published.views):
        raise UsageError(f"{method.name} chooses its views itself; leave out --views")
    if method.needs_pytorch_backbone and (
        options.backend not in ("auto", "torch") or options.head != "torch"
    ):
        raise UsageError(f"{method.name} runs the backbone in PyTorch: --backend torch --head torch")
    if options.head == "engine" and method.loss not in (None, ocl):
        raise UsageError(f"--head engine has the OCL as its loss; {method.name} needs --head torch")


def _on_every_frame(
    bundle: Bundle, options: SessionOptions, clock: Clock, opened: ExitStack, shared: Shared
) -> Session:
    """Frozen, or as published: an update of the head on the view pair that made the mask."""
    choice = shared.engine or _open_backend(bundle, options, opened, soon=forms_soon(options, None))
    setup = _setup(bundle, options, None, choice)
    head, watch = _open_head(setup, choice.backend), _watch_of(shared)

    def step(lesson: Lesson) -> Verdict:
        assert setup.method.loss is not None
        return head.adapt(lesson.features, setup.method.loss, watch, lesson.logits)

    learner = PairLearner(head, step, watch, setup.follows_home)
    return _paper(setup, choice.backend, head, learner, clock, opened, shared)


def _watch_of(shared: Shared) -> Stopwatch:
    return Stopwatch() if shared.lead is None else shared.lead.watch


def _training_the_backbone(
    bundle: Bundle, options: SessionOptions, clock: Clock, opened: ExitStack
) -> Session:
    """As published, gradients reaching the backbone."""
    from ocl_edge_runtime.session.trainable_backbone import TrainableBackbone  # of PyTorch alone

    method = find_method(options.method)
    backbone = TrainableBackbone(bundle, method)
    setup = Setup(bundle, options, None, "pair", "torch", {}, "")
    head, watch = _torch_head(setup), Stopwatch()
    wanted = dict(backbone.parameters)
    if method.trains == "all":
        wanted |= {f"head.{name}": parameter for name, parameter in head.parameters.items()}
    weights = TrainableWeights(wanted, setup.settings, options.seed)

    def step(lesson: Lesson) -> Verdict:
        assert method.loss is not None
        assert lesson.logits is not None
        return adapt_step(weights, lesson.logits, method.loss, watch)

    learner = PairLearner(weights, step, watch, setup.follows_home)
    return _paper(setup, backbone, head, learner, clock, opened, Shared())


def _paper(
    setup: Setup,
    backbone: Backbone,
    head: Head,
    learner: PairLearner,
    clock: Clock,
    opened: ExitStack,
    shared: Shared,
) -> Session:
    lead = shared.lead
    own = lead is None and setup.method.modulates_norms
    norms = norms_on_every_frame(setup) if own else lead.norms if lead else TrainedNorms()
    segmenter = Segmenter(
        Preprocessor(setup.bundle.manifest.input),
        backbone,
        norms,
        head,
        load_tail(setup.bundle),
        learner.watch,
        pair=setup.views == "pair",
        with_gradients=setup.trains,
        mask_size=setup.mask_size,
        head_inputs=setup.bundle.manifest.read_by_head,
    )
    updates = InlineUpdates(learner)
    if lead is not None:
        return FollowingSession(lead, setup, segmenter, updates, opened.pop_all())
    return Session(setup, segmenter, updates, EveryFrame(), None, clock, opened.pop_all())


def _realtime(
    bundle: Bundle,
    options: SessionOptions,
    realtime: RealtimeOptions,
    clock: Clock,
    executor: Executor | None,
    opened: ExitStack,
    shared: Shared,
) -> Session:
    choice = shared.engine or _open_backend(bundle, options, opened, soon=forms_soon(options, realtime))
    setup, watch = _setup(bundle, options, realtime, choice), _watch_of(shared)
    head = shared.head.take(lambda: _open_head(setup, choice.backend))
    norms, openness = norms_along_the_stream(setup, realtime, clock, shared.lead)
    segmenter = Segmenter(
        Preprocessor(bundle.manifest.input),
        choice.backend,
        norms,
        head,
        load_tail(bundle),
        watch,
        mask_size=setup.mask_size,
        head_inputs=bundle.manifest.read_by_head,
    )
    pointwise = head.is_pointwise(bundle.manifest.head_features)
    rules = UpdateRules(
        setup.method.loss,
        PixelGrid(realtime.loss_stride if pointwise else 1),
        openness.trained.statistics,
        partial(openness.limit_at, realtime.statistics_limit),
        realtime.guarded,
        setup.guard_limits,
        setup.follows_home,
        bundle.manifest.read_by_head,
        load_fleet(bundle, head.trained),
    )
    updates: Updates
    policy: UpdatePolicy
    if setup.updates_in_background:
        updates = _on_a_worker(setup, head, rules, executor, opened, shared)
        policy = WhenTheWorkerIsFree(realtime.adapt_every)
    else:
        flipped = shared.flipped or choice.backend
        updates = InlineUpdates(shared.head.learner(head, flipped, rules, watch, openness))
        policy = WhenThereIsTime(realtime.adapt_every, realtime.period_s, clock)
    opened.callback(updates.close)
    if shared.lead is not None:
        return FollowingSession(shared.lead, setup, segmenter, updates, opened.pop_all())
    return Session(setup, segmenter, updates, policy, Screening(), clock, opened.pop_all())


def _on_a_worker(
    setup: Setup,
    head: Head,
    rules: UpdateRules,
    executor: Executor | None,
    opened: ExitStack,
    shared: Shared,
) -> WorkerUpdates:
    """With a backend and a head of its own: the mask would wait for the update."""
    worker = shared.worker
    if worker is None or setup.options.head == "engine":
        own = open_worker_backend(setup.bundle, setup.options, setup.backend_name, opened)
    else:
        own = worker.backend
    backend, executor = (worker.backend, worker.executor) if worker else (own, executor)
    learner = HeadLearner(_open_head(setup, own), backend, rules, Stopwatch())
    return WorkerUpdates(learner, head, backend.update_stream, executor)


def open_worker_backend(bundle: Bundle, options: SessionOptions, name: str, opened: ExitStack) -> Backend:
    """A backend for updates in the background, of the same kind as that of the masks."""
    return _open_backend(bundle, options, opened, name=name, for_updates=True).backend


def forms_soon(options: SessionOptions, realtime: RealtimeOptions | None) -> list[tuple[FormName, int]]:
    """The forms that the first frames go through, and in batches of how many views."""
    if realtime is not None:
        return [("measured", 1), ("modulated", 1)]
    form: FormName = "measured" if find_method(options.method).modulates_norms else "plain"
    return [(form, 2 if _views(options, None) == "pair" else 1)]


def _setup(
    bundle: Bundle, options: SessionOptions, realtime: RealtimeOptions | None, choice: Choice
) -> Setup:
    views = _views(options, realtime)
    return Setup(bundle, options, realtime, views, choice.backend.name, choice.passed_over, choice.because)


def _views(options: SessionOptions, realtime: RealtimeOptions | None) -> Views:
    if realtime is not None:
        return "single"
    return options.views or ("pair" if find_method(options.method).modulates_norms else "single")


def _open_backend(
    bundle: Bundle,
    options: SessionOptions,
    opened: ExitStack,
    name: str | None = None,
    for_updates: bool = False,
    soon: Sequence[tuple[FormName, int]] = (("measured", 1),),
) -> Choice:
    choice = open_backend(
        bundle,
        name or options.backend,
        options.threads,
        options.precision,
        on_device=options.head == "engine",
        for_updates=for_updates,
        soon=soon,
    )
    opened.callback(choice.backend.close)
    return choice


def _open_head(setup: Setup, backend: Backend) -> Head:
    if setup.options.head == "torch":
        return _torch_head(setup)
    return BackendHead(setup.bundle, backend, setup.settings, setup.options.seed)


def _torch_head(setup: Setup) -> TrainableHead:
    return TrainableHead(load_head(setup.bundle), setup.settings, setup.options.seed)
