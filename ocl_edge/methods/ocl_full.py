"""The published method: OCL on all weights (Zhang et al. 2023, reference code ``evaluate.py``).

lr 2e-5 and restoration 0.01 are the published values for GTA5 -> Cityscapes.
"""

from ocl_edge.methods.base import Method, ocl

OCL_FULL = Method(
    "ocl-full",
    "OCL on all weights, as published",
    True,
    "all",
    ocl,
    {"lr": 2e-5, "restoration": 0.01},
)
