"""Backends: what runs the backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ocl_edge.bundle import Bundle
from ocl_edge.cuda_probe import driver_is_installed
from ocl_edge.engine_key import Precision
from ocl_edge.errors import BackendError, MissingExtraError, OclEdgeError, UsageError
from ocl_edge.tensorrt_flavours import FLAVOURS, FlavourName
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend, import_onnxruntime
from ocl_edge_runtime.backends.onnxruntime_gpu import OnnxRuntimeGpuBackend, require_provider
from ocl_edge_runtime.backends.openvino_backend import OpenVinoBackend, import_openvino
from ocl_edge_runtime.backends.tensorrt_backend import TensorRtBackend
from ocl_edge_runtime.backends.tensorrt_engines import open_library
from ocl_edge_runtime.backends.torch_backend import TorchBackend


@dataclass(frozen=True)
class Wanted:
    """How a backend is opened.

    Attributes:
        threads: for one operator, on the CPU.
        precision: of compiled engines; None takes the newest valid one.
        on_device: leave outputs where they are computed, for a head that runs there too.
    """

    threads: int | None = None
    precision: Precision | None = None
    on_device: bool = False


def _tensorrt(flavour: FlavourName) -> Callable[[Bundle, Wanted], Backend]:
    return lambda bundle, wanted: TensorRtBackend(
        bundle, flavour, wanted.precision, on_device=wanted.on_device
    )


BACKENDS: dict[str, Callable[[Bundle, Wanted], Backend]] = {
    "tensorrt": _tensorrt("tensorrt"),
    "tensorrt-rtx": _tensorrt("tensorrt-rtx"),
    "onnxruntime-cuda": lambda bundle, _: OnnxRuntimeGpuBackend(bundle, "cuda"),
    "onnxruntime-tensorrt": lambda bundle, _: OnnxRuntimeGpuBackend(bundle, "tensorrt"),
    "openvino": lambda bundle, wanted: OpenVinoBackend(bundle, wanted.threads, wanted.precision),
    "onnxruntime": lambda bundle, wanted: OnnxRuntimeBackend(bundle, wanted.threads),
    "torch": lambda bundle, _: TorchBackend(bundle),
}
"""Fastest first: the order in which ``auto`` tries them."""

ON_GPU = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-tensorrt")
WITH_PRECISION = (*FLAVOURS, "openvino")
BUILDS_WHILE_RUNNING = "onnxruntime-tensorrt"
"""Minutes at the first frame: taken where it is named, never by ``auto``."""


@dataclass(frozen=True)
class Choice:
    """An opened backend, and why faster ones were passed over (name -> reason)."""

    backend: Backend
    passed_over: dict[str, str]


def open_backend(
    bundle: Bundle,
    name: str = "auto",
    threads: int | None = None,
    precision: Precision | None = None,
    on_device: bool = False,
) -> Choice:
    """Open a backend by name; ``auto`` takes the first of `BACKENDS` that works here.

    Without an NVIDIA driver library ``auto`` does not look at the backends of `ON_GPU`.
    The other arguments are those of `Wanted`.

    Raises:
        UsageError: no backend of that name.
        MissingExtraError: its library is not installed (named backends only).
        BackendError: it cannot load the bundle.
    """
    wanted = Wanted(threads, precision, on_device)
    if name != "auto":
        if name not in BACKENDS:
            raise UsageError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}")
        if precision is not None and name not in WITH_PRECISION:
            raise UsageError(f"--precision goes with {', '.join(WITH_PRECISION)}, not with {name}")
        return Choice(BACKENDS[name](bundle, wanted), {})
    passed_over: dict[str, str] = {}
    for candidate, opener in BACKENDS.items():
        if candidate == BUILDS_WHILE_RUNNING or (candidate in ON_GPU and not driver_is_installed()):
            continue
        try:
            return Choice(opener(bundle, wanted), passed_over)
        except (MissingExtraError, BackendError) as error:
            passed_over[candidate] = str(error)
    raise AssertionError("the torch backend needs nothing but PyTorch")


def usable_backends() -> dict[str, str | None]:
    """Backend name -> None where it can be used here, else the reason why not. Imports the libraries."""
    checks: dict[str, Callable[[], object]] = {
        "tensorrt": lambda: open_library("tensorrt"),
        "tensorrt-rtx": lambda: open_library("tensorrt-rtx"),
        "onnxruntime-cuda": lambda: require_provider("cuda"),
        "onnxruntime-tensorrt": lambda: require_provider("tensorrt"),
        "openvino": import_openvino,
        "onnxruntime": import_onnxruntime,
    }
    reasons: dict[str, str | None] = {}
    for name, check in checks.items():
        reasons[name] = None
        try:
            check()
        except OclEdgeError as error:
            reasons[name] = str(error)
    return {**reasons, "torch": None}
