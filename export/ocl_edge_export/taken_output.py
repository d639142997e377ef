"""From a network to the output that is exported: chosen, captured, and what its numbers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ocl_edge.bundle.manifest import OutputSpec
from ocl_edge.errors import CaptureError, UsageError
from ocl_edge_export.behaviour import refuse_unsteady, run_once
from ocl_edge_export.capture import capture
from ocl_edge_export.class_scores import Values, binary_scores, refuse_class_maps, values_of
from ocl_edge_export.outputs import SegmentationOutput, choose_output, named_tensors, refuse_channels_last
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
    """Choose an output, capture what it depends on, and recognise its values.

    Args:
        network: in evaluation mode.
        images: float32 [N, C, H, W], normalised.
        wanted: name or position of the output; None takes the usual one.
        threshold: of one channel: probability from which a pixel is foreground.

    Raises:
        CaptureError: the network fails on these images, is random, or gives no logits.
        UsageError: no such output, or a threshold that does not belong to it.
    """
    image = images[:1]
    returned = run_once(network, image)
    choice = choose_output(returned, wanted)
    refuse_channels_last(named_tensors(returned)[choice.name], image)
    of_pair = refuse_unsteady(network, image, returned)
    segmentation = SegmentationOutput(network, choice.name)
    captured = capture(segmentation, image.shape[2], image.shape[3], image.shape[1])
    refuse_class_maps(captured)
    output = named_tensors(returned)[choice.name]
    if bool(output.isnan().any()):
        raise CaptureError(
            "the network gives NaN for these images: its weights, or the mean and deviation of its input, "
            "are not what it was trained with"
        )
    values, binary = values_of(captured, output), output.shape[1] == 1
    if threshold != 0.5 and not binary:
        raise UsageError(f"--threshold belongs to networks with one channel; this one has {output.shape[1]}")

    def reference(batch: Tensor, given: Any) -> Reference:
        found = named_tensors(given)[choice.name]
        return Reference(batch, binary_scores(found, values, threshold) if binary else found)

    references = (
        reference(image, returned),
        reference(torch.cat((image, image.flip(3))), of_pair),
        *(reference(other[None], run_once(network, other[None])) for other in images[1:]),
    )
    spec = OutputSpec(
        name=choice.name, others=choice.others, values=values, threshold=threshold if binary else None
    )
    return TakenOutput(captured, references, values, spec)
