"""The parity gate: every exported form against the original network on the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ocl_edge.errors import MissingExtraError, ParityError
from ocl_edge.method.norms import DEFAULT_PRIOR, SourceNorms, prior_of_channels
from ocl_edge.network.form_tensors import features_among, inputs_of
from ocl_edge.network.forms import FORMS, FormName, build_form, list_norms, source_tensors
from ocl_edge_export.capture import pick_logits
from ocl_edge_export.onnx_forms import form_file
from ocl_edge_export.split import SplitNetwork, owner


@dataclass(frozen=True)
class Tolerances:
    """The largest differences that pass. float32 sums in another order stay far below.

    Attributes:
        relative: largest absolute difference over the largest absolute reference value,
            for features and for logits.
        class_disagreement: share of pixels whose class differs.
    """

    relative: float = 1e-3
    class_disagreement: float = 1e-3


@dataclass(frozen=True)
class PrecisionTolerances:
    """The largest differences from float32 that an engine's precision may make.

    Attributes:
        class_disagreement: share of pixels whose class differs.
        miou_loss: of labelled frames, 0 to 1.
    """

    class_disagreement: float
    miou_loss: float


PRECISION_TOLERANCES = {
    "fp16": PrecisionTolerances(class_disagreement=0.01, miou_loss=0.005),
    "bf16": PrecisionTolerances(class_disagreement=0.05, miou_loss=0.01),
    "int8": PrecisionTolerances(class_disagreement=0.05, miou_loss=0.02),
}


@dataclass(frozen=True)
class Difference:
    """How far a form is from its reference."""

    reference: str
    features_max_abs: float
    features_relative: float
    logits_max_abs: float
    logits_relative: float
    class_disagreement: float

    def within(self, tolerances: Tolerances) -> bool:
        # written so that NaN fails
        return (
            self.features_relative <= tolerances.relative
            and self.logits_relative <= tolerances.relative
            and self.class_disagreement <= tolerances.class_disagreement
        )


@dataclass(frozen=True)
class _Case:
    name: str
    form: FormName
    inputs: dict[str, Tensor]
    reference: str
    reference_form: fx.GraphModule
    expected_features: tuple[Tensor, ...]
    expected_logits: Tensor


def check_parity(
    network: nn.Module,
    split: SplitNetwork,
    directory: Path,
    images: Tensor,
    stat_rows: int,
    tolerances: Tolerances | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the original network and all ONNX forms; compare features and logits.

    ``plain``, ``modulated`` with the source vectors and ``measured`` with weight 1 must
    equal the network. ``measured`` with the default prior must equal the same graph in
    PyTorch. Without norms all three must equal the network.

    Args:
        network: the original, never captured, in evaluation mode.
        split: its parts; head and tail finish what a form begins.
        directory: where the ONNX files lie.
        images: float32 [N, 3, H, W], normalised.
        stat_rows: with which `measured` was exported.
        tolerances: the defaults of `Tolerances` if None.
        progress: called with the name of each case before it runs.

    Returns:
        The report for the manifest.

    Raises:
        ParityError: a form is outside the tolerances; with the numbers and the first
            layer where it parts.
        MissingExtraError: ONNX Runtime is not installed.
    """
    tolerances = tolerances or Tolerances()
    report: dict[str, Any] = {"images": len(images), "tolerances": asdict(tolerances), "forms": {}}
    for case in _cases(network, split, images, stat_rows):
        progress(case.name)
        outputs = run_onnx(directory / form_file(case.form), case.inputs)
        features = tuple(features_among(outputs, len(split.features)))
        difference = _compare(case, features, finish(split, features, case.expected_logits.shape))
        if not difference.within(tolerances):
            layer = first_divergence(case, directory / form_file(case.form), images, tolerances)
            raise ParityError(_explain(case, difference, tolerances, layer))
        report["forms"][case.name] = asdict(difference)
    return report


def finish(split: SplitNetwork, features: tuple[Tensor, ...], size: torch.Size) -> Tensor:
    """Head and tail in PyTorch: features -> logits at the network's output size [N, C, H, W]."""
    with torch.no_grad():
        logits: Tensor = split.head(*features)[0]
        if split.tail is not None:
            logits = split.tail(logits)[0]
        if logits.shape[2:] != size[2:]:
            logits = F.interpolate(logits, size[2:], mode="bilinear", align_corners=split.align_corners)
    return logits


