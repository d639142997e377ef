"""What an adaptation is set to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ocl_edge.method.norms import DEFAULT_PRIOR, Prior
from ocl_edge.method.ocl import NEG_COEFF, POS_COEFF


class AdaptationDefaults(BaseModel):
    """Used where the command line is silent. How they were chosen: docs/ablation.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prior: Prior = DEFAULT_PRIOR
    lr: float = Field(0.05, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    restoration: float = Field(0.02, ge=0, le=1)
    pos_coeff: float = POS_COEFF
    neg_coeff: float = NEG_COEFF
