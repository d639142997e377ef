"""Backends: what runs the backbone. This module is light; a backend is imported when it is asked for."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ocl_edge.errors import BackendError, MissingExtraError, OclEdgeError, UsageError
from ocl_edge.tensorrt.driver import driver_is_installed
from ocl_edge_runtime.backends.row import BackendRow, LoadsAhead, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.network.form_names import FormName
    from ocl_edge.tensorrt.key import Precision
    from ocl_edge_runtime.backends.base import Backend

BACKENDS: dict[str, str] = {
    "tensorrt": "tensorrt_backend",
    "tensorrt-rtx": "tensorrt_backend",
    "onnxruntime-cuda": "onnxruntime_gpu",
    "onnxruntime-tensorrt": "onnxruntime_gpu",
    "openvino": "openvino_backend",
    "onnxruntime": "onnxruntime_backend",
    "torch": "torch_backend",
}
"""Name -> the module here whose ``ROWS`` describe it; fastest first, as ``auto`` tries them."""


@dataclass(frozen=True)
class Choice:
    """An opened backend.

    Attributes:
        backend: it.
        passed_over: why faster ones were not taken, name -> reason.
        because: why ``auto`` took it; empty for a named backend.
    """

    backend: Backend
    passed_over: dict[str, str]
    because: str = ""


def row_of(name: str) -> BackendRow:
    """What a backend of `BACKENDS` declares. Imports its module, not its library."""
    rows: tuple[BackendRow, ...] = import_module(f"{__name__}.{BACKENDS[name]}").ROWS
    return next(row for row in rows if row.name == name)


def open_backend(
    bundle: Bundle,
    name: str = "auto",
    threads: int | None = None,
    precision: Precision | None = None,
    on_device: bool = False,
    for_updates: bool = False,
    soon: Sequence[tuple[FormName, int]] = (),
) -> Choice:
    """Open a backend by name; ``auto`` takes the first of `BACKENDS` that works here and fits the bundle.

    Without an NVIDIA driver library ``auto`` does not look at the backends that need one, and
    it never takes one that does not compute in the wanted precision.
    Forms that run ``soon``, in batches of so many, load while the caller goes on, where the backend can.
    The other arguments are those of `Wanted`.

    Raises:
        UsageError: no backend of that name, or not in that precision.
        MissingExtraError: its library is not installed (named backends only).
        BackendError: it cannot load the bundle, computes otherwise than its network (export has tried),
            or (auto) none computes in the wanted precision.
    """
    wanted = Wanted(threads, precision, on_device, for_updates)
    choice = _open_fastest(bundle, wanted) if name == "auto" else _open_named(bundle, name, wanted)
    if isinstance(choice.backend, LoadsAhead):
        for form, batch in soon:
            choice.backend.load_ahead(form, batch)
    return choice


def _open_named(bundle: Bundle, name: str, wanted: Wanted) -> Choice:
    if name not in BACKENDS:
        raise UsageError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}")
    row = row_of(name)
    if wanted.precision not in (None, *row.precisions):
        rows = [row_of(known) for known in BACKENDS]
        offers = "; ".join(f"{r.name}: {', '.join(r.precisions)}" for r in rows if len(r.precisions) > 1)
        raise UsageError(f"--precision {wanted.precision} does not go with {name}; there are {offers}")
    if (unfit := bundle.manifest.unfit_backends.get(name)) is not None:
        raise BackendError(f"{name} does not fit this bundle: {unfit}; --backend auto takes one that does")
    return Choice(row.open(bundle, wanted), {})


def _open_fastest(bundle: Bundle, wanted: Wanted) -> Choice:
    passed_over: dict[str, str] = {}
    for row in map(row_of, BACKENDS):
        if row.because is None or (row.on_gpu and not driver_is_installed()):
            continue
        if row.machines is not None and platform.machine() not in row.machines:
            continue
        if (unfit := bundle.manifest.unfit_backends.get(row.name)) is not None:
            passed_over[row.name] = unfit
            continue
        if wanted.precision not in (None, *row.precisions):
            passed_over[row.name] = f"it does not compute in {wanted.precision}"
            continue
        try:
            return Choice(row.open(bundle, wanted), passed_over, row.because)
        except (MissingExtraError, BackendError) as error:
            passed_over[row.name] = str(error)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in passed_over.items())
    raise BackendError(f"no backend here computes in {wanted.precision} ({reasons})")


def usable_backends() -> dict[str, str | None]:
    """Backend name -> None where it can be used here, else the reason why not. Imports the libraries."""
    reasons: dict[str, str | None] = dict.fromkeys(BACKENDS)
    for name in BACKENDS:
        try:
            row_of(name).require()
        except OclEdgeError as error:
            reasons[name] = str(error)
    return reasons
