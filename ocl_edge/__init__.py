"""ocl-edge: test-time adaptation of segmentation networks at the edge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocl_edge._version import __version__
from ocl_edge.errors import OclEdgeError

if TYPE_CHECKING:
    from ocl_edge_runtime.session.realtime import RealtimeEngine

__all__ = ["OclEdgeError", "__version__", "open"]


def open(bundle: Path | str, **options: Any) -> RealtimeEngine:  # noqa: A001
    """Open a bundle for use inside a program of your own, in realtime mode.

        engine = ocl_edge.open("bundle", period_s=0.1)
        result = engine.step(image)      # uint8 [H, W, 3] RGB in, result.mask uint8 [H, W] out

    To publish the mask before the update: ``mask = engine.predict(image)``, then
    ``engine.adapt()``. An engine belongs to one thread at a time; open one for each thread.

    Args:
        bundle: directory from ``ocl-edge export``.
        **options: fields of `EngineOptions` (method, backend, prior, lr, restoration, seed,
            threads, head) and of `RealtimeOptions` (norm_every, adapt_every, period_s, update, tau_s, ...).

    Raises:
        UsageError: an option of neither.
        BundleError: the bundle is missing, damaged or too new.
    """
    from dataclasses import fields

    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.errors import UsageError
    from ocl_edge_runtime.session.engine import EngineOptions
    from ocl_edge_runtime.session.realtime import RealtimeEngine, RealtimeOptions

    groups = {kind: {f.name for f in fields(kind)} for kind in (EngineOptions, RealtimeOptions)}
    unknown = options.keys() - set().union(*groups.values())
    if unknown:
        known = sorted(set().union(*groups.values()))
        raise UsageError(f"unknown options: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    chosen = {kind: {k: v for k, v in options.items() if k in names} for kind, names in groups.items()}
    return RealtimeEngine(
        Bundle.open(bundle),
        EngineOptions(**chosen[EngineOptions]),
        RealtimeOptions(**chosen[RealtimeOptions]),
    )
