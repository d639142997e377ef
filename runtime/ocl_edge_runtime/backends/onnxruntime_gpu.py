"""ONNX Runtime on an NVIDIA GPU, through its CUDA or its TensorRT execution provider.

ONNX Runtime falls back to the CPU with no more than a warning where a provider does not
load. Here that is an error, and so is a graph whose convolutions ended up on the CPU.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError
from ocl_edge.network.form_names import GraphName
from ocl_edge.tensorrt.driver import CudaDriver, probe_cuda
from ocl_edge.user_cache import writable_place
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend, import_onnxruntime
from ocl_edge_runtime.backends.row import BackendRow

ProviderName = Literal["cuda", "tensorrt"]
PROVIDERS: dict[ProviderName, str] = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
CPU_PROVIDER = "CPUExecutionProvider"
HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm", "BatchNormalization")


class OnnxRuntimeGpuBackend(OnnxRuntimeBackend):
    """As `OnnxRuntimeBackend`, computing on the GPU. Inputs and outputs are CPU tensors, bound once.

    The TensorRT provider builds its own engines, at the first run of every form and batch
    size. It names them by the graph alone, whatever the weights: so they are kept in the
    user's cache directory by bundle, library, GPU and driver (`engine_cache`).

    Args:
        bundle: the opened bundle.
        provider: which one.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        BackendError: no driver, or an ONNX Runtime without the provider.
    """

    def __init__(self, bundle: Bundle, provider: ProviderName) -> None:
        self.name = f"onnxruntime-{provider}"
        self._provider = PROVIDERS[provider]
        require_provider(provider)
        super().__init__(bundle)

    def _open_session(self, path: str, options: Any) -> Any:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        providers: list[Any] = [(PROVIDERS["cuda"], {}), CPU_PROVIDER]
        if self._provider == PROVIDERS["tensorrt"]:
            place = engine_cache(self._bundle, self._library.__version__, probe_cuda())
            cache = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(place)} if place else {}
            providers.insert(0, (self._provider, cache))
        return self._library.InferenceSession(path, options, providers=providers)

    def _check_session(self, session: Any, graph: GraphName) -> None:
        if session.get_providers()[0] != self._provider:
            raise BackendError(
                f"asked ONNX Runtime for {self._provider}, it runs {', '.join(session.get_providers())}; "
                "its libraries (CUDA, cuDNN, TensorRT) could not be loaded: see what it logged"
            )
        session.disable_fallback()
        on_cpu = _heavy_nodes_on_cpu(session)
        if on_cpu:
            raise BackendError(f"{self.name} left {', '.join(on_cpu)} of the {graph} form on the CPU")


def engine_cache(bundle: Bundle, version: str, driver: CudaDriver) -> Path | None:
    """Where engines of one bundle are kept that one ONNX Runtime built for one GPU and driver.

    None where the user's cache directory cannot be written.

    Args:
        bundle: the opened bundle.
        version: of ONNX Runtime.
        driver: as `probe_cuda` gives it.
    """
    gpu = driver.gpus[0]
    tied_to = f"{version}-{gpu.name}-{gpu.compute_capability}-{driver.cuda}-{driver.driver}"
    key = hashlib.sha256(tied_to.encode()).hexdigest()[:10]
    return writable_place("onnxruntime-tensorrt", bundle.identity[:24], key)


def require_provider(provider: ProviderName) -> None:
    """Probe the driver, then ask ONNX Runtime whether it was built with a provider.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        BackendError: no driver, or an ONNX Runtime without the provider.
    """
    probe_cuda()
    library = import_onnxruntime()
    there = library.get_available_providers()
    if PROVIDERS[provider] not in there:
        raise BackendError(
            f"onnxruntime {library.__version__} here has no {PROVIDERS[provider]}, only {', '.join(there)}; "
            "the CPU package hides the GPU one: pip uninstall onnxruntime, then pip install 'ocl-edge[gpu]'"
        )


def _heavy_nodes_on_cpu(session: Any) -> list[str]:
    """Operators that should be on the GPU and are not; nothing where the version cannot tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []
    found = []
    for subgraph in session.get_provider_graph_assignment_info():
        if subgraph.ep_name == CPU_PROVIDER:
            found += [node.op_type for node in subgraph.get_nodes() if node.op_type in HEAVY]
    return sorted(set(found))


ROWS = (
    BackendRow(
        name="onnxruntime-cuda",
        open=lambda bundle, _: OnnxRuntimeGpuBackend(bundle, "cuda"),
        require=lambda: require_provider("cuda"),
        because="on the GPU; no compiled engine is valid here",
        library="onnxruntime-gpu",
        on_gpu=True,
    ),
    BackendRow(
        name="onnxruntime-tensorrt",
        open=lambda bundle, _: OnnxRuntimeGpuBackend(bundle, "tensorrt"),
        require=lambda: require_provider("tensorrt"),
        because=None,  # it builds for minutes at the first frame
        library="onnxruntime-gpu",
        on_gpu=True,
    ),
)
