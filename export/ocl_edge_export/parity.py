"""The parity gate: every exported form, on every backend here, against the original network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from ocl_edge.errors import ParityError
from ocl_edge.network.form_tensors import features_among
from ocl_edge_export.differences import max_difference, relative_difference
from ocl_edge_export.divergence import first_divergence
from ocl_edge_export.gate_runners import OnnxRuntimeRunner, Runner, installed_runners
from ocl_edge_export.onnx_forms import form_file
from ocl_edge_export.parity_cases import Case, Features, Reference, cases, finish
from ocl_edge_export.split import SplitNetwork

OF_PLACES = 1.0
"""Relative difference that passes where a network unpools: there the mask is judged."""


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

    def worst(self, other: Difference | None) -> Difference:
        """The larger of each number; NaN is larger than any."""
        if other is None:
            return self
        names = [name for name, value in asdict(self).items() if isinstance(value, float)]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return replace(self, **{name: b if not b <= a else a for name, (a, b) in pairs.items()})

    def within(self, tolerances: Tolerances) -> bool:
        # written so that NaN fails
        return (
            self.features_relative <= tolerances.relative
            and self.logits_relative <= tolerances.relative
            and self.class_disagreement <= tolerances.class_disagreement
        )


@dataclass
class _Findings:
    """What the gate has seen so far: by case for ONNX Runtime, by name for the other backends."""

    forms: dict[str, Difference]
    backends: dict[str, Difference]
    unfit: dict[str, str]


def check_parity(
    references: Sequence[Reference],
    features: Sequence[Features],
    split: SplitNetwork,
    directory: Path,
    stat_rows: int,
    tolerances: Tolerances | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run all forms; compare features and logits with what the original network gave.

    ``plain``, ``modulated`` with the source vectors and ``measured`` with weight 1 must
    equal the network. ``measured`` with the default prior must equal the same graph in
    PyTorch. Without norms all three must equal the network. Single views and a view pair
    are run. ONNX Runtime must pass, because every other backend and every engine starts
    from its graphs; another backend that does not is named in the report.

    Args:
        references: what the network gives for one view, its pair, and other views.
        features: what the backbone gives for each.
        split: the network's parts; head and tail finish what a form begins.
        directory: where the ONNX files lie.
        stat_rows: with which `measured` was exported.
        tolerances: the defaults of `Tolerances` if None.
        progress: called with the name of each case before it runs.

    Returns:
        The report for the manifest; ``unfit`` holds the backends that failed, name -> why.

    Raises:
        ParityError: a form is outside the tolerances; with the numbers and the first
            layer where it parts.
        MissingExtraError: ONNX Runtime is not installed.
    """
    tolerances = tolerances or Tolerances()
    if _remembers_places(split.backbone):
        tolerances = replace(tolerances, relative=OF_PLACES)
    found = _Findings({}, {}, {})
    onnxruntime, runners = OnnxRuntimeRunner(), installed_runners()
    for case in cases(references, features, split, stat_rows):
        progress(f"{case.name}, {case.views}")
        path = directory / form_file(case.form)
        _require_onnxruntime(onnxruntime, case, path, split, tolerances, found)
        for name, runner in runners.items():
            if name not in found.unfit:
                _try_backend(name, runner, case, path, split, tolerances, found)
    return {
        "images": len(references) - 1,
        "tolerances": asdict(tolerances),
        "forms": {name: asdict(difference) for name, difference in found.forms.items()},
        "backends": {name: asdict(difference) for name, difference in found.backends.items()},
        "unfit": found.unfit,
    }


def _remembers_places(backbone: fx.GraphModule) -> bool:
    """Whether it unpools: of two values that only rounding tells apart either may be the largest."""
    return any("max_unpool" in str(node.target) for node in backbone.graph.nodes)


def _require_onnxruntime(
    runner: Runner, case: Case, path: Path, split: SplitNetwork, tolerances: Tolerances, found: _Findings
) -> None:
    difference = _compare(case, runner(path, case.inputs), split)
    if not difference.within(tolerances):
        layer = first_divergence(case, path, tolerances.relative)
        raise ParityError(_explain(case, difference, tolerances, layer))
    found.forms[case.name] = difference.worst(found.forms.get(case.name))


def _try_backend(
    name: str,
    runner: Runner,
    case: Case,
    path: Path,
    split: SplitNetwork,
    tolerances: Tolerances,
    found: _Findings,
) -> None:
    try:
        outputs = runner(path, case.inputs)
    except RuntimeError as error:
        found.unfit[name] = f"it cannot run the {case.form} form: {_first_line(error)}"
        return
    difference = _compare(case, outputs, split)
    found.backends[name] = difference.worst(found.backends.get(name))
    if not difference.within(tolerances):
        found.unfit[name] = (
            f"it computes the {case.form} form otherwise than {case.reference}: "
            f"{100 * difference.class_disagreement:.2f} % of the pixels get another class, "
            f"features differ by {difference.features_relative:.1e} ({case.views}, found at export)"
        )


def _compare(case: Case, outputs: dict[str, Tensor], split: SplitNetwork) -> Difference:
    features = tuple(features_among(outputs))
    logits = finish(split, features, case.expected_logits.shape)
    pairs = list(zip(features, case.expected_features, strict=True))
    classes, expected = logits.argmax(1), case.expected_logits.argmax(1)
    return Difference(
        reference=case.reference,
        features_max_abs=max(max_difference(f, e) for f, e in pairs),
        features_relative=max(relative_difference(f, e) for f, e in pairs),
        logits_max_abs=max_difference(logits, case.expected_logits),
        logits_relative=relative_difference(logits, case.expected_logits),
        class_disagreement=float((classes != expected).float().mean()),
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _explain(case: Case, difference: Difference, tolerances: Tolerances, layer: str) -> str:
    return (
        f"the exported form {case.name!r} differs from {case.reference} ({case.views}); "
        "no bundle was written.\n"
        f"  features: {difference.features_max_abs:.3e} absolute, {difference.features_relative:.3e} relative"
        f" (at most {tolerances.relative:.0e})\n"
        f"  logits:   {difference.logits_max_abs:.3e} absolute, {difference.logits_relative:.3e} relative\n"
        f"  pixels of another class: {100 * difference.class_disagreement:.3f} % "
        f"(at most {100 * tolerances.class_disagreement:.1f} %)\n"
        f"  first layer where they part: {layer}"
    )
