"""Where frames come from."""

from ocl_edge_runtime.sources.images import ImageSource
from ocl_edge_runtime.sources.noise import NoiseSource

__all__ = ["ImageSource", "NoiseSource"]
