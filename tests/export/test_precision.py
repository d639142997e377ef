"""Graphs in 16 and 8 bits: what stays float32, how far they are, and what the gate refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BuildError, ParityError, UsageError
from ocl_edge.network.form_names import FORMS, FormName
from ocl_edge.scoring.labels import read_label_space
from ocl_edge_export.engines import precision_gate
from ocl_edge_export.engines.precision_gate import check_precision, read_labels
from ocl_edge_export.form_inputs import inputs_of_form
from ocl_edge_export.gate_runners import run_onnx
from ocl_edge_export.outside_weights import load_graph
from ocl_edge_export.parity import PRECISION_TOLERANCES, PrecisionTolerances
from ocl_edge_export.precision import to_sixteen_bits, write_converted
from ocl_edge_export.sample_images import noise_images

STRICT = PrecisionTolerances(class_disagreement=-1.0, miou_loss=0.0)


def source_of(bundle: Bundle, form: FormName) -> Path:
    return bundle.file(bundle.manifest.forms[form].file)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


@pytest.mark.parametrize("form", FORMS)
def test_fp16_is_close_to_float32_and_not_equal(bundle: Bundle, form: FormName, tmp_path: Path) -> None:
    images = noise_images(bundle.manifest.input)
    converted = write_converted(bundle, form, "fp16", tmp_path, images)
    inputs = inputs_of_form(bundle, form, images)
    exact, half = run_onnx(source_of(bundle, form), inputs), run_onnx(converted, inputs)
    for name, value in exact.items():
        assert half[name].dtype is torch.float32
        relative = float((half[name] - value).abs().max() / value.abs().max())
        assert 0 < relative < 5e-3, name


@pytest.mark.parametrize("form", FORMS)
def test_inputs_outputs_and_every_statistic_stay_float32(bundle: Bundle, form: FormName) -> None:
    converted = to_sixteen_bits(load_graph(source_of(bundle, form)), "fp16")
    types = types_of(converted)
    for value in (*converted.graph.input, *converted.graph.output):
        assert types[value.name] == TensorProto.FLOAT, value.name
    convolutions = [node for node in converted.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 5
    assert all(types[name] == TensorProto.FLOAT16 for node in convolutions for name in node.input)
    over_batch = [
        node
        for node in converted.graph.node
        if node.op_type == "ReduceMean"
        and 0 in numpy_helper.to_array(_constant(converted, node.input[1])).tolist()
    ]
    assert len(over_batch) == (6 if form == "measured" else 0)  # mean and variance of the unpinned norms
    assert all(types[node.input[0]] == TensorProto.FLOAT for node in over_batch)
    makers = {output: node for node in converted.graph.node for output in node.output}
    squares = [makers[node.input[0]] for node in over_batch if makers[node.input[0]].op_type == "Mul"]
    assert len(squares) == len(over_batch) // 2  # not computed in 16 bits and cast
    assert all(types[name] == TensorProto.FLOAT for node in squares for name in node.input)
    norms = [node for node in converted.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == (0 if form == "plain" else 4)
    assert all(types[name] == TensorProto.FLOAT for node in norms for name in (*node.input, *node.output))
    assert all(types[n.input[0]] == TensorProto.FLOAT for n in converted.graph.node if n.op_type == "Split")


def _constant(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def test_norms_of_the_plain_form_are_folded_in_float32(bundle: Bundle) -> None:
    converted = to_sixteen_bits(load_graph(source_of(bundle, "plain")), "fp16")
    assert not [node for node in converted.graph.node if node.op_type == "BatchNormalization"]


def test_bf16_is_emulated_by_rounding_every_result(bundle: Bundle) -> None:
    source = source_of(bundle, "plain")
    emulated = to_sixteen_bits(load_graph(source), "bf16", emulate=True)
    inputs = inputs_of_form(bundle, "plain", noise_images(bundle.manifest.input))
    value = run_onnx(source, inputs, emulated.SerializeToString())["features_0"]
    assert torch.equal(value, value.bfloat16().float())
    exact = run_onnx(source, inputs)["features_0"]
    assert 1e-3 < float((value - exact).abs().max() / exact.abs().max()) < 0.05


def test_weights_outside_the_range_of_fp16_are_refused() -> None:
    weight = numpy_helper.from_array(np.full((1, 1, 1, 1), 1e6, np.float32), "weight")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 4])
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["y"])], "g", [image], [y], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    with pytest.raises(BuildError, match="the weights weight exceed the range of fp16; use bf16"):
        to_sixteen_bits(model, "fp16")
    to_sixteen_bits(model, "bf16")


def test_int8_quantises_convolutions_with_symmetric_ranges(bundle: Bundle, tmp_path: Path) -> None:
    images = noise_images(bundle.manifest.input, count=4)
    converted = write_converted(bundle, "modulated", "int8", tmp_path, images)
    model = onnx.load(converted)
    quantise = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert quantise
    for node in quantise:
        zero = _constant(model, node.input[2])
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()
    report = check_precision(bundle, "modulated", converted, "int8", images)
    assert 0 < report["features_relative"] < 0.2


def test_the_gate_refuses_with_the_numbers(bundle: Bundle, tmp_path: Path) -> None:
    images = noise_images(bundle.manifest.input)
    converted = write_converted(bundle, "plain", "fp16", tmp_path, images)
    with pytest.raises(ParityError, match=r"plain form in fp16 .*\n.*another class: 0\.\d\d %") as error:
        check_precision(bundle, "plain", converted, "fp16", images, tolerances=STRICT)
    assert "no engine was built" in str(error.value)


def test_a_broken_conversion_does_not_pass(bundle: Bundle, tmp_path: Path) -> None:
    images = noise_images(bundle.manifest.input)
    converted = write_converted(bundle, "plain", "fp16", tmp_path, images)
    model = onnx.load(converted)
    weight = next(
        t for t in model.graph.initializer if "weight" in t.name and t.data_type == TensorProto.FLOAT16
    )
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(model, converted)
    with pytest.raises(ParityError, match="too far from float32"):
        check_precision(bundle, "plain", converted, "fp16", images)


def test_labels_add_the_change_of_miou(bundle: Bundle, tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for index in range(2):
        Image.fromarray(np.full((40, 50, 3), 90 * index, np.uint8)).save(images / f"{index}.png")
        Image.fromarray(np.full((40, 50), index, np.uint8)).save(labels / f"{index}.png")
    space = read_label_space(bundle.manifest, None, None)
    found = read_labels(labels, images, space, at_most=4)
    assert [int(label.max()) for label in found] == [0, 1]
    converted = write_converted(bundle, "plain", "fp16", tmp_path, noise_images(bundle.manifest.input))
    report = check_precision(bundle, "plain", converted, "fp16", noise_images(bundle.manifest.input), found)
    assert abs(report["miou_change"]) <= PRECISION_TOLERANCES["fp16"].miou_loss
    Image.fromarray(np.full((40, 50), 99, np.uint8)).save(labels / "1.png")
    with pytest.raises(UsageError, match=r"1\.png holds \[99\], the classes are 0 to 4 \(255 .*--label-map"):
        read_labels(labels, images, space, at_most=4)


def test_labels_of_other_classes_are_compared_through_the_map(bundle: Bundle, tmp_path: Path) -> None:
    """Labels are the exact masks in classes of their own, so the change is the other graph's mIoU minus 1."""
    class_map = np.array([2, 0, 1, 1, 0], np.uint8)
    (tmp_path / "map.json").write_text(json.dumps(class_map.tolist()))
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["a", "b", "c"], "ignore_index": 3}))
    space = read_label_space(bundle.manifest, tmp_path / "map.json", tmp_path / "classes.json")
    images, finish = noise_images(bundle.manifest.input), precision_gate.MaskMaker(bundle)
    wrong = tmp_path / "plain.fp16.onnx"
    model = load_graph(bundle.file("backbone.plain.onnx"))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "right.weight")
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(model, wrong)
    exact, close = (
        [
            class_map[finish.mask([run_onnx(path, {"image": image[None]})["features_0"]], 40, 50)]
            for image in images
        ]
        for path in (bundle.file("backbone.plain.onnx"), wrong)
    )
    ours, theirs = np.stack(close), np.stack(exact)
    iou = [
        ((ours == c) & (theirs == c)).sum() / ((ours == c) | (theirs == c)).sum() for c in np.unique(theirs)
    ]
    anything = PrecisionTolerances(class_disagreement=1.0, miou_loss=1.0)
    report = check_precision(bundle, "plain", wrong, "fp16", images, exact, space, anything)
    assert report["miou_change"] == pytest.approx(np.mean(iou) - 1)
    assert report["miou_change"] < -0.05


