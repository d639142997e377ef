"""What the parity gate compares: a form, its inputs, and what the network gives for the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR, NormsAsTrained
from ocl_edge.network.batch_norms import list_norms, trained_tensors
from ocl_edge.network.form_names import FORMS, FormName
from ocl_edge.network.form_tensors import INPUTS
from ocl_edge.network.forms import build_form, distinct_form
from ocl_edge_export.split import SplitNetwork

Features = tuple[Tensor, ...]
"""One tensor for each of the backbone's."""


@dataclass(frozen=True)
class Reference:
    """What the network itself, never captured, gives.

    Attributes:
        images: float32 [N, C, H, W], normalised: one view, or a view pair.
        logits: float32 [N, classes, H, W].
    """

    images: Tensor
    logits: Tensor


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
    expected_features: Features
    expected_logits: Tensor

    @property
    def images(self) -> Tensor:
        return self.inputs["image"]

    @property
    def views(self) -> str:
        return "one view" if len(self.images) == 1 else "view pair"


def cases(
    references: Sequence[Reference], features: Sequence[Features], split: SplitNetwork, stat_rows: int
) -> Iterator[Case]:
    """Every form on the first view, plain and measured on all views, form after form.

    Args:
        references: one view of an image, the view pair of the same image, one view of each other image.
        features: that the backbone gives for each.
        split: the network's parts.
        stat_rows: with which `measured` was exported.
    """
    norms = list_norms(split.backbone)
    seen = list(zip(references, features, strict=True))

    def of_network(form: FormName, name: str, view: tuple[Reference, Features], *packed: Tensor) -> Case:
        inputs = dict(zip(INPUTS[distinct_form(form, norms)], (view[0].images, *packed), strict=True))
        return Case(name, form, inputs, "the network", split.backbone, view[1], view[0].logits)

    for view in seen:
        yield of_network("plain", "plain", view)
    if not norms:
        for form in FORMS[1:]:
            yield of_network(form, form, seen[0])
        return
    source = NormsAsTrained(**trained_tensors(split.backbone))
    line = Mixing.of_prior([norm.channels for norm in norms], DEFAULT_PRIOR)
    mixing = replace(line, between=True)  # so that every row of the weights counts
    yield of_network("modulated", "modulated", seen[0], source.vectors(source.statistics))
    anchored = source.statistics, mixing.at(0.0)
    yield of_network("measured", "measured, weight 1", seen[0], *anchored)
    measured = build_form(split.backbone, "measured", stat_rows)
    for reference in references:
        packed = reference.images, source.statistics, mixing.at(1.0)
        with torch.no_grad():
            adapted = tuple(measured(*packed)[:-1])
        logits = finish(split, adapted, reference.logits.shape)
        yield Case(
            "measured, default prior",
            "measured",
            dict(zip(INPUTS["measured"], packed, strict=True)),
            "the measured form in PyTorch",
            measured,
            adapted,
            logits,
        )


@torch.no_grad()
def features_of(references: Sequence[Reference], backbone: fx.GraphModule) -> list[Features]:
    """What the backbone gives for each; the first view has those that its pair has."""
    of_pair, *others = (tuple(backbone(reference.images)) for reference in references[1:])
    return [tuple(feature[:1] for feature in of_pair), of_pair, *others]


@torch.no_grad()
def finish(split: SplitNetwork, features: Features, size: torch.Size) -> Tensor:
    """Head and tail in PyTorch: features -> logits at the network's output size [N, C, H, W]."""
    logits: Tensor = split.head(*split.of_head(features))[0]
    if split.tail is not None:
        logits = split.tail(logits)[0]
    if logits.shape[2:] != size[2:]:
        logits = F.interpolate(logits, size[2:], mode="bilinear", align_corners=split.align_corners)
    return logits
