"""Adaptation methods by name, one file each."""

from __future__ import annotations

from ocl_edge.errors import UsageError
from ocl_edge.methods.base import Method
from ocl_edge.methods.frozen import FROZEN
from ocl_edge.methods.norm import NORM
from ocl_edge.methods.ocl_full import OCL_FULL
from ocl_edge.methods.ocl_head import OCL_HEAD
from ocl_edge.methods.ocl_norm import OCL_NORM
from ocl_edge.methods.tent import TENT
from ocl_edge.methods.tent_head import TENT_HEAD

METHODS: dict[str, Method] = {
    method.name: method for method in (FROZEN, NORM, OCL_HEAD, OCL_NORM, OCL_FULL, TENT, TENT_HEAD)
}

__all__ = ["METHODS", "Method", "find_method"]


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        UsageError: there is none; the message lists them.
    """
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
