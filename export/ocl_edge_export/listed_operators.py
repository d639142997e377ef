"""Operators that no bundle may call, written with those that it may.

PyTorch keeps a definition of most operators in terms of simpler ones: the variance and mean
of a weight that is standardised, an embedding, a plain recurrent layer step by step. Only
those that need it are replaced: an operator that engines know whole stays whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.export import ExportedProgram, default_decompositions

from ocl_edge.errors import CaptureError
from ocl_edge.network.programs.operators import OPERATORS, name_of

MOST_ROUNDS = 6
"""One definition may stand on another; none known stands on more than three."""


def in_listed_operators(program: ExportedProgram, left_alone: Collection[Any] = ()) -> ExportedProgram:
    """The same program with as few unlisted operators as PyTorch's definitions allow.

    Args:
        program: functional.
        left_alone: operators that whoever calls replaces.

    Raises:
        CaptureError: it computes with complex numbers somewhere.
    """
    for _ in range(MOST_ROUNDS):
        unlisted = _unlisted(program, left_alone)
        if not unlisted:
            break
        _refuse_complex_numbers(program)
        definitions = _definitions(unlisted)
        if not definitions:
            break
        try:
            program = program.run_decompositions(definitions)
        except Exception:  # a definition that fails on these arguments: the operator is refused by its name
            break
    return program


def _unlisted(program: ExportedProgram, left_alone: Collection[Any]) -> set[Any]:
    return {
        node.target
        for node in program.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
        and node.target not in left_alone
        and name_of(node.target) not in OPERATORS
    }


def _definitions(operators: Iterable[Any]) -> dict[Any, Callable[..., Any]]:
    usual = default_decompositions()
    known: dict[Any, Callable[..., Any]] = {}
    for each in operators:
        if each in usual:
            known[each] = usual[each]
        elif each in decomposition_table:
            known[each] = decomposition_table[each]
    return known


def _refuse_complex_numbers(program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.is_complex():
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            where = str(stack[-1][0]).removeprefix("network.") if stack else ""
            raise CaptureError(
                f"{where or 'forward()'} computes with complex numbers ({node.name}), and a bundle holds "
                "real ones only: write that layer with pairs of real numbers; a Fourier transform of a "
                "fixed size is a product with matrices of cosines and sines"
            )
