"""Tent: entropy minimisation on weight and bias of the norms (Wang et al. 2021, ICLR).

The original takes the statistics of the current batch alone, which for one image is
prior 0; here the statistics are mixed with the same prior as in the other methods. The
lr is the better of 2e-5 and 2e-4 on streams that are not reported on (docs/ablation.md).
"""

from ocl_edge.methods.base import Method, entropy

TENT = Method(
    "tent",
    "entropy on the norms' weight and bias",
    True,
    "norm affine",
    entropy,
    {"lr": 2e-5, "restoration": 0.0, "weight_decay": 0.0},
)
