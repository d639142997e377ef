"""What every backend does: run a form of the backbone.

Contract (tests/runtime/backends/contract.py holds every backend to it):

* Inputs are float32 torch tensors on the CPU, contiguous, of the names and shapes that
  `describe` gives (-1: any batch size from 1). Others raise `BackendError` that names
  the tensor, what was expected and what was found.
* Inputs are only read. The caller keeps them alive and unchanged until `infer` returns.
* Outputs belong to the backend: they are valid until the next `infer` of the same form.
  Clone what must live longer.
* A backend is used from one thread at a time.

A `HeadBackend` also runs the head graphs, into tensors of the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, runtime_checkable

from ocl_edge.bundle.manifest_parts import FormSpec, TensorSpec
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError
from ocl_edge.network.form_names import FORMS, HEAD_GRAPHS, FormName, GraphName
from ocl_edge.tensors import Tensor, torch
from ocl_edge_runtime.backends.update_stream import UpdateStream

Sizes = tuple[int, ...]
"""Shape of the input of a graph that has free sizes; an output's free size is that of the same axis."""


@runtime_checkable
class Backend(Protocol):
    name: str

    update_stream: UpdateStream
    """Where a worker's updates run that this backend was opened for."""

    def describe(self) -> Mapping[GraphName, FormSpec]:
        """Inputs and outputs of every form, and of every head graph, that this backend can run."""

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a form; loads it at first use."""

    def close(self) -> None:
        """Free what the backend holds. Calling it twice is fine; the end of a ``with`` does it too."""

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class HeadBackend(Backend, Protocol):
    """A backend that runs the head graphs where `describe` names them."""

    head_device: torch.device | str
    """Where the tensors of a head lie that need no copy."""

    def infer_into(
        self, graph: GraphName, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        """Run a graph and write every output into the caller's tensors.

        Args:
            graph: any of `describe`.
            inputs: as for `infer`; they may also lie on ``head_device``.
            outputs: every output by name: float32, contiguous, of the right shape, on
                ``head_device``. None may share memory with an input. They are complete for
                what the caller enqueues next on its device, on the CPU when this returns.
        """


def check_inputs(form: GraphName, spec: FormSpec, inputs: Mapping[str, Tensor]) -> Sizes:
    """Compare tensors with what a graph declares.

    Returns:
        The free sizes; with `shape_of` they give the shape of every output.

    Raises:
        BackendError: naming the first tensor that is missing, unknown, or of a wrong
            dtype, shape, layout or device.
    """
    expected = {tensor.name: tensor for tensor in spec.inputs}
    if inputs.keys() != expected.keys():
        raise BackendError(f"{form} takes {sorted(expected)}, got {sorted(inputs)}")
    sizes: Sizes = ()
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
        if -1 in want:
            sizes = tuple(tensor.shape)
    return sizes


def shape_of(tensor: TensorSpec, sizes: Sizes) -> tuple[int, ...]:
    """Shape of an input or output under these free sizes."""
    return tuple(sizes[axis] if side == -1 else side for axis, side in enumerate(tensor.shape))


def check_outputs(graph: GraphName, spec: FormSpec, sizes: Sizes, outputs: Mapping[str, Tensor]) -> None:
    """Compare the caller's tensors with what a graph writes.

    Raises:
        BackendError: naming the first that is missing, unknown, or of a wrong dtype, shape or layout.
    """
    expected = {tensor.name: shape_of(tensor, sizes) for tensor in spec.outputs}
    if outputs.keys() != expected.keys():
        raise BackendError(f"{graph} gives {sorted(expected)}, got places for {sorted(outputs)}")
    for name, tensor in outputs.items():
        if tensor.dtype is not torch.float32 or tuple(tensor.shape) != expected[name]:
            raise BackendError(
                f"{graph}: the place for {name} must be float32 {list(expected[name])}, "
                f"got {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            )
        if not tensor.is_contiguous():
            raise BackendError(f"{graph}: the place for {name} must be contiguous")


def graphs_of(bundle: Bundle) -> dict[GraphName, FormSpec]:
    """Every form of a bundle, and its head graphs where it has any."""
    graphs = bundle.manifest.graphs
    return {name: graphs[name] for name in (*FORMS, *HEAD_GRAPHS) if name in graphs}
