"""Several cameras, one engine: a session for each, over one backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge.masks import Mask
from ocl_edge.method.methods import find_method
from ocl_edge_runtime.backends import Choice, open_backend
from ocl_edge_runtime.backends.base import HeadBackend
from ocl_edge_runtime.backends.shared import SharedBackend, SharedHeadBackend
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.frames import FrameResult
from ocl_edge_runtime.session.named_sessions import NamedSessions
from ocl_edge_runtime.session.opening import forms_soon, open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.shared_head import Shared, SharedHead

Share = Literal["nothing", "head"]


class Cameras(NamedSessions):
    """Sessions by the name of their camera. `open_cameras` makes them; used from one thread at a time.

    Norm statistics, opening, guard and state are each camera's own, and so is the head, unless it is
    shared. Each camera's masks are those of a session of its own.

    Args:
        sessions: by name.
        resources: closed with them.
    """

    def __init__(self, sessions: Mapping[str, Session], resources: ExitStack) -> None:
        super().__init__(sessions, resources)
        self._turn = 0

    def step(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        arrived_at: float | None = None,
        emit: Callable[[str, Mask], None] | None = None,
    ) -> dict[str, FrameResult]:
        """Frames of some or all cameras: first every mask, then the updates.

        Args:
            images: by camera, uint8 [H, W, 3] RGB; sizes may differ.
            arrived_at: as for `Session.predict`.
            emit: given each mask with its camera, before any update.

        Raises:
            KeyError: no such camera.
            FrameError: an image is of another dtype or shape; those before it had their masks.
        """
        masks = {}
        for name, image in images.items():
            masks[name] = self[name].predict(image, arrived_at)
            if emit is not None:
                emit(name, masks[name])
        verdicts = {name: self[name].adapt() for name in self.in_turn(list(images))}
        return {name: self[name].result(mask, verdicts[name]) for name, mask in masks.items()}

    def in_turn(self, names: Sequence[str]) -> list[str]:
        """The same names; each call another one comes first, so that no camera always learns last."""
        self._turn += 1
        first = self._turn % len(names) if names else 0
        return [*names[first:], *names[:first]]

    def warm_up(self) -> None:
        """See `Session.warm_up`; the graphs load once."""
        for session in self.values():
            session.warm_up()


def open_cameras(
    bundle: Bundle,
    names: Sequence[str],
    options: SessionOptions | Mapping[str, SessionOptions] | None = None,
    realtime: RealtimeOptions | Mapping[str, RealtimeOptions] | None = None,
    clock: Clock | None = None,
    share: Share = "nothing",
) -> Cameras:
    """A session for each camera over one backend: graphs and engines are loaded once.

    Args:
        bundle: to run.
        names: of the cameras.
        options: as for `open_session`, for all cameras or for each by its name.
        realtime: likewise.
        clock: of the frames' arrival.
        share: ``head``: one head and one guard learn from all cameras.

    Raises:
        UsageError: a name twice, none at all, or options that contradict each other.
        BundleError: a file of the bundle cannot be loaded.
        BackendError: the backend cannot run here.
    """
    if not names or len(set(names)) != len(names):
        raise UsageError(f"every camera needs a name of its own, got {', '.join(names) or 'none'}")
    chosen = options if isinstance(options, Mapping) else dict.fromkeys(names, options or SessionOptions())
    rules = realtime if isinstance(realtime, Mapping) else dict.fromkeys(names, realtime)
    head = SharedHead() if share == "head" else None
    if head and any(each is None or each.update == "background" for each in rules.values()):
        raise UsageError("a shared head learns in realtime mode with inline updates")
    with ExitStack() as opened:
        engine = _open_engine(bundle, chosen[names[0]], rules[names[0]], opened)
        sessions = {}
        for name in names:
            ours = bundle, chosen[name], rules[name], clock
            shared = Shared(_for_one_camera(engine), head or SharedHead())
            own = open_session(*ours, shared=shared)
            sessions[name] = opened.enter_context(own)
        return Cameras(sessions, opened.pop_all())


def _open_engine(
    bundle: Bundle, options: SessionOptions, realtime: RealtimeOptions | None, opened: ExitStack
) -> Choice | None:
    """None where each session trains a backbone of its own."""
    if realtime is None and find_method(options.method).needs_pytorch_backbone:
        return None
    choice = open_backend(
        bundle,
        options.backend,
        options.threads,
        options.precision,
        on_device=options.head == "engine",
        soon=forms_soon(options, realtime),
    )
    opened.callback(choice.backend.close)
    return choice


def _for_one_camera(engine: Choice | None) -> Choice | None:
    if engine is None:
        return None
    shared = SharedHeadBackend if isinstance(engine.backend, HeadBackend) else SharedBackend
    return replace(engine, backend=shared(engine.backend))
