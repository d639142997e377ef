"""Write the forms of a backbone as ONNX files that share one weight file."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import TensorProto
from onnx.external_data_helper import set_external_data
from torch import Tensor, fx

from ocl_edge.errors import CaptureError
from ocl_edge.network.form_names import WEIGHT_FILE, FormName
from ocl_edge.network.form_tensors import input_shapes, output_shapes
from ocl_edge.network.forms import build_form, distinct_form, list_norms
from ocl_edge.network.weight_file import bytes_of, sha256, write_weights
from ocl_edge_export.capture import LARGEST_BATCH, quiet_exporter
from ocl_edge_export.prelu import replace_prelus

OPSET = 20
"""Newest that ONNX Runtime 1.20 and TensorRT 10.3 both read."""

ONLY_IN_ONNX = "onnx:"
"""Begins no name of a network's tensor."""

SHARED_FROM_BYTES = 64
INTEGERS_FROM_BYTES = 1024
"""Smaller tensors stay in the ONNX files: scalars, shapes and paddings, which parsers want to see."""


def export_form(
    backbone: fx.GraphModule, form: FormName, image: Tensor, features: list[list[int]], stat_rows: int
) -> onnx.ModelProto:
    """One form as an ONNX model with a free batch size, norms unfolded, opset `OPSET`.

    Without norms every form is the plain one, inputs and outputs included.

    Args:
        backbone: plain backbone from `split_network`.
        form: which one.
        image: float32 [2, 3, H, W]; fixes height and width.
        features: shapes of the feature tensors that the backbone hands on, without the batch.
        stat_rows: `measured` samples every n-th row.

    Raises:
        CaptureError: the ONNX exporter cannot express the graph.
    """
    form = distinct_form(form, list_norms(backbone))
    module = build_form(backbone, form, stat_rows)
    channels = sum(norm.channels for norm in list_norms(backbone))
    names = input_shapes(form, (image.shape[1], image.shape[2], image.shape[3]), channels)
    outputs = list(output_shapes(form, features, channels))
    inputs = (image, *(torch.zeros(shape) for name, shape in names.items() if name != "image"))
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    shapes = ({0: batch}, *({} for _ in inputs[1:]))
    try:
        with torch.no_grad(), quiet_exporter():
            program = torch.export.export(module, inputs, dynamic_shapes=shapes)
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                optimize=False,
                verbose=False,
                input_names=list(names),
                output_names=outputs,
            )
    except Exception as error:
        raise CaptureError(f"the {form} form cannot be written as ONNX: {error}") from error
    assert exported is not None
    return _simplified(exported.model, outputs)


def _simplified(model: object, outputs: list[str]) -> onnx.ModelProto:
    """Functions inlined and constants folded; BatchNormalization stays, so that the forms share weights."""
    import onnx_ir
    from onnxscript import optimizer

    assert isinstance(model, onnx_ir.Model)
    optimizer.inline(model)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    for output, name in zip(model.graph.outputs, outputs, strict=True):
        output.name = name  # where the last node was folded away, its input has taken its place
    for node in model.graph:
        node.metadata_props.clear()  # stack traces with paths of the exporting machine
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    proto = onnx_ir.serde.serialize_model(model)
    proto.producer_name = "ocl-edge"
    proto.producer_version = ""
    replace_prelus(proto)
    return proto


def write_forms(models: dict[FormName, onnx.ModelProto], tensors: dict[str, Tensor], directory: Path) -> None:
    """Write the weight file and the ``backbone.FORM.onnx`` files, whose tensors lie in it.

    Args:
        models: from `export_form`.
        tensors: of the bundle's programs. What only the ONNX files have (pooling matrices,
            folded constants) is stored beside them.
        directory: of the bundle.
    """
    stored = dict(tensors)
    known = {sha256(bytes_of(tensor)) for tensor in tensors.values()}
    for model in models.values():
        for tensor in model.graph.initializer:
            values = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            digest = sha256(bytes_of(values))
            if _lies_outside(values) and digest not in known:
                known.add(digest)
                stored[f"{ONLY_IN_ONNX}{len(stored) - len(tensors)}"] = values
    offsets = write_weights(stored, directory / WEIGHT_FILE)
    for form, model in models.items():
        for tensor in model.graph.initializer:
            _move_outside(tensor, offsets)
        (directory / form_file(form)).write_bytes(model.SerializeToString(deterministic=True))


def form_file(form: FormName) -> str:
    return f"backbone.{form}.onnx"


def _lies_outside(values: Tensor) -> bool:
    return values.nbytes >= (SHARED_FROM_BYTES if values.is_floating_point() else INTEGERS_FROM_BYTES)


def _move_outside(tensor: TensorProto, offsets: dict[str, int]) -> None:
    values = onnx.numpy_helper.to_array(tensor)
    if not _lies_outside(torch.from_numpy(values.copy())):
        return
    data = values.tobytes()
    tensor.raw_data = data  # set_external_data insists on it
    set_external_data(tensor, WEIGHT_FILE, offset=offsets[sha256(data)], length=len(data))
    tensor.ClearField("raw_data")
    for field in ("float_data", "int64_data", "int32_data", "double_data"):
        tensor.ClearField(field)