@pytest.fixture
def bundle(small_bundle: Bundle) -> Bundle:
    return small_bundle


def overflowing(file: Path) -> onnx.ModelProto:
    """A small network's plain form in which one layer's values leave fp16 and the next brings them back."""
    model = load_graph(file)
    for tensor in model.graph.initializer:
        factor = {"join_norm.weight": 1e4, "join_norm.bias": 1e4, "narrow.weight": 1e-4}.get(tensor.name)
        if factor:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name)
            )
    return model


def test_hidden_values_beyond_fp16_are_refused_with_their_layer(bundle: Bundle, tmp_path: Path) -> None:
    """ONNX Runtime's CPU kernels keep them: the masks alone would pass."""
    copied = Bundle.open(Path(shutil.copytree(bundle.path, tmp_path / "bundle")))
    onnx.save(overflowing(source_of(copied, "plain")), source_of(copied, "plain"))
    images = 10 * noise_images(copied.manifest.input)
    converted = write_converted(copied, "plain", "fp16", tmp_path, images)
    with pytest.raises(
        ParityError, match=r"fp16 cannot hold .*\n.*join_norm \(operator .*\) reaches \d.*e\+0[56]"
    ):
        check_precision(copied, "plain", converted, "fp16", images)
    as_bf16 = write_converted(copied, "plain", "bf16", tmp_path, images)
    with pytest.raises(ParityError, match="too far from float32"):  # it holds them
        check_precision(copied, "plain", as_bf16, "bf16", images, tolerances=STRICT)
