"""Inputs and outputs of the forms: names, order and shapes. -1 is a free size, the batch.

image               [-1, C, H, W]
norm_vectors        [2, S]          scale and shift of every norm; S = sum of their channels
anchor_statistics   [2, S]          mean and variance to mix with the image's own
anchor_weight       [3, S]          how much of its means and variances, 0 to 1, and of the means'
                                    difference, see `ocl_edge.network.forms.measured_form`
features_N          [-1, F, h, w]
statistics          [2, S]          mean and variance that were measured
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ocl_edge.network.form_names import FormName
from ocl_edge.tensors import Tensor

INPUTS: dict[FormName, tuple[str, ...]] = {
    "plain": ("image",),
    "modulated": ("image", "norm_vectors"),
    "measured": ("image", "anchor_statistics", "anchor_weight"),
}


WEIGHTS = 3
"""Rows of ``anchor_weight``."""


def input_shapes(form: FormName, image: tuple[int, int, int], channels: int) -> dict[str, tuple[int, ...]]:
    """Shape of every input of a form, in order.

    Args:
        form: as `distinct_form` gives it.
        image: its channels, height and width.
        channels: of all norms together.
    """
    shapes = {
        "image": (-1, *image),
        "norm_vectors": (2, channels),
        "anchor_statistics": (2, channels),
        "anchor_weight": (WEIGHTS, channels),
    }
    return {name: shapes[name] for name in INPUTS[form]}


def output_shapes(
    form: FormName, features: Sequence[Sequence[int]], channels: int
) -> dict[str, tuple[int, ...]]:
    """Shape of every output of a form, in order.

    Args:
        form: as `distinct_form` gives it.
        features: shape of every feature tensor, without the batch.
        channels: of all norms together.
    """
    named = zip(feature_names(len(features)), features, strict=True)
    shapes = {name: (-1, *shape) for name, shape in named}
    return {**shapes, "statistics": (2, channels)} if form == "measured" else shapes


def feature_names(count: int) -> list[str]:
    return [f"features_{index}" for index in range(count)]


def features_among(outputs: Mapping[str, Tensor], taken: Sequence[int] | None = None) -> list[Tensor]:
    """The feature tensors among a form's outputs, in order; or those with these numbers, in theirs."""
    if taken is not None:
        return [outputs[f"features_{index}"] for index in taken]
    return [outputs[name] for name in feature_names(len(outputs)) if name in outputs]


def inputs_of(
    form: FormName, image: Tensor, norm_vectors: Tensor, statistics: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """The inputs that a form takes, by name.

    Args:
        form: as `distinct_form` gives it.
        image: float32 [N, 3, H, W], normalised.
        norm_vectors: float32 [2, S], for `modulated`.
        statistics: anchor float32 [2, S], for `measured`.
        weight: of the anchor, float32 [3, S], for `measured`.
    """
    tensors = {
        "image": image,
        "norm_vectors": norm_vectors,
        "anchor_statistics": statistics,
        "anchor_weight": weight,
    }
    return {name: tensors[name] for name in INPUTS[form]}
