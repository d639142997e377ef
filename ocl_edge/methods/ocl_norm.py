"""OCL on weight and bias of the norms, over modulated statistics. lr: docs/ablation.md."""

from ocl_edge.methods.base import Method, ocl

OCL_NORM = Method(
    "ocl-norm",
    "OCL on the norms' weight and bias",
    True,
    "norm affine",
    ocl,
    {"lr": 2e-4, "restoration": 0.01},
)
