"""The network as it was trained: the baseline of every comparison."""

from ocl_edge.methods.base import Method

FROZEN = Method("frozen", "the network as trained, nothing adapts", modulates_norms=False)
