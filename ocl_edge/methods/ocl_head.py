"""OCL on the head over modulated norms: what ocl-edge does by default.

lr and restoration are the bundle's defaults.
"""

from ocl_edge.methods.base import Method, ocl

OCL_HEAD = Method("ocl-head", "OCL on the head, norms modulated", True, "head", ocl)
