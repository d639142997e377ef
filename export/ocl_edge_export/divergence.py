"""Where an exported form parts from its reference: the first layer whose values differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, fx

from ocl_edge_export.differences import relative_difference
from ocl_edge_export.gate_runners import run_onnx
from ocl_edge_export.parity_cases import Case
from ocl_edge_export.split import owner


def first_divergence(case: Case, path: Path, tolerance: float) -> str:
    """Name of the first captured operator whose ONNX value differs from PyTorch's, with its layer.

    Args:
        case: that failed.
        path: of its ONNX file.
        tolerance: largest absolute difference over the largest absolute value.
    """
    model = onnx.load(path, load_external_data=False)
    reference = _reference_values(case)
    computed = {name for node in model.graph.node for name in node.output}
    shared = [name for name in reference if name in computed]
    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shared if name not in outputs)
    values = run_onnx(path, case.inputs, model.SerializeToString())
    for name in shared:
        expected, layer = reference[name]
        value = values[name]
        if value.shape == expected.shape and not relative_difference(value, expected) <= tolerance:
            size = relative_difference(value, expected)
            return f"{layer or 'the network itself'} (operator {name}, relative {size:.2e})"
    return "no single operator of the backbone; the outputs themselves differ"


def _reference_values(case: Case) -> dict[str, tuple[Tensor, str]]:
    """Every floating-point value of the reference graph, in order, with the layer it was captured in."""
    values: dict[str, tuple[Tensor, str]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.op == "call_function" and isinstance(result, Tensor) and result.is_floating_point():
                values[n.name] = (result, owner(n))
            return result

    inputs = case.inputs.values() if case.reference != "the network" else (case.images,)
    with torch.no_grad():
        Recorder(case.reference_form).run(*inputs)
    return values
