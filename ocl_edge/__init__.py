"""ocl-edge: test-time adaptation of segmentation networks at the edge."""

from ocl_edge._version import __version__
from ocl_edge.errors import OclEdgeError

__all__ = ["OclEdgeError", "__version__"]