def run_onnx(path: Path, inputs: dict[str, Tensor], model: bytes | None = None) -> dict[str, Tensor]:
    """Run a model once with ONNX Runtime on the CPU; ``model`` replaces the file's own graph."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "cpu", "the parity gate") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if model is not None:  # external weights are looked up beside the file
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(path.parent)
        )
    session = onnxruntime.InferenceSession(model or str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: tensor.numpy() for name, tensor in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


def _cases(network: nn.Module, split: SplitNetwork, images: Tensor, stat_rows: int) -> list[_Case]:
    with torch.no_grad():
        logits = pick_logits(network(images))
        plain = tuple(split.backbone(images))
    of_network = ("network", split.backbone, plain, logits)
    norms = list_norms(split.backbone)
    if not norms:
        return [_Case(form, form, {"image": images}, *of_network) for form in FORMS]
    source = SourceNorms(**source_tensors(split.backbone))
    statistics = source.statistics
    prior = prior_of_channels([norm.channels for norm in norms], DEFAULT_PRIOR)
    measured = build_form(split.backbone, "measured", stat_rows)
    with torch.no_grad():
        adapted = tuple(measured(images, statistics, prior)[:-1])

    def inputs(form: FormName, weight: Tensor) -> dict[str, Tensor]:
        return inputs_of(form, images, source.vectors(statistics), statistics, weight)

    return [
        _Case("plain", "plain", inputs("plain", prior), *of_network),
        _Case("modulated", "modulated", inputs("modulated", prior), *of_network),
        _Case("measured, weight 1", "measured", inputs("measured", torch.ones_like(prior)), *of_network),
        _Case(
            "measured, default prior",
            "measured",
            inputs("measured", prior),
            "measured form in PyTorch",
            measured,
            adapted,
            finish(split, adapted, logits.shape),
        ),
    ]


def _compare(case: _Case, features: tuple[Tensor, ...], logits: Tensor) -> Difference:
    pairs = list(zip(features, case.expected_features, strict=True))
    return Difference(
        reference=case.reference,
        features_max_abs=max(_max_abs(f, e) for f, e in pairs),
        features_relative=max(_relative(f, e) for f, e in pairs),
        logits_max_abs=_max_abs(logits, case.expected_logits),
        logits_relative=_relative(logits, case.expected_logits),
        class_disagreement=float((logits.argmax(1) != case.expected_logits.argmax(1)).float().mean()),
    )


def _max_abs(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).abs().max())


def _relative(value: Tensor, expected: Tensor) -> float:
    return _max_abs(value, expected) / max(float(expected.abs().max()), 1e-12)


def first_divergence(case: _Case, path: Path, images: Tensor, tolerances: Tolerances) -> str:
    """Name of the first captured operator whose ONNX value differs from PyTorch's, with its layer."""
    model = onnx.load(path, load_external_data=False)
    reference = _reference_values(case, images)
    computed = {name for node in model.graph.node for name in node.output}
    shared = [name for name in reference if name in computed]
    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shared if name not in outputs)
    values = run_onnx(path, case.inputs, model.SerializeToString())
    for name in shared:
        expected, layer = reference[name]
        value = values[name]
        if value.shape == expected.shape and not _relative(value, expected) <= tolerances.relative:
            size = _relative(value, expected)
            return f"{layer or 'the network itself'} (operator {name}, relative {size:.2e})"
    return "no single operator of the backbone; the outputs themselves differ"


def _reference_values(case: _Case, images: Tensor) -> dict[str, tuple[Tensor, str]]:
    """Every floating-point value of the reference graph, in order, with the layer it was captured in."""
    values: dict[str, tuple[Tensor, str]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.op == "call_function" and isinstance(result, Tensor) and result.is_floating_point():
                values[n.name] = (result, owner(n))
            return result

    inputs = case.inputs.values() if case.reference != "network" else (images,)
    with torch.no_grad():
        Recorder(case.reference_form).run(*inputs)
    return values


def _explain(case: _Case, difference: Difference, tolerances: Tolerances, layer: str) -> str:
    return (
        f"the exported form {case.name!r} differs from the {case.reference}; no bundle was written.\n"
        f"  features: {difference.features_max_abs:.3e} absolute, {difference.features_relative:.3e} relative"
        f" (at most {tolerances.relative:.0e})\n"
        f"  logits:   {difference.logits_max_abs:.3e} absolute, {difference.logits_relative:.3e} relative\n"
        f"  pixels of another class: {100 * difference.class_disagreement:.3f} % "
        f"(at most {100 * tolerances.class_disagreement:.1f} %)\n"
        f"  first layer where they part: {layer}"
    )
