"""ONNX Runtime on an NVIDIA GPU, through its CUDA or its TensorRT execution provider.

ONNX Runtime falls back to the CPU with no more than a warning where a provider does not
load. Here that is an error, and so is a graph whose convolutions ended up on the CPU.
"""

from __future__ import annotations

from typing import Any, Literal

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError
from ocl_edge.network.form_names import GraphName
from ocl_edge.tensorrt.driver import probe_cuda
from ocl_edge.tensorrt.store import user_cache
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
    size; they are kept in the user's cache directory.

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
            place = user_cache() / "onnxruntime-tensorrt"
            cache = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(place)}
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
