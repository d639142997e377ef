"""What the parity gate compares: a form, its inputs, and what the network gives for the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR, NormsAsTrained
from ocl_edge.network.form_names import FORMS, FormName
from ocl_edge.network.form_tensors import INPUTS
from ocl_edge.network.forms import build_form, distinct_form, list_norms, trained_tensors
from ocl_edge_export.split import SplitNetwork


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: for the report.
        form: that runs.
        inputs: of the form, by name, in order.
        reference: what it is compared with, in words.
        reference_form: the graph in PyTorch that gives the expected features, for the search of a layer.
        expected_features: one tensor for each of the backbone's.
        expected_logits: at the network's output size.
    """

    name: str
    form: FormName
    inputs: dict[str, Tensor]
    reference: str
    reference_form: fx.GraphModule
    expected_features: tuple[Tensor, ...]
    expected_logits: Tensor

    @property
    def images(self) -> Tensor:
        return self.inputs["image"]

    @property
    def views(self) -> str:
        return "one view" if len(self.images) == 1 else "view pair"


def cases(
    network: Callable[[Tensor], Tensor], split: SplitNetwork, images: Tensor, stat_rows: int
) -> Iterator[Case]:
    """Every form on one view and on a view pair, then the rest of the images.

    The first image goes through every form, as one view; the second with its flip through
    the two forms that view pairs go through; the others through these two, as one view.

    Args:
        network: image -> logits, never captured, in evaluation mode.
        split: its parts.
        images: float32 [N, 3, H, W], normalised.
        stat_rows: with which `measured` was exported.
    """
    pair = images[min(1, len(images) - 1)][None]
    yield from _cases_of(network, split, images[:1], stat_rows, all_forms=True)
    yield from _cases_of(network, split, torch.cat((pair, pair.flip(3))), stat_rows)
    for image in images[2:]:
        yield from _cases_of(network, split, image[None], stat_rows)


@torch.no_grad()
def finish(split: SplitNetwork, features: tuple[Tensor, ...], size: torch.Size) -> Tensor:
    """Head and tail in PyTorch: features -> logits at the network's output size [N, C, H, W]."""
    logits: Tensor = split.head(*features)[0]
    if split.tail is not None:
        logits = split.tail(logits)[0]
    if logits.shape[2:] != size[2:]:
        logits = F.interpolate(logits, size[2:], mode="bilinear", align_corners=split.align_corners)
    return logits


@torch.no_grad()
def _cases_of(
    network: Callable[[Tensor], Tensor],
    split: SplitNetwork,
    images: Tensor,
    stat_rows: int,
    all_forms: bool = False,
) -> Iterator[Case]:
    logits = network(images)
    of_network = ("the network", split.backbone, tuple(split.backbone(images)), logits)
    norms = list_norms(split.backbone)
    if not norms:
        for form in FORMS if all_forms else FORMS[:1]:
            yield Case(form, form, {"image": images}, *of_network)
        return
    source = NormsAsTrained(**trained_tensors(split.backbone))
    line = Mixing.of_prior([norm.channels for norm in norms], DEFAULT_PRIOR)
    mixing = replace(line, between=True)  # so that every row of the weights counts

    def inputs(form: FormName, *packed: Tensor) -> dict[str, Tensor]:
        return dict(zip(INPUTS[distinct_form(form, norms)], (images, *packed), strict=True))

    yield Case("plain", "plain", inputs("plain"), *of_network)
    if all_forms:
        vectors = source.vectors(source.statistics)
        yield Case("modulated", "modulated", inputs("modulated", vectors), *of_network)
        anchored = inputs("measured", source.statistics, mixing.at(0.0))
        yield Case("measured, weight 1", "measured", anchored, *of_network)
    measured = build_form(split.backbone, "measured", stat_rows)
    mixed = inputs("measured", source.statistics, mixing.at(1.0))
    adapted = tuple(measured(*mixed.values())[:-1])
    of_form = ("the measured form in PyTorch", measured, adapted, finish(split, adapted, logits.shape))
    yield Case("measured, default prior", "measured", mixed, *of_form)
