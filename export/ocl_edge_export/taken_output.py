"""From a network to the output that is exported: chosen, captured, and what its numbers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ocl_edge.bundle.manifest_parts import OutputSpec
from ocl_edge.errors import CaptureError, UsageError
from ocl_edge_export.behaviour import refuse_unsteady, run_once
from ocl_edge_export.capture import capture
from ocl_edge_export.class_scores import Values, binary_scores, refuse_class_maps, values_of
from ocl_edge_export.graph_parts import only_output
from ocl_edge_export.outputs import (
    OutputChoice,
    SegmentationOutput,
    choose_outputs,
    named_tensors,
    refuse_channels_last,
)
from ocl_edge_export.parity_cases import Reference


@dataclass(frozen=True)
class TakenOutput:
    """One output of a network.

    Attributes:
        captured: the graph that gives it.
        references: what the network itself gives for the images: scores of two or more classes.
        values: what the numbers are.
        spec: for the manifest.
    """

    captured: fx.GraphModule
    references: tuple[Reference, ...]
    values: Values
    spec: OutputSpec


def take_output(
    network: nn.Module, images: Tensor, wanted: str | None = None, threshold: float = 0.5
) -> TakenOutput:
    """As `take_outputs`, where one output is asked for."""
    (taken,) = take_outputs(network, images, wanted, threshold)[1].values()
    return taken


def take_outputs(
    network: nn.Module, images: Tensor, wanted: str | None = None, threshold: float = 0.5
) -> tuple[fx.GraphModule, dict[str, TakenOutput]]:
    """Choose outputs, capture what they depend on, and recognise their values.

    Args:
        network: in evaluation mode.
        images: float32 [N, C, H, W], normalised.
        wanted: outputs, see `choose_outputs`; None takes the usual one.
        threshold: of one channel: probability from which a pixel is foreground.

    Returns:
        The graph that gives all of them in order, and each by its name.

    Raises:
        CaptureError: the network fails on these images, is random, or gives no logits.
        UsageError: no such output, or a threshold that belongs to none.
    """
    image = images[:1]
    returned = run_once(network, image)
    choices = choose_outputs(returned, wanted)
    for choice in choices.values():
        refuse_channels_last(named_tensors(returned)[choice.name], image)
    of_pair = refuse_unsteady(network, image, returned)
    given = [
        (image, returned),
        (torch.cat((image, image.flip(3))), of_pair),
        *((other[None], run_once(network, other[None])) for other in images[1:]),
    ]
    shapes = [list(named_tensors(returned)[choice.name].shape) for choice in choices.values()]
    if threshold != 0.5 and all(shape[1] != 1 for shape in shapes):
        channels = " and ".join(str(shape[1]) for shape in shapes)
        raise UsageError(f"--threshold belongs to networks with one channel; this one has {channels}")
    segmentation = SegmentationOutput(network, *(choice.name for choice in choices.values()))
    captured = capture(segmentation, image.shape[2], image.shape[3], image.shape[1])
    taken = {
        name: _taken(only_output(captured, index) if name else captured, given, choice, threshold)
        for index, (name, choice) in enumerate(choices.items())
    }
    return captured, taken


def _taken(
    captured: fx.GraphModule, given: list[tuple[Tensor, Any]], choice: OutputChoice, threshold: float
) -> TakenOutput:
    refuse_class_maps(captured)
    found = [(batch, named_tensors(returned)[choice.name]) for batch, returned in given]
    output = found[0][1]
    if bool(output.isnan().any()):
        raise CaptureError(
            "the network gives NaN for these images: its weights, or the mean and deviation of its input, "
            "are not what it was trained with"
        )
    values, binary = values_of(captured, output), output.shape[1] == 1
    references = tuple(
        Reference(batch, binary_scores(scores, values, threshold) if binary else scores)
        for batch, scores in found
    )
    spec = OutputSpec(
        name=choice.name, others=choice.others, values=values, threshold=threshold if binary else None
    )
    return TakenOutput(captured, references, values, spec)
