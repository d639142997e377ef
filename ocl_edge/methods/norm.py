"""Norm modulation alone: source statistics mixed with the current image's, no gradient.

Schneider et al. 2020 (NeurIPS); in the OCL paper, section 3.3.
"""

from ocl_edge.methods.base import Method

NORM = Method("norm", "norm statistics follow the image, no gradient", modulates_norms=True)
