"""The programs of a bundle, and their gate: what is read back computes the same, bit for bit."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, fx

from ocl_edge.errors import ParityError
from ocl_edge.network.form_names import WEIGHT_FILE
from ocl_edge.network.programs import Shape, read_program, write_program
from ocl_edge_export.split import SplitNetwork


def write_programs(split: SplitNetwork, directory: Path) -> dict[str, Tensor]:
    """Write ``backbone.json``, ``head.json`` and, where there is one, ``tail.json``.

    Returns:
        The tensors of all of them, for the weight file. The head's parameters are made trainable.

    Raises:
        CaptureError: a part calls an operator that no program may call.
    """
    for parameter in split.head.parameters():
        parameter.requires_grad_(True)
    tensors: dict[str, Tensor] = {}
    for name, module, _, _ in _parts(split, None):
        tensors.update(write_program(module, directory / f"{name}.json"))
    return tensors


def check_programs(
    split: SplitNetwork, directory: Path, images: Tensor, features: tuple[Tensor, ...]
) -> fx.GraphModule:
    """Read the programs back and run them beside the parts that they were written from.

    Args:
        split: the parts.
        directory: of the bundle, with its weight file.
        images: float32 [N, C, H, W], normalised.
        features: what the backbone gave for them.

    Returns:
        The head as read.

    Raises:
        ParityError: a value differs.
    """
    read = {}
    values: tuple[Tensor, ...] = (images,)
    for name, module, inputs, outputs in _parts(split, [list(images.shape[1:])]):
        program = read_program(directory / f"{name}.json", directory / WEIGHT_FILE, inputs, outputs)
        with torch.no_grad():
            expected = features if module is split.backbone else module(*values)
            same = all(map(torch.equal, program(*values), expected))
        if not same:
            raise ParityError(f"{name}.json does not compute what the network does; no bundle was written")
        read[name], values = program, expected
    return read["head"]


def _parts(
    split: SplitNetwork, image: list[Shape] | None
) -> list[tuple[str, fx.GraphModule, list[Shape], list[Shape | None]]]:
    """Name, module, and shapes of inputs and outputs of each part, in the order of the data."""
    features: list[Shape] = [*split.features]
    parts: list[tuple[str, fx.GraphModule, list[Shape], list[Shape | None]]] = [
        ("backbone", split.backbone, image or [], [*features]),
        ("head", split.head, features, [split.logits]),
    ]
    return parts if split.tail is None else [*parts, ("tail", split.tail, [split.logits], [None])]
