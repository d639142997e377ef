"""The head's graphs in a bundle, and their gate: against PyTorch, on real features, step after step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, fx

from ocl_edge.bundle.manifest_parts import FormSpec, HeadGraphs, TensorSpec
from ocl_edge.bundle.outputs import part_file
from ocl_edge.errors import ParityError, SplitError
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.methods import ocl
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.timings import Stopwatch
from ocl_edge_export.gate_runners import OnnxRuntimeRunner
from ocl_edge_export.head_step import (
    HYPERPARAMETERS,
    build_head,
    build_head_step,
    describe_head,
    name_parameters,
)
from ocl_edge_export.parity import Tolerances

STEPS_A_PAIR = 10
ROUNDINGS = 4
"""A graph that is at most so many times as far off as PyTorch's own rounding need not be wrong."""
ALL_ROUNDING = 0.5
"""Rounding over movement from which a weight moves by rounding alone: a graph may be off by any number."""


def write_head_graphs(
    head: fx.GraphModule,
    features: list[int],
    directory: Path,
    settings: AdaptationDefaults,
    output: str = "",
) -> HeadGraphs:
    """Write ``head.onnx`` and ``head_step.onnx``.

    Args:
        head: as read from the bundle's program; the order of its parameters is the order
            in which restoration draws for them.
        features: shape [F, h, w] of its input for one image.
        directory: of the bundle.
        settings: of the bundle.
        output: name of the output, where there are several.

    Raises:
        SplitError: the head is no convolution that the graphs can express.
    """
    convolution, names = describe_head(head), name_parameters(head)
    _, height, width = features
    models = {
        "head": build_head(convolution, height, width),
        "head_step": build_head_step(convolution, height, width, settings.pos_coeff, settings.neg_coeff),
    }
    for name, model in models.items():
        (directory / part_file(f"{name}.onnx", output)).write_bytes(
            model.SerializeToString(deterministic=True)
        )
    short = {full: name for name, full in names.items()}
    return HeadGraphs(
        parameters={short[full]: full for full, _ in head.named_parameters()},
        graphs={name: _spec(model, part_file(f"{name}.onnx", output)) for name, model in models.items()},
    )


def remove_head_graphs(directory: Path, output: str = "") -> None:
    """What `write_head_graphs` wrote."""
    for name in ("head", "head_step"):
        (directory / part_file(f"{name}.onnx", output)).unlink(missing_ok=True)


def _spec(model: onnx.ModelProto, file: str) -> FormSpec:
    def tensors(values: Any) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name=value.name, shape=_shape(value)) for value in values)

    return FormSpec(file=file, inputs=tensors(model.graph.input), outputs=tensors(model.graph.output))


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(-1 if side.dim_param else side.dim_value for side in value.type.tensor_type.shape.dim)


def check_head_graphs(
    directory: Path,
    graphs: HeadGraphs,
    head: fx.GraphModule,
    pairs: list[Tensor],
    settings: AdaptationDefaults,
    tolerances: Tolerances | None = None,
) -> dict[str, Any]:
    """Run both graphs and PyTorch on the same features; the steps are chained, restoration included.

    Args:
        directory: of the bundle.
        graphs: that `write_head_graphs` wrote.
        head: what they were written from; it is left as it is.
        pairs: features of view pairs, each [2, F, h, w].
        settings: that the bundle adapts with, its learning rate above all.
        tolerances: the defaults of `Tolerances` if None.

    Returns:
        The differences, for the manifest. Weights are compared over how far they moved: a
        wrong gradient must not hide behind the size of the weights.

    Raises:
        ParityError: above the tolerance.
        SplitError: above it, but PyTorch's own rounding is, too: nothing can be told.
    """
    tolerances = tolerances or Tolerances()
    torch_head, chain = _torch_head(head, settings), _Chain(directory, graphs, head, settings)
    logits = loss = 0.0
    for pair in pairs:
        expected = torch_head.logits([pair]).detach()
        logits = max(logits, _relative(chain.logits(pair), expected, expected))
        for _ in range(STEPS_A_PAIR):
            update = torch_head.adapt([pair], ocl, Stopwatch())
            assert update.loss is not None, update.reason
            loss = max(loss, abs(chain.step(pair) - update.loss))
    moved = {name: p.detach() - torch_head.trained[name] for name, p in torch_head.parameters.items()}
    weights = max(
        _relative(chain.state[short], torch_head.parameters[full].detach(), moved[full])
        for short, full in graphs.parameters.items()
    )
    report = {
        "steps": STEPS_A_PAIR * len(pairs),
        "logits_relative": logits,
        "loss_absolute": loss,
        "weights_over_movement": weights,
    }
    if not all(value <= tolerances.relative for value in (logits, loss, weights)):  # so that NaN fails
        rounding = _rounding(head, pairs, settings)
        lost = rounding >= ALL_ROUNDING or max(logits, weights) <= ROUNDINGS * rounding
        if loss <= tolerances.relative and lost:
            raise _lost_in_rounding(rounding)
        raise _differs(report, tolerances)
    return report


