"""Sessions of the small network on a clock that a test turns."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import replace

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from tests.doubles.clock import SimulatedClock

ANY = RealtimeOptions(adapt_every=1, statistics_limit=1e9)
"""Learns from every frame, noise too."""


def make(bundle: Bundle, clock: SimulatedClock, **changes: object) -> Session:
    realtime: RealtimeOptions = replace(ANY, norm_every=3, **changes)  # type: ignore[arg-type]
    return open_session(
        bundle, SessionOptions(prior=0.8, lr=0.01, seed=4, threads=1, opening=1.0), realtime, clock
    )


def background(
    bundle: Bundle, clock: Clock | None = None, executor: Executor | None = None, **changes: object
) -> Session:
    """Updates in the background, unless told otherwise."""
    options = SessionOptions(prior=0.8, lr=0.002, seed=3, opening=1.0)
    realtime = replace(ANY, **{"update": "background", **changes})  # type: ignore[arg-type]
    return open_session(bundle, options, realtime, clock or SimulatedClock(), executor)


def wait_for_worker(session: Session) -> None:
    """Until an update that is in flight has landed."""
    while session.updates.busy and not session.updates.landed:
        time.sleep(0.001)
