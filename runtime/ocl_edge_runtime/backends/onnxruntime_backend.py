"""ONNX Runtime on the CPU, bound to buffers that are allocated once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError
from ocl_edge.network.form_names import GraphName
from ocl_edge.tensors import Tensor, torch_is_installed
from ocl_edge_runtime.backends.base import Sizes
from ocl_edge_runtime.backends.host_backend import HostBackend, import_library
from ocl_edge_runtime.backends.row import BackendRow

PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeBackend(HostBackend):
    """One session a graph.

    Args:
        bundle: the opened bundle.
        threads: for one operator; None leaves the choice to ONNX Runtime.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        BackendError: it is installed and cannot be imported.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self._library = import_onnxruntime()
        self._threads = threads
        super().__init__(bundle)

    def _run(self, loaded: Any, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        binding = loaded.io_binding()
        for name, tensor in inputs.items():
            binding.bind_input(name, "cpu", 0, np.float32, tensor.shape, tensor.data_ptr())
        for name, tensor in outputs.items():
            binding.bind_output(name, "cpu", 0, np.float32, tensor.shape, tensor.data_ptr())
        loaded.run_with_iobinding(binding)

    def _load(self, graph: GraphName, sizes: Sizes) -> Any:  # noqa: ARG002
        options = self._library.SessionOptions()
        options.log_severity_level = 4  # errors are raised; the log would show a stranger's words as they are
        # Idle workers that spin take the cores from PyTorch (head, tail, loss) and from other processes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A pool of memory for each graph saves a tenth of the time and takes 220 MiB (docs/hardware.md).
        options.enable_cpu_mem_arena = torch_is_installed()
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        path = self._bundle.graph_file(graph)
        try:
            session = self._open_session(str(path), options)
        except Exception as error:
            raise BackendError(f"ONNX Runtime cannot load {path.name}: {error}") from error
        self._check_session(session, graph)
        return session

    def _open_session(self, path: str, options: Any) -> Any:
        return self._library.InferenceSession(path, options, providers=[PROVIDER])

    def _check_session(self, session: Any, graph: GraphName) -> None:  # noqa: ARG002
        if session.get_providers() != [PROVIDER]:
            raise BackendError(f"asked ONNX Runtime for {PROVIDER}, it runs {session.get_providers()}")


def import_onnxruntime() -> Any:
    """The library; see `import_library`."""
    return import_library("onnxruntime", "cpu")


ROWS = (
    BackendRow(
        name="onnxruntime",
        open=lambda bundle, wanted: OnnxRuntimeBackend(bundle, wanted.threads),
        require=import_onnxruntime,
        because="on a CPU faster than PyTorch",
        library="onnxruntime",
    ),
)
