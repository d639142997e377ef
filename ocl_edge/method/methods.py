"""Adaptation methods by name: whether norms follow the image, what trains, on which loss, at which rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ocl_edge.errors import UsageError
from ocl_edge.method.published.adabn import AdaBN
from ocl_edge.method.published.cotta import CoTTA
from ocl_edge.method.published.diga import DIGA
from ocl_edge.method.published.eata import EATA
from ocl_edge.method.published.ocl import OCL
from ocl_edge.method.published.published import Published
from ocl_edge.method.published.rotta import RoTTA
from ocl_edge.method.published.sar import SAR
from ocl_edge.method.published.tent import Tent
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.step import Loss
from ocl_edge.tensors import Tensor, torch

Trained = Literal["nothing", "head", "norm affine", "all"]


@dataclass(frozen=True)
class Method:
    """One way to adapt.

    Attributes:
        name: on the command line.
        summary: one line for help texts.
        modulates_norms: norm statistics are mixed with the current image's.
        trains: the weights that take gradient steps. ``norm affine`` and ``all`` need
            the backbone in PyTorch; the others run on any backend.
        loss: of a view pair; None where nothing trains.
        defaults: settings that differ from the bundle's own.
        published: the method as its paper has it, on the whole network in PyTorch; None where the
            attributes above say all.
    """

    name: str
    summary: str
    modulates_norms: bool
    trains: Trained = "nothing"
    loss: Loss | None = None
    defaults: dict[str, Any] = field(default_factory=dict)
    published: type[Published] | None = None

    @property
    def needs_pytorch_backbone(self) -> bool:
        return self.trains in ("norm affine", "all") or self.published is not None

    @property
    def learns(self) -> bool:
        """Whether there is anything to do after a frame's mask."""
        return self.loss is not None or self.published is not None


def ocl(view: Tensor, flipped_back: Tensor, settings: AdaptationDefaults) -> Tensor:
    """Output Contrastive Loss (Zhang et al. 2023)."""
    from ocl_edge.method.ocl import output_contrastive_loss  # made with PyTorch's gradients in mind

    return output_contrastive_loss(view, flipped_back, settings.pos_coeff, settings.neg_coeff)


def entropy(view: Tensor, flipped_back: Tensor, settings: AdaptationDefaults) -> Tensor:  # noqa: ARG001
    """Mean entropy of the predictions of both views (Wang et al. 2021, Tent)."""
    per_view = [-(torch.softmax(z, 1) * torch.log_softmax(z, 1)).sum(1).mean() for z in (view, flipped_back)]
    return (per_view[0] + per_view[1]) / 2


FROZEN = Method("frozen", "the network as trained, nothing adapts", modulates_norms=False)
"""The baseline of every comparison."""

NORM = Method("norm", "norm statistics follow the image, no gradient", modulates_norms=True)
"""Norm modulation alone: trained statistics mixed with the current image's (Schneider et al. 2020,
NeurIPS; in the OCL paper, section 3.3)."""

OCL_HEAD = Method("ocl-head", "OCL on the head, norms modulated", True, "head", ocl)
"""What ocl-edge does by default. lr and restoration are the bundle's."""

OCL_NORM = Method(
    "ocl-norm",
    "OCL on the norms' weight and bias",
    True,
    "norm affine",
    ocl,
    {"lr": 2e-4, "restoration": 0.01},
)
"""OCL on the affine parameters, over modulated statistics. lr: docs/ablation.md."""

OCL_FULL = Method(
    "ocl-full", "OCL on all weights, as published", True, "all", ocl, {"lr": 5e-5, "restoration": 0.01}
)
"""The published method: OCL on all weights (Zhang et al. 2023, reference code ``evaluate.py``).

Published for GTA5 -> Cityscapes: lr 2e-5, restoration 0.01. The lr here is the best of 2e-5, 5e-5 and 1e-4 on
streams that are not reported on (docs/ablation.md). Prior and rows of the statistics are the bundle's:
it equals the published method with ``--prior 0.85 --lr 2e-5`` and a bundle exported with ``--stat-rows all``.
"""

TENT = Method(
    "tent",
    "entropy on the norms' weight and bias",
    True,
    "norm affine",
    entropy,
    {"lr": 2e-5, "restoration": 0.0, "weight_decay": 0.0},
)
"""Tent: entropy minimisation on weight and bias of the norms (Wang et al. 2021, ICLR).

The original takes the statistics of the current batch alone, which for one image is
prior 0; here the statistics are mixed with the same prior as in the other methods. The
lr is the better of 2e-5 and 2e-4 on streams that are not reported on (docs/ablation.md).
"""

TENT_HEAD = Method(
    "tent-head",
    "entropy on the head, norms modulated",
    True,
    "head",
    entropy,
    {"lr": 0.005, "restoration": 0.01},
)
"""Entropy minimisation on the head, over modulated norms. lr: docs/ablation.md."""


def _published(name: str, summary: str, by: type[Published], prior: float, **settings: float) -> Method:
    own = {"prior": (prior, prior), "lr": 0.0, "weight_decay": 0.0, "restoration": 0.0, **settings}
    return Method(name, summary, modulates_norms=False, defaults=own, published=by)


PUBLISHED = (
    _published("adabn", "norm statistics of all frames so far (Li 2016)", AdaBN, 0.0),
    _published("tent-published", "entropy on the norms, as published (Wang 2021)", Tent, 0.0, lr=1e-3),
    _published("cotta", "teacher, averaged views (Wang 2022)", CoTTA, 0.0, lr=7.5e-6, restoration=0.01),
    _published("eata", "entropy of reliable and new pixels (Niu 2022)", EATA, 0.0, lr=0.005),
    _published("sar", "entropy of reliable pixels, where it is flat (Niu 2023)", SAR, 0.0, lr=2.5e-4),
    _published("rotta", "teacher on remembered frames (Yuan 2023)", RoTTA, 0.95, lr=1e-3),
    _published("diga", "mixed statistics and prototypes (Wang 2023)", DIGA, 0.8),
    _published(
        "ocl-published", "OCL on all weights, its own rates", OCL, 0.85,
        lr=2e-5, weight_decay=5e-4, restoration=0.01,
    ),
)  # fmt: skip
"""For comparison, on one frame at a time, with their papers' settings; each file says how."""

OURS = FROZEN, NORM, OCL_HEAD, OCL_NORM, OCL_FULL, TENT, TENT_HEAD
METHODS: dict[str, Method] = {method.name: method for method in (*OURS, *PUBLISHED)}


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        UsageError: there is none; the message lists them.
    """
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
