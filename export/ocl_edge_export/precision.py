"""A form's ONNX graph in another precision. Precision lives in the graph: engines are strongly typed.

fp16 and bf16: the graph computes in 16 bits between float32 inputs and outputs. What
carries the adaptation stays float32: norm vectors, statistics (sums over a whole image
do not fit 11 bits), their mixing, and the multiplication and addition that apply them.
int8: ungrouped convolutions between quantise and dequantise nodes, ranges from calibration
images, all else float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BuildError
from ocl_edge.network.form_names import FormName
from ocl_edge.tensorrt.key import Precision
from ocl_edge_export.float32_nodes import constant_values, fold_batch_norms, names_of_float32_nodes
from ocl_edge_export.form_inputs import inputs_of_form
from ocl_edge_export.outside_weights import load_graph

LOW_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
LARGEST_INLINE_BYTES = 1 << 30
LARGEST = "__largest"

# Inputs that ONNX wants in float32 whatever the type of the data.
FLOAT32_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}


def write_converted(
    bundle: Bundle, form: FormName, precision: Precision, directory: Path, images: Tensor
) -> Path:
    """Write a form in ``precision`` (not fp32) as an ONNX file of its own.

    Args:
        bundle: whose form.
        form: which one.
        precision: fp16, bf16 or int8.
        directory: where to.
        images: float32 [N, 3, H, W], normalised; int8 takes its ranges from them.

    Raises:
        BuildError: the graph cannot be converted.
    """
    source = bundle.graph_file(form)
    target = directory / f"{form}.{precision}.onnx"
    if precision == "int8":
        _quantise(source, target, bundle, form, images)
        return target
    converted = to_sixteen_bits(load_graph(source), precision)
    onnx.save(
        converted,
        target,
        save_as_external_data=converted.ByteSize() > LARGEST_INLINE_BYTES,
        location=f"{target.name}.weights",
    )
    return target


def to_sixteen_bits(model: onnx.ModelProto, precision: Precision, emulate: bool = False) -> onnx.ModelProto:
    """A copy that computes in fp16 or bf16 between float32 inputs and outputs.

    Args:
        model: with its weights loaded.
        precision: fp16 or bf16.
        emulate: compute in float32 and round every result instead. That is what 16-bit
            layers with float32 accumulators give; a CPU has none. The graph also gives the
            outputs of `largest_values`.

    Raises:
        BuildError: the graph has subgraphs.
    """
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        raise BuildError("a graph with subgraphs (If, Loop, Scan) cannot be converted to 16 bits")
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    fold_batch_norms(converted)
    return _Conversion(converted, LOW_TYPES[precision], emulate).run()


def largest_values(model: onnx.ModelProto) -> list[str]:
    """Outputs of an emulated graph that hold the largest absolute value before each rounding, in order."""
    return [o.name for o in model.graph.output if o.name.endswith(LARGEST)]


class _Conversion:
    """One pass over the nodes in order, with a cast wherever a value is wanted in the other type."""

    def __init__(self, model: onnx.ModelProto, low: int, emulate: bool) -> None:
        self.model, self.low, self.emulate = model, low, emulate
        self.constants = constant_values(model)
        self.float32 = names_of_float32_nodes(model)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.low_values: set[str] = set()
        self.float32_values = {
            i.name for i in model.graph.input if i.type.tensor_type.elem_type == TensorProto.FLOAT
        }
        self.casts: dict[tuple[str, int], str] = {}

    def run(self) -> onnx.ModelProto:
        floats = _float_values(self.model)
        for node in self.model.graph.node:
            if node.op_type == "Constant":
                continue
            in_float32 = node.output[0] in self.float32
            kept = FLOAT32_INPUTS.get(node.op_type, ())
            for index, name in enumerate(node.input):
                node.input[index] = self._as_wanted(name, in_float32 or index in kept)
            is_float = node.output[0] in floats
            self.nodes.append(node)
            (self.float32_values if in_float32 else self.low_values).update(node.output if is_float else ())
            if self.emulate and is_float and not in_float32:
                self._round(node)
        for output in self.model.graph.output:
            if output.name in self.low_values and not self.emulate:
                self._rename_and_cast(output.name)
        graph = self.model.graph
        for field in (graph.node, graph.initializer, graph.value_info):
            del field[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.initializers.values())
        return self.model

    def _as_wanted(self, name: str, in_float32: bool) -> str:
        if name in self.constants:
            return self._constant(name, in_float32)
        if in_float32 and name in self.low_values and not self.emulate:
            return self._cast(name, TensorProto.FLOAT)
        if not in_float32 and name in self.float32_values:
            return self._cast(name, self.low)
        return name

    def _constant(self, name: str, in_float32: bool) -> str:
        value = self.constants[name]
        if value.dtype != np.float32 or in_float32:
            self.initializers[name] = numpy_helper.from_array(value, name)
            return name
        low_name = f"{name}__low"
        if low_name not in self.initializers:
            self.initializers[low_name] = self._low_tensor(value, low_name)
        return low_name

    def _low_tensor(self, value: np.ndarray[Any, Any], name: str) -> TensorProto:
        dtype = helper.tensor_dtype_to_np_dtype(self.low)
        if dtype == np.float16 and np.abs(value).max(initial=0) > np.finfo(np.float16).max:
            raise BuildError(f"the weights {name.removesuffix('__low')} exceed the range of fp16; use bf16")
        rounded = value.astype(dtype)
        return numpy_helper.from_array(rounded.astype(np.float32) if self.emulate else rounded, name)

    def _cast(self, name: str, to: int) -> str:
        if (name, to) not in self.casts:
            self.casts[name, to] = f"{name}__{'float32' if to == TensorProto.FLOAT else 'low'}"
            self._append_cast(name, self.casts[name, to], to)
        return self.casts[name, to]

    def _append_cast(self, name: str, target: str, to: int) -> None:
        if self.emulate and to != TensorProto.FLOAT:
            self._watch(name)
            self.nodes.append(helper.make_node("Cast", [name], [f"{target}__bits"], f"round_{target}", to=to))
            name, to = f"{target}__bits", TensorProto.FLOAT
        self.nodes.append(helper.make_node("Cast", [name], [target], f"cast_{target}", to=to))

    def _watch(self, name: str) -> None:
        """One more output of the graph: the largest absolute value of another one."""
        size, largest = f"{name}__size", f"{name}{LARGEST}"
        self.nodes.append(helper.make_node("Abs", [name], [size], f"size_{name}"))
        self.nodes.append(helper.make_node("ReduceMax", [size], [largest], f"largest_{name}", keepdims=0))
        self.model.graph.output.append(helper.make_tensor_value_info(largest, TensorProto.FLOAT, []))

    def _round(self, node: onnx.NodeProto) -> None:
        for index, name in enumerate(node.output):
            node.output[index] = f"{name}__exact"
            self._append_cast(f"{name}__exact", name, self.low)

    def _rename_and_cast(self, name: str) -> None:
        """A graph output keeps its name and float32; the value inside gets another name."""
        inside = f"{name}__low_output"
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, value in enumerate(names):
                    if value == name:
                        names[index] = inside
        self.nodes.append(helper.make_node("Cast", [inside], [name], f"cast_{name}", to=TensorProto.FLOAT))


def _float_values(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 values that nodes compute."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    known = {
        v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *inferred.graph.output)
    }
    missing = [name for node in model.graph.node for name in node.output if name and name not in known]
    if missing:
        raise BuildError(f"the type of {missing[0]} is not known; the graph cannot be converted to 16 bits")
    return {name for name, kind in known.items() if kind == TensorProto.FLOAT}


def _convolutions_for_float32(model: onnx.ModelProto) -> list[str]:
    """The first and the last convolution, and grouped ones: few values a sum, much lost, little gained."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    grouped = [n.name for n in convolutions if any(a.name == "group" and a.i > 1 for a in n.attribute)]
    return [*grouped, convolutions[0].name, convolutions[-1].name] if convolutions else []


def _quantise(source: Path, target: Path, bundle: Bundle, form: FormName, images: Tensor) -> None:
    """Convolutions in int8, as TensorRT wants it: symmetric, weights quantised, biases in float32."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, Any]] = iter(
                [
                    {
                        name: tensor.numpy()
                        for name, tensor in inputs_of_form(bundle, form, image[None]).items()
                    }
                    for image in images
                ]
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self.feeds, None)

    quantize_static(
        load_graph(source),
        str(target),
        Images(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=_convolutions_for_float32(onnx.load(source, load_external_data=False)),
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
        },
    )
