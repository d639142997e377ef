"""ocl-edge: test-time adaptation of segmentation networks at the edge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocl_edge._version import __version__
from ocl_edge.errors import OclEdgeError

if TYPE_CHECKING:
    from ocl_edge_runtime.session.session import Session

__all__ = ["OclEdgeError", "__version__", "open"]


def open(bundle: Path | str, signed_by: Path | None = None, **options: Any) -> Session:  # noqa: A001
    """Open a bundle for use inside a program of your own, in realtime mode.

        with ocl_edge.open("bundle", period_s=0.1) as session:
            result = session.step(image)      # uint8 [H, W, 3] RGB in, result.mask uint8 [H, W] out

    To publish the mask before the update: ``mask = session.predict(image)``, then
    ``session.adapt()``. A session belongs to one thread at a time; open one for each stream.

    Args:
        bundle: directory from ``ocl-edge export``.
        signed_by: file of a public key: refuse the bundle unless its owner signed it.
        **options: fields of `SessionOptions` (method, backend, prior, lr, restoration, seed,
            threads, head) and of `RealtimeOptions` (norm_every, adapt_every, period_s, update, tau_s, ...).

    Raises:
        UsageError: an option of neither.
        BundleError: the bundle is missing, damaged or too new; or not signed as it should be.
    """
    from dataclasses import fields

    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.errors import UsageError
    from ocl_edge_runtime.session.opening import open_session
    from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions

    groups = {kind: {f.name for f in fields(kind)} for kind in (SessionOptions, RealtimeOptions)}
    unknown = options.keys() - set().union(*groups.values())
    if unknown:
        known = sorted(set().union(*groups.values()))
        raise UsageError(f"unknown options: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    chosen = {kind: {k: v for k, v in options.items() if k in names} for kind, names in groups.items()}
    return open_session(
        Bundle.open(bundle, signed_by=signed_by),
        SessionOptions(**chosen[SessionOptions]),
        RealtimeOptions(**chosen[RealtimeOptions]),
    )
