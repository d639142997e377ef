"""Several cameras, one engine: a session for each, over one backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge_runtime.backends import Choice
from ocl_edge_runtime.backends.base import HeadBackend
from ocl_edge_runtime.backends.shared import SharedBackend, SharedHeadBackend
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.named_sessions import NamedSessions
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.opening_outputs import Engines, check_for_outputs, open_engines, open_outputs
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.outputs import Outputs
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.shared_head import Shared, SharedHead

Share = Literal["nothing", "head"]
Each = TypeVar("Each", bound=Session | Outputs)


class Cameras(NamedSessions[Each]):
    """Sessions by the name of their camera; of several outputs, `Outputs`. Used from one thread at a time.

    `open_cameras` makes them. Norm statistics, opening, guard and state are each camera's own, and so is the
    head, unless it is shared. Each camera's masks are those of a session of its own.

    Args:
        sessions: by name.
        resources: closed with them.
    """

    def __init__(self, sessions: Mapping[str, Each], resources: ExitStack) -> None:
        super().__init__(sessions, resources)
        self._turn = 0

    def step(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        arrived_at: float | None = None,
        emit: Callable[[str, Any], None] | None = None,
    ) -> dict[str, Any]:
        """Frames of some or all cameras: first every mask, then the updates.

        Args:
            images: by camera, uint8 [H, W, 3] RGB; sizes may differ.
            arrived_at: as for `Session.predict`.
            emit: given each mask with its camera, before any update; of several outputs all masks by name.

        Returns:
            A `FrameResult` for each camera; of several outputs one for each, by name.

        Raises:
            KeyError: no such camera.
            FrameError: an image is of another dtype or shape; those before it had their masks.
        """
        of: Mapping[str, Any] = self
        masks = {}
        for name, image in images.items():
            masks[name] = of[name].predict(image, arrived_at)
            if emit is not None:
                emit(name, masks[name])
        verdicts = {name: of[name].adapt() for name in self.in_turn(list(images))}
        return {name: of[name].result(mask, verdicts[name]) for name, mask in masks.items()}

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
) -> Cameras[Session]:
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
    chosen, rules = _of_each(names, options, realtime, share)
    head = SharedHead() if share == "head" else None
    with ExitStack() as opened:
        engines = open_engines({bundle.output: bundle}, chosen[names[0]], rules[names[0]], opened)
        engine = engines.get(bundle.output)
        sessions = {}
        for name in names:
            shared = Shared(engine and _for_one_camera(engine), head or SharedHead())
            own = open_session(bundle, chosen[name], rules[name], clock, shared=shared)
            sessions[name] = opened.enter_context(own)
        return Cameras(sessions, opened.pop_all())


def open_cameras_of_outputs(
    bundles: Mapping[str, Bundle],
    names: Sequence[str],
    options: SessionOptions | Mapping[str, SessionOptions] | None = None,
    realtime: RealtimeOptions | Mapping[str, RealtimeOptions] | None = None,
    clock: Clock | None = None,
    share: Share = "nothing",
) -> Cameras[Outputs]:
    """As `open_cameras`, with all outputs of a bundle for each camera.

    Args:
        bundles: from `Bundle.open_outputs`.
        names: of the cameras.
        options: likewise, as for `open_outputs`.
        realtime: likewise.
        clock: likewise.
        share: ``head``: all cameras teach one head of each output.
    """
    chosen, rules = _of_each(names, options, realtime, share)
    check_for_outputs(bundles, chosen[names[0]].method)
    heads = {output: SharedHead() for output in bundles} if share == "head" else None
    with ExitStack() as opened:
        engines = open_engines(bundles, chosen[names[0]], rules[names[0]], opened)
        cameras = {}
        for name in names:
            own: Engines = {output: _for_one_camera(engine) for output, engine in engines.items()}
            outputs = open_outputs(bundles, chosen[name], rules[name], clock, engines=own, heads=heads)
            cameras[name] = opened.enter_context(outputs)
        return Cameras(cameras, opened.pop_all())


def _of_each(
    names: Sequence[str],
    options: SessionOptions | Mapping[str, SessionOptions] | None,
    realtime: RealtimeOptions | Mapping[str, RealtimeOptions] | None,
    share: Share,
) -> tuple[Mapping[str, SessionOptions], Mapping[str, RealtimeOptions | None]]:
    if not names or len(set(names)) != len(names):
        raise UsageError(f"every camera needs a name of its own, got {', '.join(names) or 'none'}")
    chosen = options if isinstance(options, Mapping) else dict.fromkeys(names, options or SessionOptions())
    rules: Mapping[str, RealtimeOptions | None]
    rules = realtime if isinstance(realtime, Mapping) else dict.fromkeys(names, realtime)
    if share == "head" and any(each is None or each.update == "background" for each in rules.values()):
        raise UsageError("a shared head learns in realtime mode with inline updates")
    return chosen, rules


def _for_one_camera(engine: Choice) -> Choice:
    shared = SharedHeadBackend if isinstance(engine.backend, HeadBackend) else SharedBackend
    return replace(engine, backend=shared(engine.backend))
