"""The gate of a precision: its masks against float32's, before anything is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_head, load_tail
from ocl_edge.errors import ParityError, UsageError
from ocl_edge.images import read_class_map
from ocl_edge.masks import Mask
from ocl_edge.network.form_names import FormName
from ocl_edge.network.form_tensors import features_among
from ocl_edge.network.preprocess import mask_of_frame
from ocl_edge.scoring.labels import LabelSpace, read_label_space
from ocl_edge.tensorrt.key import Precision
from ocl_edge_export.differences import relative_difference
from ocl_edge_export.form_inputs import inputs_of_form
from ocl_edge_export.gate_runners import run_onnx
from ocl_edge_export.outside_weights import load_graph
from ocl_edge_export.parity import PRECISION_TOLERANCES, PrecisionTolerances
from ocl_edge_export.precision import LOW_TYPES, largest_values, to_sixteen_bits
from ocl_edge_export.sample_images import choose_images

Inputs = dict[str, Tensor]
LARGEST_FINITE = {"fp16": 65504.0, "bf16": float(torch.finfo(torch.bfloat16).max)}


def check_precision(
    bundle: Bundle,
    form: FormName,
    converted: Path,
    precision: Precision,
    images: Tensor,
    labels: list[Mask] | None = None,
    space: LabelSpace | None = None,
    tolerances: PrecisionTolerances | None = None,
) -> dict[str, Any]:
    """Run a form in float32 and in ``precision`` with ONNX Runtime; compare the masks of every output.

    All outputs of a bundle share the engine: one whose mask does not hold refuses it for all. 16 bits are
    emulated, too: computed in float32 with every result rounded. bf16 has no CPU kernels, and those of fp16
    keep in float32 what a GPU loses.

    Args:
        bundle: whose form; of several outputs the one whose labels are given.
        form: which form.
        converted: its ONNX file in ``precision``.
        precision: of that file.
        images: float32 [N, 3, H, W], normalised.
        labels: class indices of each image, uint8 [H, W].
        space: their classes; None: the bundle's.
        tolerances: by default those of `PRECISION_TOLERANCES`.

    Returns:
        The differences, for the engine's record.

    Raises:
        ParityError: a value leaves the range of the precision (the layer is named), too many
            pixels change class, or too much mIoU is lost.
    """
    tolerances = tolerances or PRECISION_TOLERANCES[precision]
    outputs = _run_both(bundle, form, converted, precision, images, labels)
    compared = outputs[bundle.output]
    space = space or read_label_space(bundle.manifest, None, None)
    change = _miou_change((compared.exact, compared.close), labels, space) if labels else None
    worst = max(outputs, key=lambda name: outputs[name].disagreement)
    disagreement = outputs[worst].disagreement
    report = {
        "images": len(images),
        "emulated": precision == "bf16",
        "features_relative": max(each.features_relative for each in outputs.values()),
        "class_disagreement": disagreement,
        "miou_change": change,
        "tolerances": asdict(tolerances),
    }
    # written so that NaN fails
    passes = disagreement <= tolerances.class_disagreement and (
        change is None or change >= -tolerances.miou_loss
    )
    if not passes:
        raise ParityError(_explain(form, precision, worst, report, tolerances))
    return report


@dataclass
class _Compared:
    """Masks in float32 and in another precision, and how far they are apart."""

    exact: list[Mask] = field(default_factory=list)
    close: list[Mask] = field(default_factory=list)
    features_relative: float = 0.0

    @property
    def disagreement(self) -> float:
        """Share of pixels whose class differs, mean of all images."""
        shares = [float((a != b).mean()) for a, b in zip(self.exact, self.close, strict=True)]
        return sum(shares) / len(shares)


def _run_both(
    bundle: Bundle,
    form: FormName,
    converted: Path,
    precision: Precision,
    images: Tensor,
    labels: list[Mask] | None,
) -> dict[str, _Compared]:
    """Of every output, by its name."""
    source = bundle.graph_file(form)
    makers = {name: MaskMaker(each) for name, each in Bundle.open_outputs(bundle.path, verify=False).items()}
    outputs = {name: _Compared() for name in makers}
    run = _runner_of(source, converted, precision)
    sizes = [label.shape for label in labels] if labels else [tuple(images.shape[2:])] * len(images)
    for image, (height, width) in zip(images, sizes, strict=True):
        inputs = inputs_of_form(bundle, form, image[None])
        exactly, closely = run_onnx(source, inputs), run(inputs)
        for name, finish in makers.items():
            exact, close = finish.features(exactly), finish.features(closely)
            apart = max(relative_difference(c, e) for c, e in zip(close, exact, strict=True))
            compared = outputs[name]
            compared.features_relative = max(compared.features_relative, apart)
            compared.exact.append(finish.mask(exact, height, width))
            compared.close.append(finish.mask(close, height, width))
    return outputs


class MaskMaker:
    """Head and tail of a bundle: named features -> mask.

    Attributes:
        output: its name, among several.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.output = bundle.output
        self._head, self._tail = load_head(bundle), load_tail(bundle)
        self._frame, self._read = bundle.manifest.input, bundle.manifest.read_by_head

    def features(self, outputs: dict[str, Tensor]) -> list[Tensor]:
        """Those that the head reads."""
        found = features_among(outputs)
        return [found[index] for index in self._read]

    @torch.no_grad()
    def mask(self, features: list[Tensor], height: int, width: int) -> Mask:
        logits, size = self._head(*features)[0], (height, width)
        return mask_of_frame(lambda *sides: self._tail.mask(logits, *sides), self._frame, size, size)


