"""What an adaptation is set to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ocl_edge.method.norms import DEFAULT_PRIOR, Prior

POS_COEFF, NEG_COEFF = 3.0, 1.0
"""Weights of the two terms of the OCL (`ocl_edge.method.ocl`)."""


class AdaptationDefaults(BaseModel):
    """Used where the command line is silent. How they were chosen: docs/ablation.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prior: Prior = DEFAULT_PRIOR
    lr: float = Field(0.05, ge=0, le=1e6)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0, le=1e3)
    restoration: float = Field(0.02, ge=0, le=1)
    pos_coeff: float = Field(POS_COEFF, ge=-1e3, le=1e3)
    neg_coeff: float = Field(NEG_COEFF, ge=-1e3, le=1e3)

    @field_validator("prior")
    @classmethod
    def _weights(cls, value: Prior) -> Prior:
        if not all(0 <= weight <= 1 for weight in value):
            raise ValueError("expected two weights of 0 to 1")
        return value
