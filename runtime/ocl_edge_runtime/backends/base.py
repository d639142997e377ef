"""What every backend does: run a form of the backbone.

Contract (tests/runtime/backend_contract.py holds every backend to it):

* Inputs are float32 torch tensors on the CPU, contiguous, of the names and shapes that
  `describe` gives (-1: any batch size from 1). Others raise `BackendError` that names
  the tensor, what was expected and what was found.
* Inputs are only read. The caller keeps them alive and unchanged until `infer` returns.
* Outputs belong to the backend: they are valid until the next `infer` of the same form.
  Clone what must live longer.
* A backend is used from one thread at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ocl_edge.bundle import FormSpec
from ocl_edge.errors import BackendError
from ocl_edge.forms import FormName


@runtime_checkable
class Backend(Protocol):
    name: str

    def describe(self) -> Mapping[FormName, FormSpec]:
        """Inputs and outputs of every form that this backend can run."""

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a form; loads it at first use."""

    def close(self) -> None:
        """Free what the backend holds. Calling it twice is fine."""


def check_inputs(form: FormName, spec: FormSpec, inputs: Mapping[str, Tensor]) -> int:
    """Compare tensors with what a form declares.

    Returns:
        The batch size.

    Raises:
        BackendError: naming the first tensor that is missing, unknown, or of a wrong
            dtype, shape, layout or device.
    """
    expected = {tensor.name: tensor for tensor in spec.inputs}
    if inputs.keys() != expected.keys():
        raise BackendError(f"{form} takes {sorted(expected)}, got {sorted(inputs)}")
    batch = -1
    for name, tensor in inputs.items():
        want = expected[name].shape
        fits = tensor.dim() == len(want) and all(
            w in (-1, s) for w, s in zip(want, tensor.shape, strict=True)
        )
        if tensor.dtype is not torch.float32 or not fits:
            raise BackendError(
                f"{form}: {name} must be float32 {list(want)} (-1: any), "
                f"got {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            )
        if not tensor.is_contiguous():
            raise BackendError(f"{form}: {name} must be contiguous; call .contiguous() on it")
        if want and want[0] == -1:
            batch = int(tensor.shape[0])
    return batch
