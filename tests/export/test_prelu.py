"""PReLU without the operator: equal to it to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from ocl_edge_export.prelu import replace_prelus

IMAGE = np.random.default_rng(3).normal(size=(2, 4, 6, 8)).astype(np.float32)
IMAGE[0, :, 0, 0] = 0, -0.0, np.inf, 1e-40


def graph(slope: np.ndarray, given: bool = False) -> onnx.ModelProto:
    """A PReLU whose slopes are a weight, or ``given`` as an input."""
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4, 6, 8])]
    if given:
        inputs.append(helper.make_tensor_value_info("slope", TensorProto.FLOAT, slope.shape))
    made = helper.make_graph(
        [helper.make_node("PRelu", ["image", "slope"], ["y"], name="act")],
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 6, 8])],
        [] if given else [numpy_helper.from_array(slope, "slope")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def output_of(model: onnx.ModelProto, **more: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"image": IMAGE, **more})
    return output


@pytest.mark.parametrize("given", [False, True], ids=["weights", "computed"])
def test_values_are_those_of_prelu_for_any_slope(given: bool) -> None:
    slope = np.array((0.25, 0.0, -2.0, 1.5), np.float32).reshape(4, 1, 1)
    more = {"slope": slope} if given else {}
    model = graph(slope, given)
    replace_prelus(model)
    onnx.checker.check_model(model, full_check=True)
    assert "PRelu" not in {node.op_type for node in model.graph.node}
    finite = np.isfinite(IMAGE)
    np.testing.assert_array_equal(output_of(model, **more)[finite], output_of(graph(slope))[finite])


def test_openvino_makes_a_prelu_of_it_again(tmp_path: Path) -> None:
    model = graph(np.full((4, 1, 1), 0.25, np.float32))
    replace_prelus(model)
    onnx.save(model, tmp_path / "g.onnx")
    compiled = openvino.Core().compile_model(tmp_path / "g.onnx", "CPU")
    kinds = {str(node.get_rt_info()["layerType"]) for node in compiled.get_runtime_model().get_ops()}
    assert len(kinds - {"Input", "Output", "Const", "Reorder"}) == 1, kinds