def _lost_in_rounding(rounding: float) -> SplitError:
    return SplitError(
        f"steps of this head are lost in rounding ({rounding:.0e} of their movement, in PyTorch itself), "
        "as of a network that was not trained: nothing tells whether its graphs are right"
    )


def _differs(report: dict[str, Any], tolerances: Tolerances) -> ParityError:
    return ParityError(
        "the head's graphs differ from PyTorch; no bundle was written.\n"
        f"  logits: {report['logits_relative']:.2e} relative, loss: {report['loss_absolute']:.2e}, "
        f"weights after {report['steps']} steps: {report['weights_over_movement']:.2e} of their movement "
        f"(each at most {tolerances.relative:.0e})"
    )


def _rounding(head: fx.GraphModule, pairs: list[Tensor], settings: AdaptationDefaults) -> float:
    """How far PyTorch's own steps in 32 and in 64 bits part, over the movement: of a flat loss, far."""
    single, double = _torch_head(head, settings), _torch_head(copy.deepcopy(head).double(), settings)
    farthest = 0.0
    for pair in pairs:
        for _ in range(STEPS_A_PAIR):
            single.adapt([pair], ocl, Stopwatch())
            double.adapt([pair.double()], ocl, Stopwatch())
        logits = double.logits([pair.double()]).detach()
        farthest = max(farthest, _relative(single.logits([pair]).detach(), logits, logits))
    for name, parameter in single.parameters.items():
        moved = parameter.detach() - single.trained[name]
        farthest = max(farthest, _relative(parameter.detach(), double.parameters[name].detach(), moved))
    return farthest


def _torch_head(head: fx.GraphModule, settings: AdaptationDefaults) -> TrainableHead:
    return TrainableHead(copy.deepcopy(head), settings)


class _Chain:
    """The graphs as a device would run them: what a step returns is what the next one gets."""

    def __init__(
        self, directory: Path, graphs: HeadGraphs, head: fx.GraphModule, settings: AdaptationDefaults
    ) -> None:
        self._twin = _torch_head(head, settings)  # of the same seed: draws the same weights to restore
        self._run = {name: OnnxRuntimeRunner() for name in graphs.graphs}
        self._files = {name: directory / spec.file for name, spec in graphs.graphs.items()}
        self._names = graphs.parameters
        source = {short: self._twin.trained[full] for short, full in graphs.parameters.items()}
        self.state = dict(source) | {f"{n}_momentum": torch.zeros_like(w) for n, w in source.items()}
        self._fixed = {f"{n}_source": weight for n, weight in source.items()} | {
            name: torch.tensor([getattr(settings, name)]) for name in HYPERPARAMETERS
        }

    def logits(self, pair: Tensor) -> Tensor:
        weights = {name: self.state[name] for name in self._names}
        return self._run["head"](self._files["head"], {"features": pair, **weights})["logits"]

    def step(self, pair: Tensor) -> float:
        drawn = self._twin.draw_restored()
        restored = {f"{short}_restored": drawn[full].float() for short, full in self._names.items()}
        inputs = {"features": pair, **self.state, **restored, **self._fixed}
        outputs = self._run["head_step"](self._files["head_step"], inputs)
        self.state = {name: outputs[f"new_{name}"] for name in self.state}
        return outputs["loss"].item()


def _relative(value: Tensor, expected: Tensor, scale: Tensor) -> float:
    return float((value - expected).abs().max()) / max(float(scale.abs().max()), 1e-6)