def read_labels(labels: Path, images: Path, space: LabelSpace, at_most: int) -> list[Mask]:
    """The label images that belong to the chosen calibration images.

    Raises:
        UsageError: one is missing, unreadable, or holds a value that is no class.
    """
    found = []
    for image in choose_images(images, at_most):
        file = labels / f"{image.stem}.png"
        label = read_class_map(file)
        wrong = np.setdiff1d(label, [*range(len(space.names)), space.ignore])
        if wrong.size:
            raise UsageError(
                f"--labels: {file} holds {wrong[:5].tolist()}, the classes are 0 to {len(space.names) - 1} "
                f"({space.ignore} is ignored); labels of other classes need --label-map and --label-classes"
            )
        found.append(label)
    return found


def _runner_of(source: Path, converted: Path, precision: Precision) -> Callable[[Inputs], Inputs]:
    """Inputs -> outputs in a precision: of the converted file where the CPU can run it."""
    if precision not in LOW_TYPES:
        return lambda inputs: run_onnx(converted, inputs)
    emulated = _Emulation(source, precision)

    def run(inputs: Inputs) -> Inputs:
        outputs = emulated.run(inputs)
        return outputs if precision == "bf16" else run_onnx(converted, inputs)

    return run


class _Emulation:
    """A form as a device with 16-bit layers would compute it."""

    def __init__(self, source: Path, precision: Precision) -> None:
        self.source, self.precision = source, precision
        model = load_graph(source)
        self._layers = _layers(model)
        emulated = to_sixteen_bits(model, precision, emulate=True)
        self._watched = largest_values(emulated)
        self._content = emulated.SerializeToString()

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The form's outputs.

        Raises:
            ParityError: a value leaves the range.
        """
        outputs = run_onnx(self.source, inputs, self._content)
        limit = LARGEST_FINITE[self.precision]
        for name in self._watched:
            size = outputs[name].item()
            if not size <= limit:  # written so that NaN fails
                value = name.partition("__")[0]  # what follows is the conversion's own
                raise ParityError(
                    f"{self.precision} cannot hold what the network computes; no engine was built.\n"
                    f"  first value that is not finite: {self._layers.get(value, value)} "
                    f"(operator {value}) reaches {size:.3g}, the largest that fits is {limit:.3g}.\n"
                    "Build with --precision fp32" + (" or bf16." if self.precision == "fp16" else ".")
                )
        return outputs


def _layers(model: onnx.ModelProto) -> dict[str, str]:
    """Value -> the layer whose weights it is computed with, else the layer before it."""
    weights = {tensor.name for tensor in model.graph.initializer}
    layers: dict[str, str] = {}
    layer = "the input"
    for node in model.graph.node:
        owners = [name.rpartition(".")[0] for name in node.input if name in weights and "." in name]
        layer = next(iter(owners), layer)
        layers |= dict.fromkeys(node.output, layer if owners else f"after {layer.removeprefix('after ')}")
    return layers


def _miou_change(masks: tuple[list[Mask], list[Mask]], labels: list[Mask], space: LabelSpace) -> float:
    scores = []
    for of_precision in masks:
        matrix = space.matrix()
        for mask, label in zip(of_precision, labels, strict=True):
            matrix.add(mask, label)
        scores.append(matrix.miou())
    return scores[1] - scores[0]


def _explain(
    form: FormName, precision: Precision, output: str, report: dict[str, Any], limits: PrecisionTolerances
) -> str:
    of = f" in {output}" if output else ""
    lines = [
        f"the {form} form in {precision} is too far from float32; no engine was built.",
        f"  pixels of another class{of}: {100 * report['class_disagreement']:.2f} % "
        f"(at most {100 * limits.class_disagreement:.1f} %)",
    ]
    if report["miou_change"] is not None:
        lines.append(
            f"  mIoU: {100 * report['miou_change']:+.2f} points (at most {100 * limits.miou_loss:.1f} lost)"
        )
    lines.append(f"  features: {report['features_relative']:.2e} relative")
    return "\n".join([*lines, "Build with --precision fp32, or fp16 instead of bf16 or int8."])
