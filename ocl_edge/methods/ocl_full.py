"""The published method: OCL on all weights (Zhang et al. 2023, reference code ``evaluate.py``).

Published for GTA5 -> Cityscapes: lr 2e-5, restoration 0.01. The lr here is the best of 2e-5, 5e-5 and 1e-4 on
streams that are not reported on (docs/ablation.md). Prior and rows of the statistics are the bundle's:
it equals the published method with ``--prior 0.85 --lr 2e-5`` and a bundle exported with ``--stat-rows all``.
"""

from ocl_edge.methods.base import Method, ocl

OCL_FULL = Method(
    "ocl-full",
    "OCL on all weights, as published",
    True,
    "all",
    ocl,
    {"lr": 5e-5, "restoration": 0.01},
)
