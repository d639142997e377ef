from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ocl_edge.bundle.onnx_check import check_graph
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError

IMAGE = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
RESULT = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])


def model_of(*nodes: onnx.NodeProto, tensors: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", [IMAGE], [RESULT], list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def external(**place: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def problem_of(path: Path, model: onnx.ModelProto | bytes) -> str:
    (path / "weights").write_bytes(bytes(16))
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (path / "g.onnx").write_bytes(content)
    with pytest.raises(BundleError) as caught:
        check_graph(path / "g.onnx", ["g.onnx", "weights"])
    return str(caught.value)


ADD = helper.make_node("Add", ["x", "w"], ["y"])
RELU = helper.make_node("Relu", ["x"], ["y"])


def test_every_graph_that_export_writes_passes(small_bundle: Bundle) -> None:
    for graph in small_bundle.manifest.graphs:
        assert small_bundle.graph_file(graph).is_file()


def test_tensors_beside_the_graph_are_read(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(16))
    model = model_of(ADD, tensors=(external(location="weights", offset="0", length="16"),))
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    check_graph(tmp_path / "g.onnx", ["weights"])


@pytest.mark.parametrize(
    "location",
    ["../weights", "/etc/passwd", "./weights", "", "other", "weights\0", "x/../weights", "file:weights"],
)
def test_tensors_anywhere_else_are_refused(tmp_path: Path, location: str) -> None:
    tensor = external(location=location)
    assert "which is no file of the bundle" in problem_of(tmp_path, model_of(ADD, tensors=(tensor,)))
    in_attribute = helper.make_node("Constant", [], ["w"], value=tensor)
    assert "which is no file of the bundle" in problem_of(tmp_path, model_of(in_attribute, ADD))
    inside = helper.make_graph([RELU], "then", [], [RESULT], [tensor])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inside, else_branch=inside)
    assert "which is no file of the bundle" in problem_of(tmp_path, model_of(branch))


@pytest.mark.parametrize("place", [{"offset": "8", "length": "9"}, {"offset": "17"}, {"length": "9" * 18}])
def test_tensors_beyond_the_end_of_their_file_are_refused(tmp_path: Path, place: dict[str, str]) -> None:
    tensor = external(location="weights", **place)
    assert "beyond the end of weights" in problem_of(tmp_path, model_of(ADD, tensors=(tensor,)))


@pytest.mark.parametrize("offset", ["-1", "1e3", "٣", "x", "9" * 30])
def test_places_that_are_no_numbers_are_refused(tmp_path: Path, offset: str) -> None:
    tensor = external(location="weights", offset=offset)
    assert "expected offset and length" in problem_of(tmp_path, model_of(ADD, tensors=(tensor,)))


def test_operators_of_other_domains_functions_and_loops_are_refused(tmp_path: Path) -> None:
    foreign = helper.make_node("PyOp", ["x"], ["y"], domain="ai.onnx.contrib")
    assert "domain 'ai.onnx.contrib'" in problem_of(tmp_path, model_of(foreign))
    imported = model_of(RELU)
    imported.opset_import.add(domain="com.microsoft", version=1)
    assert "domain 'com.microsoft'" in problem_of(tmp_path, imported)
    with_function = model_of(RELU)
    with_function.functions.add(name="Relu", domain="")
    assert "functions of its own" in problem_of(tmp_path, with_function)
    for kind in ("Loop", "Scan"):
        assert "need not end" in problem_of(tmp_path, model_of(helper.make_node(kind, ["x"], ["y"])))


def test_graphs_inside_of_graphs_have_an_end(tmp_path: Path) -> None:
    node = RELU
    for _ in range(50):
        inner = helper.make_graph([node], "g", [], [RESULT])
        node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
        if node.ByteSize() > 1 << 20:
            break
    assert "nested deeper than 8" in problem_of(tmp_path, model_of(node))


@pytest.mark.parametrize(
    "content", [b"", b"<?xml version='1.0'?><net/>", b"\x80\x04\x95", b"PK\x03\x04", b"\xff" * 100]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    assert "g.onnx is no graph that is loaded from a bundle" in problem_of(tmp_path, content)


def test_a_cut_graph_is_refused(tmp_path: Path) -> None:
    content = model_of(RELU).SerializeToString()
    for length in range(1, len(content)):
        try:
            onnx.ModelProto.FromString(content[:length])
        except Exception:
            assert "g.onnx is no graph" in problem_of(tmp_path, content[:length])
