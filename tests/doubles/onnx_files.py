"""ONNX files written node by node, as exporters leave them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Node = tuple[str, list[str], list[str], dict[str, Any]]
"""Operator, inputs, outputs, attributes; or, for text, its name under the attribute ``name``."""


def write_graph(
    path: Path,
    nodes: Sequence[Node],
    tensors: dict[str, Any],
    image: Sequence[int | str] = ("n", 3, 16, 24),
    output: str = "out",
    opset: int = 18,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Write a graph: image -> ``output``; returns its path."""
    graph = helper.make_graph(
        [helper.make_node(operator, i, o, **attributes) for operator, i, o, attributes in nodes],
        "graph",
        [helper.make_tensor_value_info("image", kind, list(image))],
        [helper.make_tensor_value_info(output, kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 9
    path.write_bytes(model.SerializeToString())
    return path


def segmenter(seed: int = 0, classes: int = 5, width: int = 8) -> tuple[list[Node], dict[str, Any]]:
    """Convolution, norm, ReLU, classifier, resize: nodes and tensors."""
    random = np.random.default_rng(seed)

    def numbers(*shape: int) -> Any:
        return random.normal(size=shape).astype(np.float32)

    tensors = {
        "stem.0.weight": numbers(width, 3, 3, 3),
        "stem.1.weight": 1 + numbers(width) / 10,
        "stem.1.bias": numbers(width),
        "stem.1.running_mean": numbers(width),
        "stem.1.running_var": 1 + numbers(width) ** 2,
        "head.weight": numbers(classes, width, 1, 1),
        "head.bias": numbers(classes),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nodes: list[Node] = [
        ("Conv", ["image", "stem.0.weight"], ["a"], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("BatchNormalization", ["a", *(f"stem.1.{n}" for n in NORM)], ["b"], {"epsilon": 1e-3}),
        ("Relu", ["b"], ["c"], {}),
        ("Conv", ["c", "head.weight", "head.bias"], ["logits"], {}),
        ("Resize", ["logits", "", "scales"], ["out"], {"mode": "linear"}),
    ]
    return nodes, tensors


NORM = ("weight", "bias", "running_mean", "running_var")


def in_own_file(path: Path, location: str) -> Path:
    """Move the tensors of a graph into the file of that name beside it."""
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path
