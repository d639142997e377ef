"""Backends: what runs the backbone."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError, MissingExtraError, OclEdgeError, UsageError
from ocl_edge.tensorrt.driver import driver_is_installed
from ocl_edge.tensorrt.flavours import FLAVOURS, FlavourName
from ocl_edge.tensorrt.key import PRECISIONS as ALL_PRECISIONS
from ocl_edge.tensorrt.key import Precision
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.lane import Lane
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend, import_onnxruntime
from ocl_edge_runtime.backends.onnxruntime_gpu import OnnxRuntimeGpuBackend, require_provider
from ocl_edge_runtime.backends.openvino_backend import PRECISIONS as OPENVINO_PRECISIONS
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
        for_updates: give way to the backend that makes the masks.
    """

    threads: int | None = None
    precision: Precision | None = None
    on_device: bool = False
    for_updates: bool = False


def _tensorrt(flavour: FlavourName) -> Callable[[Bundle, Wanted], Backend]:
    return lambda bundle, wanted: TensorRtBackend(
        bundle, flavour, wanted.precision, on_device=wanted.on_device, for_updates=wanted.for_updates
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
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    **dict.fromkeys(FLAVOURS, ALL_PRECISIONS),
    "openvino": OPENVINO_PRECISIONS,
}
"""What ``--precision`` may ask of a backend; the others compute in float32."""

ON_X86_ONLY = ("openvino",)
"""Elsewhere its order of speed was not measured: taken where it is named."""

BECAUSE = {
    "tensorrt": "compiled for this GPU",
    "tensorrt-rtx": "compiled for this GPU",
    "onnxruntime-cuda": "on the GPU; no compiled engine is valid here",
    "openvino": "on a CPU it takes a third to a half of ONNX Runtime's time",
    "onnxruntime": "on a CPU faster than PyTorch",
    "torch": "it needs nothing but PyTorch",
}
"""Why ``auto`` prefers it to those after it; the numbers are in docs/hardware.md."""

BUILDS_WHILE_RUNNING = "onnxruntime-tensorrt"
"""Minutes at the first frame: taken where it is named, never by ``auto``."""


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


def open_backend(
    bundle: Bundle,
    name: str = "auto",
    threads: int | None = None,
    precision: Precision | None = None,
    on_device: bool = False,
    for_updates: bool = False,
) -> Choice:
    """Open a backend by name; ``auto`` takes the first of `BACKENDS` that works here.

    Without an NVIDIA driver library ``auto`` does not look at the backends of `ON_GPU`, and it
    never takes one that does not compute in the wanted precision.
    The other arguments are those of `Wanted`.

    Raises:
        UsageError: no backend of that name.
        MissingExtraError: its library is not installed (named backends only).
        BackendError: it cannot load the bundle, or (auto) none computes in the wanted precision.
    """
    wanted = Wanted(threads, precision, on_device, for_updates)
    if name != "auto":
        if name not in BACKENDS:
            raise UsageError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}")
        if precision is not None and precision not in PRECISIONS.get(name, ("fp32",)):
            offers = "; ".join(f"{backend}: {', '.join(offered)}" for backend, offered in PRECISIONS.items())
            raise UsageError(f"--precision {precision} does not go with {name}; there are {offers}")
        return Choice(BACKENDS[name](bundle, wanted), {})
    passed_over: dict[str, str] = {}
    for candidate, opener in BACKENDS.items():
        if candidate == BUILDS_WHILE_RUNNING or (candidate in ON_GPU and not driver_is_installed()):
            continue
        if candidate in ON_X86_ONLY and platform.machine() not in ("x86_64", "AMD64"):
            continue
        if precision not in (None, *PRECISIONS.get(candidate, ("fp32",))):
            passed_over[candidate] = f"it does not compute in {precision}"
            continue
        try:
            return Choice(opener(bundle, wanted), passed_over, BECAUSE[candidate])
        except (MissingExtraError, BackendError) as error:
            passed_over[candidate] = str(error)
    reasons = "; ".join(f"{candidate}: {reason}" for candidate, reason in passed_over.items())
    raise BackendError(f"no backend here computes in {precision} ({reasons})")


def lane_of(backend: Backend) -> Lane:
    """Where updates run that a backend was opened for."""
    return backend.lane if isinstance(backend, TensorRtBackend) else Lane()


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
