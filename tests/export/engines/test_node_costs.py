"""What the nodes of a graph compute, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ocl_edge_export.engines.node_costs import node_costs

RNG = np.random.default_rng(3)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """image [N,3,6,8] -> convolution, 4 channels, stride 2 -> PReLU -> matrix product over its columns."""
    weights = {
        "level1.conv.weight": RNG.normal(size=(4, 3, 3, 3)),
        "level1.act.weight": RNG.normal(size=(4, 1, 1)),
        "top.weight": RNG.normal(size=(4, 5)),
    }
    nodes = [
        helper.make_node(
            "Conv", ["image", "level1.conv.weight"], ["c"], name="conv", strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("PRelu", ["c", "level1.act.weight"], ["p"], name="prelu"),
        helper.make_node("Transpose", ["p"], ["t"], name="turn", perm=[0, 2, 3, 1]),
        helper.make_node("Sigmoid", ["t"], ["s"], name="squash"),
        helper.make_node("MatMul", ["s", "top.weight"], ["y"], name="product"),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 6, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 4, 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "given.onnx")
    return tmp_path / "given.onnx"


def test_operations(graph: Path) -> None:
    costs = node_costs(onnx.load(graph))
    assert costs["conv"].operations == 2 * (3 * 4) * 4 * (3 * 3 * 3)
    assert costs["prelu"].operations == 4 * 3 * 4
    assert costs["turn"].operations == 0
    assert costs["product"].operations == 2 * (3 * 4) * 4 * 5


def test_a_node_without_weights_belongs_to_the_module_before_it(graph: Path) -> None:
    costs = node_costs(onnx.load(graph))
    assert [costs[name].module for name in ("conv", "prelu", "turn", "squash", "product")] == [
        "level1.conv",
        "level1.act",
        "level1.act",
        "level1.act",
        "top",
    ]
