"""How the gate runs a form: once on every backend that is installed here and computes on the CPU.

These are not the runtime's backends, which the export does not know; what decides the
numbers is the same: the library, its precision, and whether sizes are fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ocl_edge.errors import MissingExtraError, ParityError
from ocl_edge.openvino_core import openvino_core

Runner = Callable[[Path, Mapping[str, Tensor]], dict[str, Tensor]]
"""ONNX file of a form and its inputs -> its outputs by name."""


def installed_runners() -> dict[str, Runner]:
    """Name of the backend -> runner, beside ONNX Runtime, which the gate itself needs."""
    return {"openvino": OpenVinoRunner()} if find_spec("openvino") else {}


class OnnxRuntimeRunner:
    """ONNX Runtime on the CPU. Keeps the last model."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._session: Any = None

    def __call__(self, path: Path, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Runner`.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
            ParityError: it cannot run the form.
        """
        if path != self._path:
            self._session = None  # its memory goes before the next one comes
            self._session, self._path = _onnx_session(path), path
        return _run_session(self._session, path, inputs)


def run_onnx(path: Path, inputs: Mapping[str, Tensor], model: bytes | None = None) -> dict[str, Tensor]:
    """Run a model once with ONNX Runtime on the CPU.

    Args:
        path: the ONNX file.
        inputs: by name.
        model: replaces the file's own graph; weights are still looked up beside the file.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        ParityError: ONNX Runtime cannot run it.
    """
    return _run_session(_onnx_session(path, model), path, inputs)


def _onnx_session(path: Path, model: bytes | None = None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "cpu", "the parity gate") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if model is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(path.parent)
        )
    with _failures_of(path):
        return onnxruntime.InferenceSession(model or str(path), options, providers=["CPUExecutionProvider"])


def _run_session(session: Any, path: Path, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = [output.name for output in session.get_outputs()]
    with _failures_of(path):
        values = session.run(names, {name: tensor.numpy() for name, tensor in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


@contextmanager
def _failures_of(path: Path) -> Iterator[None]:
    """ONNX Runtime has a class of its own for every kind of failure, with no common one."""
    try:
        yield
    except Exception as error:
        raise ParityError(f"ONNX Runtime cannot run {path.name}: {str(error).strip()[:500]}") from error


class OpenVinoRunner:
    """OpenVINO on the CPU, in float32, every size fixed: as the backend runs it. Keeps the last model."""

    def __init__(self) -> None:
        self._key: tuple[Path, tuple[torch.Size, ...]] | None = None
        self._compiled: Any = None

    def __call__(self, path: Path, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Runner`.

        Raises:
            RuntimeError: OpenVINO cannot read, compile or run the form.
        """
        key = path, tuple(tensor.shape for tensor in inputs.values())
        if key != self._key:
            self._compiled = None  # its memory goes before the next one comes
            core = openvino_core()
            model = core.read_model(str(path))
            model.reshape({name: list(tensor.shape) for name, tensor in inputs.items()})
            properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
            self._compiled, self._key = core.compile_model(model, "CPU", properties), key
        request = self._compiled.create_infer_request()
        values = request.infer({name: tensor.numpy() for name, tensor in inputs.items()})
        return {port.get_any_name(): torch.from_numpy(value.copy()) for port, value in values.items()}
