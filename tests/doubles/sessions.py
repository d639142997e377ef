"""Sessions of the small network on a clock that a test turns."""

from __future__ import annotations

from dataclasses import replace

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.session.engine import EngineOptions
from ocl_edge_runtime.session.realtime import RealtimeEngine, RealtimeOptions
from tests.doubles.clock import SimulatedClock

ANY = RealtimeOptions(adapt_every=1, statistics_limit=1e9)
"""Learns from every frame, noise too."""


def make(bundle: Bundle, clock: SimulatedClock, **changes: object) -> RealtimeEngine:
    realtime: RealtimeOptions = replace(ANY, norm_every=3, **changes)  # type: ignore[arg-type]
    return RealtimeEngine(bundle, EngineOptions(prior=0.8, lr=0.01, seed=4, threads=1), realtime, clock)
