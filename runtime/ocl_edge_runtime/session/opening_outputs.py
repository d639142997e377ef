"""Puts the sessions of all outputs of a bundle together, over one backbone."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge.method.methods import find_method
from ocl_edge_runtime.backends import Choice, open_backend
from ocl_edge_runtime.backends.base import HeadBackend
from ocl_edge_runtime.backends.shared import SameInputsOnce, WithAnotherHead
from ocl_edge_runtime.clock import Clock, RealClock
from ocl_edge_runtime.session.decisions import ByTheClock, OnceAFrame
from ocl_edge_runtime.session.opening import forms_soon, open_session, open_worker_backend
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.outputs import Outputs
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.shared_head import Shared, SharedHead, Worker
from ocl_edge_runtime.session.updates import AllUpdates, one_worker

Engines = Mapping[str, Choice]
"""An open backend for each output; the first one runs the backbone."""


def open_outputs(
    bundles: Mapping[str, Bundle],
    options: SessionOptions | None = None,
    realtime: RealtimeOptions | None = None,
    clock: Clock | None = None,
    executor: Executor | None = None,
    engines: Engines | None = None,
    heads: Mapping[str, SharedHead] | None = None,
) -> Outputs:
    """Sessions for all outputs of a bundle, over one backbone that runs once a frame.

    Args:
        bundles: from `Bundle.open_outputs`; the first one's session sees the frames.
        options: as for `open_session`, for all outputs.
        realtime: likewise.
        clock: of the frames' arrival.
        executor: runs updates in the background one after the other, by default on a thread of its own.
        engines: that others use, too, and close; None: they are opened here.
        heads: likewise.

    Raises:
        UsageError: what only one output can have; see `open_session`.
        BundleError: a file of the bundle cannot be loaded.
        BackendError: the backend cannot run here.
    """
    options, clock = options or SessionOptions(), clock or RealClock()
    check_for_outputs(bundles, options.method)
    with ExitStack() as opened:
        if engines is None:
            engines = open_engines(bundles, options, realtime, opened)
        shared = _shared(bundles, engines, options, realtime, executor, opened)
        sessions: dict[str, Session] = {}
        for name, bundle in bundles.items():
            lead = next(iter(sessions.values()), None)
            own = replace(
                shared, engine=engines.get(name), lead=lead, head=(heads or {}).get(name, SharedHead())
            )
            session = open_session(bundle, options, realtime, clock, None, own)
            sessions[name] = opened.enter_context(session)
        lead = next(iter(sessions.values()))
        together = AllUpdates([session.updates for session in sessions.values()])
        lead.decisions = OnceAFrame(ByTheClock(clock, lead.norms, lead.policy, together))
        for session in sessions.values():
            session.decisions = lead.decisions
        return Outputs(sessions, opened.pop_all())


def open_engines(
    bundles: Mapping[str, Bundle],
    options: SessionOptions,
    realtime: RealtimeOptions | None,
    opened: ExitStack,
) -> Engines:
    """A backend for all outputs; with ``--head engine`` each but the first has one more, for its head.

    None at all where the method trains a backbone of its own.
    """
    if realtime is None and find_method(options.method).needs_pytorch_backbone:
        return {}
    of_engine = options.head == "engine"
    how = options.threads, options.precision, of_engine
    (first, bundle), *others = bundles.items()
    choice = open_backend(bundle, options.backend, *how, soon=forms_soon(options, realtime))
    opened.callback(choice.backend.close)
    engines = {first: choice}
    for name, bundle in others:
        engines[name] = choice
        if of_engine:
            own = open_backend(bundle, choice.backend.name, *how).backend
            opened.callback(own.close)
            if isinstance(own, HeadBackend):
                engines[name] = replace(choice, backend=WithAnotherHead(choice.backend, own))
    return engines


def _shared(
    bundles: Mapping[str, Bundle],
    engines: Engines,
    options: SessionOptions,
    realtime: RealtimeOptions | None,
    executor: Executor | None,
    opened: ExitStack,
) -> Shared:
    """What all outputs have in common: the flipped view goes through the backbone once."""
    if not engines:
        return Shared()
    bundle, engine = next(iter(bundles.values())), next(iter(engines.values()))
    if realtime is None or realtime.update == "inline":
        return Shared(flipped=SameInputsOnce(engine.backend))
    backend = open_worker_backend(bundle, options, engine.backend.name, opened)
    executor = executor or one_worker()
    opened.callback(executor.shutdown)
    return Shared(worker=Worker(SameInputsOnce(backend), executor))


def check_for_outputs(bundles: Mapping[str, Bundle], method_name: str) -> None:
    """Refuse methods that train the backbone: several losses would.

    Raises:
        UsageError: with the way to have it for one output.
    """
    method = find_method(method_name)
    if len(bundles) > 1 and (method.needs_pytorch_backbone or method.published is not None):
        named = " or ".join(bundle.named for bundle in bundles.values())
        raise UsageError(
            f"--method {method.name} trains the backbone, which all outputs share, and has one loss: {named}"
        )
