"""ONNX Runtime on the CPU, bound to buffers that are allocated once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ocl_edge.bundle import Bundle, FormSpec
from ocl_edge.errors import BackendError, MissingExtraError
from ocl_edge.forms import FormName, GraphName
from ocl_edge_runtime.backends.base import Sizes, check_inputs, check_outputs, graphs_of, shape_of

PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeBackend:
    """One session a graph, loaded at first use; one set of output buffers per form and batch size.

    Args:
        bundle: the opened bundle.
        threads: for one operator; None leaves the choice to ONNX Runtime.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        BackendError: it is installed and cannot be imported.
    """

    name = "onnxruntime"
    head_device = torch.device("cpu")

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self._library = import_onnxruntime()
        self._bundle = bundle
        self._threads = threads
        self._graphs = graphs_of(bundle)
        self._sessions: dict[GraphName, Any] = {}
        self._outputs: dict[tuple[GraphName, Sizes], dict[str, Tensor]] = {}

    def describe(self) -> Mapping[GraphName, FormSpec]:
        return self._graphs

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        sizes = check_inputs(form, self._graphs[form], inputs)
        outputs = self._outputs.get((form, sizes)) or self._allocate(form, sizes)
        self._run(form, inputs, outputs)
        return dict(outputs)

    def infer_into(
        self, graph: GraphName, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        check_outputs(graph, self._graphs[graph], check_inputs(graph, self._graphs[graph], inputs), outputs)
        self._run(graph, inputs, outputs)

    def _run(self, graph: GraphName, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        session = self._sessions.get(graph) or self._load(graph)
        binding = session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_input(name, "cpu", 0, np.float32, tensor.shape, tensor.data_ptr())
        for name, tensor in outputs.items():
            binding.bind_output(name, "cpu", 0, np.float32, tensor.shape, tensor.data_ptr())
        session.run_with_iobinding(binding)

    def close(self) -> None:
        self._sessions.clear()
        self._outputs.clear()

    def _load(self, form: GraphName) -> Any:
        options = self._library.SessionOptions()
        options.log_severity_level = 3
        # Idle workers that spin take the cores from PyTorch (head, tail, loss) and from other processes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        path = self._bundle.file(self._graphs[form].file)
        try:
            session = self._open_session(str(path), options)
        except Exception as error:
            raise BackendError(f"ONNX Runtime cannot load {path.name}: {error}") from error
        self._check_session(session, form)
        self._sessions[form] = session
        return session

    def _open_session(self, path: str, options: Any) -> Any:
        return self._library.InferenceSession(path, options, providers=[PROVIDER])

    def _check_session(self, session: Any, form: GraphName) -> None:  # noqa: ARG002
        if session.get_providers() != [PROVIDER]:
            raise BackendError(f"asked ONNX Runtime for {PROVIDER}, it runs {session.get_providers()}")

    def _allocate(self, form: GraphName, sizes: Sizes) -> dict[str, Tensor]:
        outputs = {tensor.name: torch.empty(shape_of(tensor, sizes)) for tensor in self._graphs[form].outputs}
        self._outputs[form, sizes] = outputs
        return outputs


def import_onnxruntime() -> Any:
    """The library.

    Raises:
        MissingExtraError: it is not installed.
        BackendError: it is installed and cannot be imported.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise BackendError(f"onnxruntime is installed and cannot be imported: {error}") from error
        raise MissingExtraError("onnxruntime", "cpu", "the onnxruntime backend") from error
    except ImportError as error:
        raise BackendError(f"onnxruntime is installed and cannot be imported: {error}") from error
    return onnxruntime
