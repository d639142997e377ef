"""The programs of a bundle, and their gate: what is read back computes the same, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, fx

from ocl_edge.bundle.outputs import part_file
from ocl_edge.errors import ParityError
from ocl_edge.network.form_names import WEIGHT_FILE
from ocl_edge.network.programs import Shape, read_program, write_program
from ocl_edge_export.split import SplitNetwork

BACKBONE, HEAD, TAIL = "backbone.json", "head.json", "tail.json"


def write_programs(splits: Mapping[str, SplitNetwork], directory: Path) -> dict[str, Tensor]:
    """Write ``backbone.json``, and of each output ``head.json`` and, where there is one, ``tail.json``.

    Args:
        splits: by the names of the outputs, over one backbone; one has no name.
        directory: of the bundle.

    Returns:
        The tensors of all of them, for the weight file. The heads' parameters are made trainable.

    Raises:
        CaptureError: a part calls an operator that no program may call.
    """
    (backbone, *_) = (split.backbone for split in splits.values())
    tensors = write_program(backbone, directory / BACKBONE)
    for output, split in splits.items():
        for parameter in split.head.parameters():
            parameter.requires_grad_(True)
        tensors.update(write_program(split.head, directory / part_file(HEAD, output)))
        if split.tail is not None:
            tensors.update(write_program(split.tail, directory / part_file(TAIL, output)))
    return tensors


def check_programs(
    split: SplitNetwork, directory: Path, images: Tensor, features: tuple[Tensor, ...], output: str = ""
) -> fx.GraphModule:
    """Read the programs back and run them beside the parts that they were written from.

    Args:
        split: the parts.
        directory: of the bundle, with its weight file.
        images: float32 [N, C, H, W], normalised.
        features: what the backbone gave for them.
        output: name of the output, where there are several.

    Returns:
        The head as read.

    Raises:
        ParityError: a value differs.
    """
    shapes: list[Shape] = [*split.features]
    _read(directory / BACKBONE, [list(images.shape[1:])], [*shapes], (images,), features)
    of_head = split.of_head(features)
    with torch.no_grad():
        logits = split.head(*of_head)
        head = _read(
            directory / part_file(HEAD, output), split.of_head(shapes), [split.logits], of_head, logits
        )
        if split.tail is not None:
            place = directory / part_file(TAIL, output)
            _read(place, [split.logits], [None], logits, split.tail(*logits))
    return head


def _read(
    file: Path,
    inputs: list[Shape],
    outputs: list[Shape | None],
    values: Sequence[Tensor],
    expected: Sequence[Tensor],
) -> fx.GraphModule:
    """A program that gives what is expected for these values, bit for bit."""
    program = read_program(file, file.parent / WEIGHT_FILE, inputs, outputs)
    with torch.no_grad():
        same = all(map(torch.equal, program(*values), expected))
    if not same:
        raise ParityError(f"{file.name} does not compute what the network does; no bundle was written")
    return program
