"""Backends: what runs the backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ocl_edge.bundle import Bundle
from ocl_edge.errors import BackendError, MissingExtraError, OclEdgeError, UsageError
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend, import_onnxruntime
from ocl_edge_runtime.backends.torch_backend import TorchBackend

BACKENDS: dict[str, Callable[[Bundle, int | None], Backend]] = {
    "onnxruntime": OnnxRuntimeBackend,
    "torch": lambda bundle, _threads: TorchBackend(bundle),
}
"""Fastest first: the order in which ``auto`` tries them."""


@dataclass(frozen=True)
class Choice:
    """An opened backend, and why faster ones were passed over (name -> reason)."""

    backend: Backend
    passed_over: dict[str, str]


def open_backend(bundle: Bundle, name: str = "auto", threads: int | None = None) -> Choice:
    """Open a backend by name; ``auto`` takes the first of `BACKENDS` that works here.

    Raises:
        UsageError: no backend of that name.
        MissingExtraError: its library is not installed (named backends only).
        BackendError: it cannot load the bundle.
    """
    if name != "auto":
        if name not in BACKENDS:
            raise UsageError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}")
        return Choice(BACKENDS[name](bundle, threads), {})
    passed_over: dict[str, str] = {}
    for candidate, opener in BACKENDS.items():
        try:
            return Choice(opener(bundle, threads), passed_over)
        except (MissingExtraError, BackendError) as error:
            passed_over[candidate] = str(error)
    raise AssertionError("the torch backend needs nothing but PyTorch")


def usable_backends() -> dict[str, str | None]:
    """Backend name -> None where it can be used here, else the reason why not. Imports the libraries."""
    reasons: dict[str, str | None] = {"onnxruntime": None, "torch": None}
    try:
        import_onnxruntime()
    except OclEdgeError as error:
        reasons["onnxruntime"] = str(error)
    return reasons
