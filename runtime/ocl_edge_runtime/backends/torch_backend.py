"""The reference backend: the captured backbone in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ocl_edge.bundle.manifest_parts import FormSpec
from ocl_edge.bundle.reading import Bundle, load_backbone
from ocl_edge.errors import BackendError
from ocl_edge.network.form_names import FORMS, FormName, GraphName
from ocl_edge.tensors import Tensor, require_torch, without_gradients
from ocl_edge_runtime.backends.base import check_inputs
from ocl_edge_runtime.backends.row import BackendRow
from ocl_edge_runtime.backends.update_stream import UpdateStream
from ocl_edge_runtime.lifetime import ClosedAtExit

if TYPE_CHECKING:
    from torch import fx


class TorchBackend(ClosedAtExit):
    """Runs ``backbone.json`` eagerly on the CPU; the norm forms are rewritten from it at first use."""

    name = "torch"
    update_stream = UpdateStream()

    def __init__(self, bundle: Bundle) -> None:
        self._forms: dict[GraphName, FormSpec] = {form: bundle.manifest.forms[form] for form in FORMS}
        self._stat_rows = bundle.manifest.stat_rows
        self._backbone = load_backbone(bundle)
        self._modules: dict[FormName, fx.GraphModule] = {}

    def describe(self) -> Mapping[GraphName, FormSpec]:
        return self._forms

    @without_gradients
    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from ocl_edge.network.forms import build_form

        spec = self._forms[form]
        check_inputs(form, spec, inputs)
        try:
            if form not in self._modules:
                self._modules[form] = build_form(self._backbone, form, self._stat_rows)
            outputs = self._modules[form](*(inputs[tensor.name] for tensor in spec.inputs))
            return {tensor.name: value for tensor, value in zip(spec.outputs, outputs, strict=True)}
        except Exception as error:  # operators raise whatever arguments that make no sense make them
            raise BackendError(f"PyTorch cannot run the {form} form of this bundle: {error}") from error

    def close(self) -> None:
        self._modules.clear()


ROWS = (
    BackendRow(
        name="torch",
        open=lambda bundle, _: TorchBackend(bundle),
        require=lambda: require_torch("the torch backend"),
        because="it needs nothing but PyTorch",
        library="torch",
    ),
)
