"""Entropy minimisation on the head, over modulated norms. lr: docs/ablation.md."""

from ocl_edge.methods.base import Method, entropy

TENT_HEAD = Method(
    "tent-head",
    "entropy on the head, norms modulated",
    True,
    "head",
    entropy,
    {"lr": 0.005, "restoration": 0.01},
)
