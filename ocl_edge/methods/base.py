"""What a method is: whether norms follow the image, what trains, and on which loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from ocl_edge.adapter import Loss
from ocl_edge.bundle import AdaptationDefaults
from ocl_edge.ocl import output_contrastive_loss

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
        defaults: settings that differ from the bundle's own, with the reason in the file.
    """

    name: str
    summary: str
    modulates_norms: bool
    trains: Trained = "nothing"
    loss: Loss | None = None
    defaults: dict[str, Any] = field(default_factory=dict)

    @property
    def needs_pytorch_backbone(self) -> bool:
        return self.trains in ("norm affine", "all")


def ocl(view: Tensor, flipped_back: Tensor, settings: AdaptationDefaults) -> Tensor:
    """Output Contrastive Loss (Zhang et al. 2023)."""
    return output_contrastive_loss(view, flipped_back, settings.pos_coeff, settings.neg_coeff)


def entropy(view: Tensor, flipped_back: Tensor, settings: AdaptationDefaults) -> Tensor:  # noqa: ARG001
    """Mean entropy of the predictions of both views (Wang et al. 2021, Tent)."""
    per_view = [-(F.softmax(z, 1) * F.log_softmax(z, 1)).sum(1).mean() for z in (view, flipped_back)]
    return (per_view[0] + per_view[1]) / 2
