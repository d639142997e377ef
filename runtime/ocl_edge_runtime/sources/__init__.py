"""Where frames come from."""

from ocl_edge_runtime.sources.images import ImageSource
from ocl_edge_runtime.sources.noise import NoiseSource
from ocl_edge_runtime.sources.paced import PacedSource

__all__ = ["ImageSource", "NoiseSource", "PacedSource"]
