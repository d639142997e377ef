"""One backend for several sessions."""

from __future__ import annotations

from collections.abc import Mapping

from ocl_edge.bundle.manifest_parts import FormSpec
from ocl_edge.network.form_names import FORMS, HEAD_GRAPHS, FormName, GraphName
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.backends.base import Backend, HeadBackend
from ocl_edge_runtime.lifetime import ClosedAtExit


class SharedBackend(ClosedAtExit):
    """A backend that others use, too, all on one thread.

    Outputs are copies: the backend writes its own anew for each camera, and an update reads those of its
    frame after the masks of all cameras are out.

    Args:
        backend: that runs; whoever opened it closes it.
    """

    def __init__(self, backend: Backend) -> None:
        self.name = backend.name
        self.update_stream = backend.update_stream
        self._backend = backend

    def describe(self) -> Mapping[GraphName, FormSpec]:
        return self._backend.describe()

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: output.clone() for name, output in self._backend.infer(form, inputs).items()}

    def close(self) -> None:
        """Nothing: the others go on."""


class SharedHeadBackend(SharedBackend):
    """See `SharedBackend`; its head graphs write into tensors of the caller's, so nothing is copied there."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.head_device = backend.head_device  # type: ignore[attr-defined]

    def infer_into(
        self, graph: GraphName, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        self._backend.infer_into(graph, inputs, outputs)  # type: ignore[attr-defined]


class WithAnotherHead(SharedBackend):
    """The backbone of one backend, and the head graphs of another: several heads on one backbone.

    Args:
        backbone: runs the forms; whoever opened it closes it.
        head: of another output of the same bundle; likewise. Nothing but its head graphs is ever loaded.
    """

    def __init__(self, backbone: Backend, head: HeadBackend) -> None:
        super().__init__(backbone)
        self.head_device = head.head_device
        self.infer_into = head.infer_into
        self._head = head

    def describe(self) -> Mapping[GraphName, FormSpec]:
        heads = {name: spec for name, spec in self._head.describe().items() if name in HEAD_GRAPHS}
        return {name: spec for name, spec in super().describe().items() if name in FORMS} | heads

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._backend.infer(form, inputs)


class SameInputsOnce(SharedBackend):
    """A backend that runs a form once for inputs that it is given several times: the very same tensors.

    Only for tensors that nobody writes into again. Outputs are the backend's, not copies.
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._given: Mapping[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not (inputs.keys() == self._given.keys() and all(inputs[n] is self._given[n] for n in inputs)):
            self._outputs, self._given = self._backend.infer(form, inputs), dict(inputs)
        return self._outputs
